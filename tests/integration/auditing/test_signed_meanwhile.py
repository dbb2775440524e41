"""The log grows, and is signed, between any two looks of whoever verifies it: that is no fault."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from dee_es import Engine, EngineConfig
from dee_es.adapters.keys import open_sqlite_keys
from dee_es.core.evidence import chain
from dee_es.core.ids import SYSTEM_STREAM
from dee_es.errors import RunArchived
from tests.support.engines import EPOCH, database_url, master_of, outreach, publish_basics
from tests.support.storage.meanwhile import meanwhile


class Signed:
    """Two engines, as good as two processes, on a log that was signed; `other` adds to it."""

    def __init__(self, url: str, folder: Path, stack: ExitStack) -> None:
        self._url, self.folder = url, folder
        self._numbers = itertools.count()
        self.mine = stack.enter_context(self._opened())
        publish_basics(self.mine)
        self.grow()
        self.other = stack.enter_context(self._opened())

    def _opened(self) -> Engine:
        keys = self.folder / "keys.db"
        config = EngineConfig(
            self._url,
            clock="manual",
            epoch=EPOCH,
            checkpoints=str(self.folder / "places"),
            audit_key_file=str(self.folder / "audit.key"),
            outbox=str(self.folder / "outbox"),
        )
        return Engine(config, keys=open_sqlite_keys(str(keys), master_of(keys)))

    def enroll(self, engine: Engine) -> str:
        """One contact more; returns its run."""
        who = f"c{next(self._numbers)}"
        given = {"id": who, "email": f"{who}@example.com", "firstName": "N"}
        return engine.execute(outreach(), given).id

    def grow(self, engine: Engine | None = None) -> None:
        """Add to the log, and sign it."""
        self.enroll(engine or self.mine)
        (engine or self.mine).audit.checkpoint()

    def at_every_moment(
        self, look: Callable[[], object], act: Callable[[], object]
    ) -> Iterator[tuple[str, object]]:
        """What the look saw, for each moment at which the other one acted, and what came next."""
        for number in itertools.count():
            with meanwhile(self.mine, self.other, number, act) as moment:
                seen = look()
            if moment.before is None:
                assert number > 2
                return
            assert moment.refused is None
            yield moment.before, seen


@pytest.fixture(params=["sqlite", "postgres"])
def signed(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> Iterator[Signed]:
    with ExitStack() as stack:
        yield Signed(database_url(request.param, tmp_path, fresh_postgres), tmp_path, stack)


def test_what_is_signed_while_the_log_is_verified_is_not_missing(signed: Signed) -> None:
    def look() -> tuple[str, ...]:
        return signed.mine.verify_log().problems

    for before, problems in signed.at_every_moment(look, lambda: signed.grow(signed.other)):
        assert problems == (), before
    verdict = signed.mine.verify_log()
    assert verdict.unanchored_events == 1, "the record of the last checkpoint"


def test_what_another_thread_signs_while_the_end_is_looked_at_is_not_lost(signed: Signed) -> None:
    """Threads that share an engine share what it knows of checkpoints."""

    def sign() -> None:
        with ThreadPoolExecutor(1) as apart:
            apart.submit(signed.grow).result()

    def look() -> list[str]:
        return [each for each in signed.mine.health().problems if "checkpoint" in each]

    for before, problems in signed.at_every_moment(look, sign):
        assert problems == [], before


def test_a_run_that_goes_on_while_it_is_verified_is_whole(signed: Signed) -> None:
    run = signed.enroll(signed.mine)
    changes = itertools.cycle([signed.other.pause_run, signed.other.resume_run])
    store = signed.mine._parts.store
    looks = signed.at_every_moment(
        lambda: signed.mine.verify_audit_chain(run), lambda: next(changes)(run)
    )
    for before, verdict in looks:
        assert verdict.problem is None, before
        # As far as it was read: the chain up to its last entry, whatever came after.
        rows = store.read_stream(run, 0, verdict.entries)
        assert len(rows) == verdict.entries
        assert verdict.head == chain.unseal(rows[-1].state, "").checksum.hex()


@pytest.mark.parametrize("whole", [False, True])
def test_a_run_that_is_archived_while_it_is_verified_has_left(signed: Signed, whole: bool) -> None:
    run = ""

    def archive() -> None:
        signed.other.cancel_run(run, "enough")
        signed.other.run_until(signed.other.clock.refresh() + 1)
        signed.other.audit.archive(signed.other.now().now, place=str(signed.folder / "archives"))

    def look() -> tuple[str | None, ...]:
        if whole:
            return signed.mine.verify_log().problems
        with suppress(RunArchived):
            return (signed.mine.verify_audit_chain(run).problem,)
        return ()

    for number in itertools.count():
        run = signed.enroll(signed.mine)
        with meanwhile(signed.mine, signed.other, number, archive) as moment:
            problems = look()
        if moment.before is None:
            break
        assert moment.refused is None
        assert not any(problems), moment.before


def test_no_checkpoint_is_older_than_what_it_follows(signed: Signed) -> None:
    """The one who signs may have a clock that is behind that of the others."""

    def move_on() -> None:
        signed.other.run_until(signed.other.clock.refresh() + 10)
        signed.other.place_hold(run_id=signed.enroll(signed.other), reason="asked")

    def look() -> int:
        return signed.mine.audit.checkpoint().size

    for before, _ in signed.at_every_moment(look, move_on):
        rows = signed.mine._parts.store.read_stream(SYSTEM_STREAM)
        ticks = [each.meta.tick for each in signed.mine._journal.open_public(rows)]
        assert ticks == sorted(ticks), before
    assert signed.mine.verify_log().valid
