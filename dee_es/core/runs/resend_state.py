"""The queue of messages that go out again after a soft bounce, as part of a run's state.

What changes the queue changes the state that it is given: it is for `fold` alone, which gives its
own copy.
"""

from __future__ import annotations

from msgspec.structs import replace

from dee_es.core import events as e
from dee_es.core.clock import TimeScale
from dee_es.core.runs import rules
from dee_es.core.runs.schedule import RESEND_WITHIN_MS
from dee_es.core.runs.state import Mailed, Resend, RunState


def mailed_after(state: RunState, event: e.StepDispatched, meta: e.Meta) -> Mailed:
    """What is known of a step's e-mail after this intent to send it."""
    known = state.mailed.get(event.step_id)
    if event.resend and known is not None:
        return replace(known, key=event.key, attempt=event.attempt, resends=known.resends + 1)
    if known is not None and known.key == event.key:
        # What our own settings kept from leaving, for days perhaps, did not go out yet.
        tick = meta.tick if state.excused else known.tick
        return replace(known, attempt=event.attempt, tick=tick)
    return Mailed(event.key, event.attempt, meta.tick, state.previous_step)


def without(resends: tuple[Resend, ...], step_id: str) -> tuple[Resend, ...]:
    """The queue without the step's message."""
    if not resends:
        return resends
    return tuple(each for each in resends if each.step_id != step_id)


def plan_resend(run: RunState, step_id: str, key: str, due_tick: int) -> None:
    """Put the step's message into the queue, its attempt under way being over."""
    end_resend(run, step_id)
    others = without(run.resends, step_id)
    queue = sorted((*others, Resend(step_id, key, due_tick)), key=lambda each: each.due_tick)
    run.resends = tuple(queue)


def times_used(state: RunState, step_id: str, ours: bool) -> int:
    """How often the step's message has gone out again, without the attempt that just failed if the
    fault was `ours` and the run's rules excuse that."""
    excused = ours and state.pins.rules >= rules.EXCUSING
    return state.mailed[step_id].resends - (1 if excused else 0)


def retry_resend(run: RunState, event: e.StepRetried) -> None:
    """Have the step's message go out again at the time that was planned.

    An attempt that our own settings let fail has used up none of its times. Runs of older rules
    keep the count that they had.
    """
    step_id = event.step_id
    if step_id in run.mailed:
        counted = replace(run.mailed[step_id], resends=times_used(run, step_id, event.ours))
        run.mailed = {**run.mailed, step_id: counted}
    plan_resend(run, step_id, key_of(run, step_id), event.retry_tick)


def end_resend(run: RunState, step_id: str) -> None:
    """Close the open intent of the step's message that went out again; one of another step stays
    open."""
    intent = run.intent
    if intent is not None and intent.resend and intent.step_id == step_id:
        run.intent = None


def drop_resend(run: RunState, step_id: str) -> None:
    """Have the step's message not go out again."""
    end_resend(run, step_id)
    run.resends = without(run.resends, step_id)


def key_of(state: RunState, step_id: str) -> str:
    """The key under which a step's message goes out again: that of the message it stands for."""
    for each in state.resends:
        if each.step_id == step_id:
            return each.key
    return state.mailed[step_id].key


def too_late(mailed: Mailed, resend: Resend, scale: TimeScale, tick: int) -> bool:
    """Whether a message is not to go out again any more; if a person asked for it, which gives it a
    key of its own, it is never too late."""
    return resend.key == mailed.key and tick > mailed.tick + scale.ticks(RESEND_WITHIN_MS)
