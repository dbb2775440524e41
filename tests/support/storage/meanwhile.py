"""Somebody else acts in the middle of a call: just before the n-th thing it asks the database."""

from __future__ import annotations

import itertools
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from dee_es import Engine
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.errors import DeeError
from dee_es.ports import Anchor, EventStore, Unit, Views
from tests.support.engines import open_engine, publish_basics


class Moment:
    """When the other one acted: `before` what look-up, up to which `position` the log reached
    then, and by what it was `refused`, if it was."""

    def __init__(self, act: Callable[[], object], other: Engine) -> None:
        self.before: str | None = None
        self.position = 0
        self.refused: DeeError | None = None
        self._act, self._other = act, other

    def come(self, before: str) -> None:
        """Have the other one act now."""
        self.before = before
        try:
            self._act()
        except DeeError as error:
            self.refused = error
        self.position = self._other._parts.store.log_head().position


class Two:
    """As good as two processes: engines that share a database, a key store and nothing else."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.channel = MemoryChannel()
        self._path = folder / "dee.db"

        def opened() -> Engine:
            url, keys = f"sqlite:///{self._path}", folder / "keys.db"
            return stack.enter_context(open_engine(url, keys=keys, channel=self.channel))

        self.mine = opened()
        publish_basics(self.mine)
        self.other = opened()

    def take_over(self) -> None:
        """Have the other one do what is due, as if mine had not been heard of for long."""
        with closing(sqlite3.connect(self._path)) as connection, connection:
            connection.execute("UPDATE partition_leases SET expires_at = 0")
        with ThreadPoolExecutor(1) as apart:
            apart.submit(self.other.tick).result()

    def sent(self, run_id: str) -> int:
        """How many messages of a run have left."""
        return [action.run_id for action, _ in self.channel.sent].count(run_id)

    def names(self, stream_id: str) -> list[str]:
        """The events of a stream."""
        return [row.name for row in self.mine._parts.store.read_stream(stream_id)]

    def names_since(self, moment: Moment, stream_id: str) -> set[str]:
        """The events that a stream got after the other one had acted."""
        rows = self.mine._parts.store.read_stream(stream_id)
        return {row.name for row in rows if row.position > moment.position}

    def change_before_each(self, run_id: str, times: int) -> None:
        """Have the other one pause the run, and resume it again, just before each of the first
        commits of `mine` but those of a tick's own decisions."""
        store: Any = self.mine._parts.store
        left = [times]

        def behind_a_change(real: Callable[..., Any]) -> Callable[..., Any]:
            def asked(*given: Any, **more: Any) -> Any:
                if more.get("lease") is None and left[0] > 0:
                    left[0] -= 1
                    if self.other.get_run(run_id).status == "paused":
                        self.other.resume_run(run_id)
                    else:
                        self.other.pause_run(run_id)
                return real(*given, **more)

            return asked

        store.commit, store.decide = behind_a_change(store.commit), behind_a_change(store.decide)

    def move_the_clock_before_each(self, more_than: int) -> None:
        """Have the other one's clock go on by a tick just before each commit of `mine` of more
        than so many units: deciding them has taken long."""
        store: Any = self.mine._parts.store
        commit = store.commit

        def behind_a_tick(units: Sequence[Unit], **more: Any) -> Any:
            if len(units) > more_than:
                self.other.clock.move_to(self.other.clock.refresh() + 1)
            return commit(units, **more)

        store.commit = behind_a_tick

    @contextmanager
    def meanwhile(self, number: int, act: Callable[[], object]) -> Iterator[Moment]:
        """See `meanwhile`."""
        with meanwhile(self.mine, self.other, number, act) as moment:
            yield moment

    def every_moment(
        self,
        before: Callable[[str], object],
        act: Callable[[str], object],
        happens: Callable[[str], object],
    ) -> Iterator[tuple[str, Moment]]:
        """Do the same for one contact after another, and have something happen a look-up later
        each time, until there is none left; gives each contact, and when it happened."""
        for number in itertools.count():
            who = f"c{number:03}"
            before(who)
            with self.meanwhile(number, lambda who=who: happens(who)) as moment:  # type: ignore[misc]
                act(who)
            if moment.before is None:
                return
            yield who, moment


@contextmanager
def meanwhile(
    mine: Engine, other: Engine, number: int, act: Callable[[], object]
) -> Iterator[Moment]:
    """Have `other` act before that look-up of `mine`, in order, inside the block: one of the
    database, or of a place of checkpoints."""
    moment, own, places = Moment(act, other), threading.current_thread(), itertools.count()
    inside = False

    def watched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*given: Any, **more: Any) -> Any:
            nonlocal inside
            # What is asked inside of a transaction is out of the reach of others.
            if inside or threading.current_thread() is not own:
                return real(*given, **more)
            if next(places) == number:
                moment.come(name)
            inside = True
            try:
                return real(*given, **more)
            finally:
                inside = False

        return asked

    parts = mine._parts
    watching: list[tuple[type, object]] = [(EventStore, parts.store), (Views, parts.views)]
    watching += [(Anchor, anchor) for anchor in parts.anchors]
    with ExitStack() as patched:
        for kind, part in watching:
            for name in dir(kind):
                real = getattr(part, name, None)
                if not name.startswith("_") and callable(real):
                    patched.enter_context(mock.patch.object(part, name, watched(name, real)))
        yield moment
