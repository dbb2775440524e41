"""A run at any of its versions is what it was when it was there."""

from __future__ import annotations

from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st

from dee_es.core import events as e
from dee_es.core.plans.plan import ExecutionPlan
from dee_es.core.views import RunRow
from dee_es.engine.past.debugger import DebugSession
from dee_es.engine.past.time_travel import changes, run_at, version_at
from dee_es.engine.queries import execution_run
from tests.support.counts import count
from tests.support.runs.given import ORDINAL, Story
from tests.support.runs.lives import Watched, live_on, plans, run_of


class Remembered(Watched):
    """A run that remembers how it stood after each event, when that was the present."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.rows: list[RunRow] = []

    def _append(self, event: e.Event, meta: e.Meta) -> None:
        super()._append(event, meta)
        self.rows.append(self.row)


def a_life(plan: ExecutionPlan, data: st.DataObject) -> Remembered:
    story = run_of(plan, data.draw)
    run = Remembered(story)
    run.enrolled(0, start=story.row.start_tick or None)
    for _ in range(data.draw(st.integers(1, 20))):
        live_on(run, data.draw)
    return run


@over(plans(), st.data())
@settings(max_examples=count(100, 1_000), deadline=None)
def test_every_version_is_what_it_was(plan: ExecutionPlan, data: st.DataObject) -> None:
    run = a_life(plan, data)
    scale = run.materials.scale
    session = DebugSession(run.history, lambda *_: run.materials, ORDINAL, scale, lambda _: None)
    for version, row in enumerate(run.rows, start=1):
        at = run_at(run.history, version, ORDINAL, scale)
        assert at.run == execution_run(row, dict(run.contact.variables), scale)
        assert (at.waiting is None) or at.waiting.until_tick >= 0
        session.goto(version)
        assert session.at() == at
        assert session.context() == at.context


@over(plans(), st.data())
@settings(max_examples=count(100, 1_000), deadline=None)
def test_a_tick_means_the_last_event_up_to_it(plan: ExecutionPlan, data: st.DataObject) -> None:
    run = a_life(plan, data)
    scale = run.materials.scale
    tick = data.draw(st.integers(0, run.now + 10))
    version = version_at(run.history, scale, None, tick, None)
    assert version == version_at(run.history, scale, None, None, scale.time(tick))
    assert run.history[version - 1].meta.tick <= tick
    assert version == len(run.history) or run.history[version].meta.tick > tick


@over(plans(), st.data())
@settings(max_examples=count(100, 1_000), deadline=None)
def test_changes_lead_from_one_version_to_another(plan: ExecutionPlan, data: st.DataObject) -> None:
    run = a_life(plan, data)
    scale, end = run.materials.scale, len(run.history)
    first = data.draw(st.integers(1, end))
    last = data.draw(st.integers(first, end))
    found = changes(run.history, first, last, ORDINAL, scale)
    assert len({change.field for change in found}) == len(found)
    before, after = (
        run_at(run.history, version, ORDINAL, scale).run.status for version in (first, last)
    )
    named = {change.field: change for change in found}
    assert ("status" in named) == (before != after)
    assert all(first < change.version <= last for change in found)
    # Each change is there right after the event that is named for it, and stays.
    for change in found:
        again = changes(run.history, first, change.version, ORDINAL, scale)
        assert (change.field, change.after) in [(each.field, each.after) for each in again]


@over(plans(), st.data())
def test_what_if_writes_nothing_and_comes_to_an_end(
    plan: ExecutionPlan, data: st.DataObject
) -> None:
    run = a_life(plan, data)
    known = list(run.history)
    session = DebugSession(
        run.history, lambda *_: run.materials, ORDINAL, run.materials.scale, lambda _: None
    )
    while session.has_next():
        assert session.peek() == session.step_forward()
    session.goto(data.draw(st.integers(1, session.last_version)))
    replied = session.what_if_event("email.replied")
    assert replied.events
    assert replied.events[0].event == "event.received"
    assert session.what_if_variable("score", 5).status
    assert session.what_next().status
    assert run.history == known
