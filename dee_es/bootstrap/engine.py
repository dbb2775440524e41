"""`Engine`: a database URL goes in, an engine comes out."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from dee_es.adapters.channels.lazy import LazyChannel
from dee_es.adapters.documents import Documents
from dee_es.adapters.keys import PlainKeys
from dee_es.adapters.system import RandomIds, SystemWallClock
from dee_es.adapters.zones import load_zone
from dee_es.bootstrap.channels import channels_of, forget_calls, links_of
from dee_es.bootstrap.checking import share_checks
from dee_es.bootstrap.databases import MEMORY, first_entry, open_store
from dee_es.bootstrap.evidence import anchors_of, signers_of
from dee_es.bootstrap.keys import open_keys
from dee_es.bootstrap.people import actor_of
from dee_es.bootstrap.places import places_of
from dee_es.config import EngineConfig, load_config
from dee_es.core.clock import TimeScale
from dee_es.core.events import ClockStarted, Meta
from dee_es.core.evidence.chain import GENESIS
from dee_es.core.ids import SYSTEM_STREAM
from dee_es.engine.api.clock import OnCheckpoint
from dee_es.engine.api.definitions import checked_policy
from dee_es.engine.auditing.periodic import Every
from dee_es.engine.facade import EngineApi, Parts
from dee_es.engine.log.journal import Journal
from dee_es.engine.models import TickReport
from dee_es.engine.scheduling.scheduler import OnTick
from dee_es.errors import InvalidInput, StoreUnavailable
from dee_es.ports import (
    Channel,
    EventStore,
    IdSource,
    ManagedKeyStore,
    ServerClock,
    SignerSource,
    StreamAppend,
    Unit,
    Views,
    WallClock,
)
from projections import AUDIT_TRAIL, CONTACT_HISTORY, INLINE, LAZY, RUN_LIST, STEP_FUNNEL

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from dee_es.adapters.processes import Work
    from dee_es.engine.enrolling.parts import BulkOrder, Part, PartDone
    from dee_es.engine.past.replay_results import ReplayedPage


class Engine(EngineApi):
    """The engine on a database: `sqlite:///file`, `postgresql://...`, `:memory:`, or a config.

    Without an argument the settings come from `DEE_*` variables and `dee.toml`, by default
    `sqlite:///dee.db`. A database that does not exist is made, unless the config says otherwise.

    The keyword arguments replace what the engine takes from its surroundings: wall time, command
    ids, channels, the contacts' keys and the key that signs.
    """

    def __init__(
        self,
        database: str | EngineConfig | None = None,
        *,
        channels: Mapping[str, Channel] | None = None,
        wall: WallClock | None = None,
        ids: IdSource | None = None,
        keys: ManagedKeyStore | None = None,
        signers: SignerSource | None = None,
    ) -> None:
        config = _config(database)
        ids = ids or RandomIds()
        with ExitStack() as undo:
            opened = _open(config, keys, wall, ids, undo)
            chosen = channels_of(config) if channels is None else channels
            parts = _parts(config, opened, chosen, ids, signers or signers_of(config))
            super().__init__(parts)
            # Others can open the same database only if all of it comes from the settings.
            self._shareable = config if keys is None and config.database != MEMORY else None
            undo.pop_all()

    def _replayed_pages(self, pages: Iterable[list[str]], workers: int) -> Iterator[ReplayedPage]:
        """Share the pages among processes, each with an engine of its own on the same database."""
        if workers == 1 or self._shareable is None:
            yield from super()._replayed_pages(pages, workers)
            return
        from dee_es.adapters.processes import shared

        config = replace(self._shareable, create=False)
        yield from shared(partial(_replayer, config), pages, workers)

    def _enrolled_parts(
        self, parts: Iterable[Part | None], order: BulkOrder, workers: int
    ) -> Generator[PartDone, None, None]:
        """Share the parts among processes, likewise; this one takes part."""
        if workers == 1 or self._shareable is None:
            yield from super()._enrolled_parts(parts, order, workers)
            return
        from dee_es.adapters.processes import shared

        config = replace(self._shareable, create=False)
        # What another left may have been committed already.
        again = replace(order, take_over=True)
        here, instead = self.enrolling(order).enroll, self.enrolling(again).enroll
        yield from shared(partial(_enroller, config, order), parts, workers, here, instead)

    def worker(
        self,
        stop: threading.Event | None = None,
        on_tick: OnTick | None = None,
        on_begin: Callable[[], object] | None = None,
        on_checkpoint: OnCheckpoint | None = None,
    ) -> TickReport:
        """See `ClockApi.worker`; before anything is due the channels are made ready.

        Raises `InvalidInput` naming the settings that a channel lacks.
        """
        for channel in self._parts.channels.values():
            if isinstance(channel, LazyChannel):
                channel.prepare()
        return super().worker(stop, on_tick, on_begin, on_checkpoint)


def _replayer(config: EngineConfig) -> Work[list[str], ReplayedPage]:
    """What a process that replays for another one does with a page."""
    engine = Engine(config)
    atexit.register(engine.close)
    return engine.replay_page


def _enroller(config: EngineConfig, order: BulkOrder) -> Work[Part, PartDone]:
    """What a process that enrolls for another one does with a part."""
    engine = Engine(config)
    atexit.register(engine.close)
    return engine.enrolling(order).enroll


def _config(database: str | EngineConfig | None) -> EngineConfig:
    if isinstance(database, EngineConfig):
        return database
    if database is not None and not isinstance(database, str):
        raise InvalidInput("database", "must be a URL or an EngineConfig")
    return load_config({"database": database})


def check_policy_here(definition: object) -> dict[str, Any]:
    """A policy in its stored form, checked with this machine's zones; raises `InvalidInput`."""
    return checked_policy(definition, load_zone)


class _Opened(NamedTuple):
    """A database that is open, with its contacts' keys, the clock that it was made with and where
    that gets its time from: `server`, unless that is None."""

    backend: str
    store: EventStore
    views: Views
    keys: ManagedKeyStore
    clock: ClockStarted
    wall: WallClock
    server: ServerClock | None


def _open(
    config: EngineConfig,
    keys: ManagedKeyStore | None,
    wall: WallClock | None,
    ids: IdSource,
    undo: ExitStack,
) -> _Opened:
    """Open the database of the settings, made now if it is empty; `undo` closes it again."""
    database = open_store(config)
    store, server = database.store, database.clock if wall is None else None
    wall = wall or server or SystemWallClock()
    undo.callback(store.close)
    # Before the keys, which an empty database does not have either.
    new = not first_entry(store)
    if new and not config.create:
        raise StoreUnavailable("this database is empty; make it ready with `dee init`")
    # A database that was used before is never opened with an empty key store by mistake.
    opened_keys = keys or open_keys(config, create=new)
    undo.callback(opened_keys.close)
    if new:
        opened_keys.bind(config.personal_data)
    started = _clock_of(store, Journal(opened_keys), config, wall, ids, actor_of(config))
    opened_keys.bind(started.personal_data)
    return _Opened(database.kind, store, database.views, opened_keys, started, wall, server)


def _parts(
    config: EngineConfig,
    opened: _Opened,
    channels: Mapping[str, Channel],
    ids: IdSource,
    signers: SignerSource,
) -> Parts:
    """What the engine on an open database is made of."""
    backend, store, views, keys, clock, wall, server = opened
    epoch = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=clock.epoch_ms)
    return Parts(
        backend=backend,
        store=store,
        views=views,
        keys=PlainKeys(keys) if clock.personal_data == "off" else keys,
        key_care=keys,
        channels=channels,
        wall=wall,
        server_clock=server,
        ids=ids,
        scale=TimeScale(epoch, clock.resolution_ms),
        clock=clock.kind,
        inline=INLINE,
        lazy=LAZY,
        run_list=RUN_LIST,
        audit_trail=AUDIT_TRAIL,
        contact_history=CONTACT_HISTORY,
        step_funnel=STEP_FUNNEL,
        zones=load_zone,
        anchors=anchors_of(config),
        signers=signers,
        places=places_of(config),
        archives=config.archives,
        certificates=config.certificates,
        actor=actor_of(config),
        documents=Documents(),
        partition=config.partition,
        checkpoint_every=Every(config.checkpoint_every_events, config.checkpoint_every_s),
        max_runs_per_tick=config.max_runs_per_tick,
        max_concurrent_sends=config.max_concurrent_sends,
        links=links_of(config),
        forget_runs=partial(forget_calls, config),
        share_checks=None if backend == "memory" else partial(share_checks, config, store),
    )


def _clock_of(
    store: EventStore,
    journal: Journal,
    config: EngineConfig,
    wall: WallClock,
    ids: IdSource,
    actor: str,
) -> ClockStarted:
    """The clock the database was made with; made now if this is its first opening."""
    first = first_entry(store)
    if not first:
        now = wall.now_ms()
        epoch_ms = now - now % 1000
        if config.epoch is not None:
            epoch_ms = int(config.epoch.timestamp() * 1000)
        event = ClockStarted(epoch_ms, config.resolution_ms, config.clock, config.personal_data)
        meta = Meta(0, ids.command_id(), "init", now, actor)
        sealed = journal.seal(SYSTEM_STREAM, 0, GENESIS, [event], meta, None)
        # Another process may be making it as well; whoever is first has decided.
        store.commit([Unit((StreamAppend(SYSTEM_STREAM, 0, sealed),))])
        first = first_entry(store)
    started = journal.open(first)[0].event
    assert isinstance(started, ClockStarted), "the system's stream begins with its clock"
    return started
