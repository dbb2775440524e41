"""Load, fold, decide, append, and again if somebody else was faster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from dee_es.core.commands import RunCommand
from dee_es.core.events import Event, Meta
from dee_es.core.ids import slice_of
from dee_es.core.past.recorded_commands import begins
from dee_es.core.runs.advance import Steps
from dee_es.core.runs.fold import NOT_REMEMBERED
from dee_es.core.runs.run import decision, evolve, fold
from dee_es.core.runs.state import RunState
from dee_es.engine.bisecting import bisected
from dee_es.engine.definitions import Definitions
from dee_es.engine.log.committing import Committer
from dee_es.engine.log.journal import Journal, checksum_of, key_id_of
from dee_es.engine.log.missing import missing_run
from dee_es.engine.log.settling import Standing, Wanted, first_by, reused, settle
from dee_es.engine.run_cache import LoadedRun, RunCache
from dee_es.engine.timekeeping import EngineClock
from dee_es.errors import DeeError
from dee_es.ports import Committed, EventStore, Head, StoredRow, StreamAppend, Unit, beside


class Decided(Struct, frozen=True, gc=False):
    """What a command leads to: what to commit, the run after it, and its events."""

    unit: Unit
    after: LoadedRun
    events: list[Event]


class Runs:
    """Loads runs and applies commands to them.

    Folded states are kept, and used again only while the stream's head still has their version.
    """

    def __init__(
        self,
        store: EventStore,
        journal: Journal,
        definitions: Definitions,
        clock: EngineClock,
        committer: Committer,
    ) -> None:
        self.store = store
        self.journal = journal
        self.definitions = definitions
        self.clock = clock
        self.committer = committer
        self._cache = RunCache()

    def meta(
        self,
        command: str,
        command_id: str,
        *,
        tick: int | None = None,
        actor: str | None = None,
        reason: str | None = None,
    ) -> Meta:
        """Meta data of a command that is decided now, or at `tick`."""
        now = self.clock.now() if tick is None else tick
        return Meta(now, command_id, command, self.clock.recorded_at(), actor, reason)

    def load(self, run_id: str) -> LoadedRun:
        """A run from its events; raises `RunNotFound`."""
        rows = self.store.read_stream(run_id)
        if not rows:
            raise missing_run(self.store, run_id)
        return self._open(rows)

    def load_many(self, run_ids: Sequence[str]) -> dict[str, LoadedRun]:
        """The runs that exist, as of now; folded states that are still current are reused."""
        return self.load_at(self.store.heads(run_ids).values())

    def load_at(self, heads: Iterable[Head]) -> dict[str, LoadedRun]:
        """Runs whose streams had these heads a moment ago, at those or later ones."""
        known = self._cache.look_up(heads)
        found = {**known.latest, **known.unpacked}
        if known.unpacked:
            # Their keys may have been forgotten by now.
            self.journal.preload_keys(run.key_id for run in known.unpacked.values())
        if known.unknown:
            streams = self.store.read_streams(known.unknown)
            self.journal.preload(rows[0] for rows in streams.values())
            found.update((run_id, self._open(rows)) for run_id, rows in streams.items())
        return found

    def load_readable(
        self, run_ids: Sequence[str], on_error: Callable[[str, DeeError], object]
    ) -> dict[str, LoadedRun]:
        """`load_many` of those that can be read; of each of the others `on_error` is told why."""
        parts = bisected(run_ids, self.load_many, on_error, DeeError)
        return {run_id: run for part in parts for run_id, run in part.items()}

    def _open(self, rows: Sequence[StoredRow]) -> LoadedRun:
        state = fold(self.journal.open(rows))
        assert state is not None
        own = slice_of(state.contact_id)
        return LoadedRun(state, checksum_of(rows[-1]), key_id_of(rows[0]), own)

    def remember(self, loaded: Iterable[LoadedRun]) -> None:
        """Keep states that were just committed, as far as anything is left to do for them."""
        self._cache.keep(loaded)

    def forget(self) -> None:
        """Keep no state any more: what it holds of an erased contact must not be used."""
        self._cache.clear()

    def decide(self, loaded: LoadedRun, command: RunCommand) -> Decided | None:
        """What a command leads to, ready to commit; None if it leads to nothing."""
        (decided,) = self.decide_each([(loaded, command)])
        return decided

    def decide_each(self, given: Sequence[tuple[LoadedRun, RunCommand]]) -> list[Decided | None]:
        """What commands to different runs lead to, as `decide` says it.

        First all are decided, then all is sealed: a processor that does the same over and over
        does it faster than one that goes from one thing to the other and back.
        """
        steps = [self._steps(loaded.state, command) for loaded, command in beside.each(given, 1)]
        return [
            self._decided(loaded, command.meta, each) if each.events else None
            for (loaded, command), each in beside.each(list(zip(given, steps, strict=True)), 2)
        ]

    def _steps(self, state: RunState, command: RunCommand) -> Steps:
        materials = self.definitions.materials(state.plan_id, state.plan_version, state.pins)
        return decision(materials, state, command)

    def _decided(self, loaded: LoadedRun, meta: Meta, steps: Steps) -> Decided:
        state, after, events = loaded.state, steps.state, steps.events
        sealed = self.journal.seal(
            state.run_id, state.version, loaded.checksum, events, meta, loaded.key_id
        )
        if [each.event for each in sealed] != events:
            # The contact was erased meanwhile: what is recorded has nothing personal any more.
            after = state
            for each in sealed:
                after = evolve(after, each.recorded())
        append = StreamAppend(
            state.run_id, state.version, sealed, after.due_tick, after.status.ended, loaded.slice
        )
        then = LoadedRun(after, sealed[-1].checksum, loaded.key_id, loaded.slice)
        return Decided(Unit((append,)), then, events)

    def has_done(self, loaded: LoadedRun, command: RunCommand) -> bool:
        """Whether the run has seen this very command, whatever has become of it since; raises
        `InvalidInput` if another one was recorded under its id."""
        command_id = command.meta.command_id
        if command_id not in loaded.state.command_ids:
            return False
        history = self.journal.open_public(self.store.read_stream(loaded.state.run_id))
        # A tick may have an id that looks the same, and is remembered by none.
        callers = [each for each in history if each.meta.command not in NOT_REMEMBERED]
        first = first_by(command_id, callers)
        if first is not None and not begins(first, command):
            raise reused(first.meta)
        return True

    def change(
        self,
        run_id: str,
        make: Callable[[Meta], RunCommand],
        meta: Callable[[], Meta],
    ) -> LoadedRun:
        """Apply a caller's command to a run, deciding again on every conflict.

        A command that the run has already seen is not applied twice: its first effect stands.
        Raises `RunNotFound`, `InvalidTransition`, and what `has_done` and `settle` raise.
        """

        def look() -> Standing[LoadedRun] | Wanted[LoadedRun]:
            loaded, given = self.load(run_id), meta()
            command = make(given)
            if self.has_done(loaded, command):
                return Standing(loaded)
            decided = self.decide(loaded, command)
            if decided is None:
                return Standing(loaded)
            after = decided.after

            def changed(_: Committed) -> LoadedRun:
                self.remember([after])
                return after

            return Wanted(Unit(decided.unit.appends, min_tick=given.tick), changed)

        return settle(self.committer, self.clock, look, f"run {run_id}")
