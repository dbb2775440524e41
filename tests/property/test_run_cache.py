"""Runs that are kept folded: what is known again is what was kept last, and room is bounded."""

from __future__ import annotations

from typing import Any

from hypothesis import given as over
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from dee_es.core import events as e
from dee_es.core.plans.plan import ExecutionPlan
from dee_es.core.runs.state import RunState
from dee_es.core.views import RunStatus
from dee_es.engine.run_cache import _ENTRY_BYTES, LoadedRun, RunCache
from dee_es.ports import Head
from tests.support.runs.lives import live_on, plans, run_of

LATEST, PACKED_BYTES = 3, 2_000


def head(run_id: str, checksum: bytes) -> Head:
    return Head(run_id, 1, checksum, None, False, 0, 1)


def loaded(state: RunState, checksum: bytes = b"c" * 32) -> LoadedRun:
    return LoadedRun(state, checksum, b"k" * 16, 7)


@over(plans(), st.data())
def test_any_run_comes_back_as_it_was(plan: ExecutionPlan, data: st.DataObject) -> None:
    run = run_of(plan, data.draw)
    for _ in range(data.draw(st.integers(0, 25))):
        live_on(run, data.draw)
        cache, kept = RunCache(latest=0), loaded(run.state)
        cache.keep([kept])
        known = cache.look_up([head(run.state.run_id, kept.checksum)])
        over_and_done = run.state.due_tick is None and run.state.status.ended
        assert known.unpacked == ({} if over_and_done else {run.state.run_id: kept})
        assert (known.latest, len(known.unknown)) == ({}, over_and_done)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@over(st.dictionaries(st.text(), JSON, max_size=4), st.dictionaries(st.text(), JSON, max_size=4))
def test_whatever_is_known_of_a_contact_comes_back(
    attributes: dict[str, Any], variables: dict[str, Any]
) -> None:
    contact = e.Enrolled("a@example.com", None, "Europe/Berlin", attributes, variables)
    cache, kept = RunCache(latest=0), loaded(replace(state_of("run_a", 0), contact=contact))
    cache.keep([kept])
    back = cache.look_up([head("run_a", kept.checksum)]).unpacked["run_a"]
    assert repr(back) == repr(kept)


def state_of(run_id: str, version: int, *, ended: bool = False) -> RunState:
    return RunState(
        run_id=run_id,
        plan_id="plan",
        plan_version=1,
        contact_id="c",
        enrollment=1,
        pins=e.Pins(),
        contact=e.Enrolled(),
        status=RunStatus.COMPLETED if ended else RunStatus.ACTIVE,
        version=version,
        created_tick=0,
        start_tick=0,
        last_tick=0,
        steps_remaining=1,
        acts_at=None if ended else version,
    )


def test_nothing_is_forgotten_as_long_as_there_is_room() -> None:
    cache, runs = RunCache(LATEST, PACKED_BYTES), [state_of(f"run_{n}", 1) for n in range(9)]
    heads = [head(run.run_id, b"c" * 32) for run in runs]
    cache.keep([loaded(run) for run in runs[:5]])
    known = cache.look_up(heads[:5])
    assert [*known.unpacked, *known.latest] == [run.run_id for run in runs[:5]]
    cache.keep([loaded(run) for run in runs])
    known = cache.look_up(heads)
    assert list(known.latest) == [run.run_id for run in runs[-LATEST:]]
    assert len(known.unpacked) >= 2
    assert known.unknown
    assert cache._bytes <= PACKED_BYTES


class Kept(RuleBasedStateMachine):
    """Some runs move on, end, are looked for, and are forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = RunCache(LATEST, PACKED_BYTES)
        self.now: dict[str, LoadedRun] = {}
        self.order: list[str] = []
        self.version = 0

    @rule(numbers=st.lists(st.integers(0, 9), min_size=1, max_size=6), ended=st.booleans())
    def keep(self, numbers: list[int], ended: bool) -> None:
        moved = []
        for number in numbers:
            self.version += 1
            state = state_of(f"run_{number}", self.version, ended=ended)
            run = loaded(state, self.version.to_bytes(32, "big"))
            moved.append(run)
            self.order = [each for each in self.order if each != state.run_id]
            self.now.pop(state.run_id, None)
            if not ended:
                self.now[state.run_id] = run
                self.order.append(state.run_id)
        self.cache.keep(moved)

    @rule()
    def clear(self) -> None:
        self.cache.clear()
        self.now, self.order = {}, []

    @invariant()
    def nothing_else_is_known(self) -> None:
        heads = [head(run_id, self.now[run_id].checksum) for run_id in self.order]
        known = self.cache.look_up(heads)
        assert len(known.latest) <= LATEST
        assert list(known.latest) == self.order[len(self.order) - len(known.latest) :]
        found = known.latest | known.unpacked
        assert found == {run_id: self.now[run_id] for run_id in found}
        assert {*known.latest, *known.unpacked, *known.unknown} == self.now.keys()
        others = [head(f"run_{number}", b"?" * 32) for number in range(10)]
        assert len(self.cache.look_up(others).unknown) == len(others)

    @invariant()
    def those_kept_first_are_forgotten_first(self) -> None:
        heads = [head(run_id, self.now[run_id].checksum) for run_id in self.order]
        unknown = self.cache.look_up(heads).unknown
        assert unknown == self.order[: len(unknown)]

    @invariant()
    def room_is_bounded(self) -> None:
        packed = self.cache._packed.values()
        assert self.cache._bytes == sum(len(each) + _ENTRY_BYTES for _, each in packed)
        assert self.cache._bytes <= PACKED_BYTES


TestKept = Kept.TestCase
