"""A plan's funnel and a contact's history, counted from the log in the plainest way there is."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from dee_es.core import events as e
from dee_es.engine.facade import EngineApi

STATES = ("sent", "skipped", "deferred", "failed", "exited", "in_progress")


def visits_of(history: Iterable[e.Event]) -> list[tuple[str, str]]:
    """Each visit's step and state; a visit is a list of the events between two entries."""
    visits: list[list[e.Event]] = []
    for event in history:
        if isinstance(event, e.StepEntered):
            visits.append([event])
        elif visits and not getattr(event, "late", False) and not getattr(event, "resend", False):
            visits[-1].append(event)
    return [(str(getattr(visit[0], "step_id", "")), _state(visit)) for visit in visits]


def _state(visit: list[e.Event]) -> str:
    state = "in_progress"
    for event in visit:
        settled = state in ("sent", "skipped", "failed", "exited")
        match event:
            case e.StepResolved(outcome="delivered"):
                state = "sent"
            case e.StepCompleted() | e.BranchEvaluated() | e.WaitCompleted() if not settled:
                state = "sent"
            case e.RunCompleted(step_id=str()) if not settled:
                state = "sent"
            case e.StepSkipped() if not settled:
                state = "skipped"
            case e.StepDeferred(rule=rule) if rule != "retry" and not settled:
                state = "deferred"
            case e.StepDispatched() if not settled:
                state = "in_progress"
            case e.StepFailed() | e.OutcomeUnknown() if not settled:
                state = "failed"
            case e.RunCompleted() | e.RunCancelled() if not settled:
                state = "exited"
    return state


def assert_funnels_add_up(engine: EngineApi, plans: Iterable[str]) -> None:
    """Every step's numbers add up to its entries, and are those counted by hand."""
    by_hand: dict[str, Counter[tuple[int, str, str]]] = defaultdict(Counter)
    cursor = None
    while True:
        page = engine.list_runs(limit=100, cursor=cursor)
        for run in page.runs:
            history = [recorded.event for recorded in engine.get_events(run.id)]
            for step, state in visits_of(history):
                by_hand[run.plan_id][run.plan_version, step, state] += 1
        cursor = page.next_cursor
        if cursor is None:
            break
    for plan in plans:
        if plan not in by_hand:
            continue
        found: Counter[tuple[int, str, str]] = Counter()
        for step in engine.step_funnel(plan):
            numbers = {state: getattr(step, state) for state in STATES}
            assert step.entered == sum(numbers.values()) > 0, step
            for state, why in step.reasons.items():
                assert sum(why.values()) <= numbers[state], step
            for state, number in numbers.items():
                found[step.plan_version, step.step_id, state] += number
        assert +found == +by_hand[plan], (plan, found - by_hand[plan], by_hand[plan] - found)
