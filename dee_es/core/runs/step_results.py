"""What became of each visit of a step, as a run's events tell it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from dee_es.core import events as e

UNTOLD: Final[frozenset[type[e.Event]]] = frozenset(
    {
        e.RunScheduled,
        e.RunStarted,
        e.RunPaused,
        e.RunResumed,
        e.RunRetried,
        e.RunCancelled,
        e.RunFailed,
        e.StepEntered,
        e.StepDispatched,
        e.StepPending,
        e.StepDeferred,
        e.StepRetried,
        e.WaitStarted,
        e.ChannelEventReceived,
    }
)
"""Events that say of no step what became of it: it goes on, or what follows from them says so."""


class StepResult(NamedTuple):
    """One visit of a step, or one message of it that went out again.

    `result` is in a word or two what became of it, `tick` when, and `digest` and `message` are of
    what went out, if anything did.
    """

    id: str
    result: str
    tick: int
    digest: str | None = None
    message: e.Message | None = None


def step_results(history: Iterable[tuple[e.Event, int]]) -> Iterator[StepResult]:
    """The results in a history of events with their ticks, in order."""
    sent: dict[str, tuple[str, e.Message | None]] = {}
    for event, tick in history:
        if isinstance(event, e.StepDispatched):
            sent[event.step_id] = (event.digest, event.personal)
            continue
        told = _told(event)
        if told is not None:
            step, result = told
            yield StepResult(step, result, tick, *sent.pop(step, (None, None)))


def _told(event: e.Event) -> tuple[str, str] | None:
    match event:
        case e.StepCompleted(late=False):
            return event.step_id, event.result + (" again" if event.resend else "")
        case e.BranchEvaluated():
            return event.step_id, event.goto
        case e.StepSkipped():
            return event.step_id, f"skipped: {event.rule}"
        case e.WaitCompleted():
            return event.step_id, "waited"
        case e.StepFailed(late=False):
            return event.step_id, f"failed: {event.error}"
        case e.OutcomeUnknown():
            return event.step_id, "unknown"
        case e.StepResolved():
            return event.step_id, f"resolved: {event.outcome}"
        case e.RunCompleted(step_id=str(step)):
            return step, event.outcome or "completed"
        case _:
            return None
