"""How a run moves through its plan: what it does at a tick, step after step.

A send that is the first thing a run does in a tick goes out in that tick; one that is reached after
other steps waits for the next. Everything that needs no channel is done at once.
"""

from __future__ import annotations

from typing import assert_never

from dee_es.core import commands as c
from dee_es.core import events as e
from dee_es.core.conditions.condition import unparse
from dee_es.core.runs.condition_values import first_exit, holds
from dee_es.core.runs.fold import follow
from dee_es.core.runs.resend_state import too_late
from dee_es.core.runs.send_keys import key_of_visit
from dee_es.core.runs.sending import Attempt, attempt_to_send
from dee_es.core.runs.state import Resend, RunState
from dee_es.core.steps import AnyStep, Branch, End, SendEmail, SendStep, SendVoice, Wait
from dee_es.core.values import JsonScalar


def advance(materials: c.Materials, state: RunState, command: c.Advance) -> Steps:
    """What a run that is due does at one tick; no events if nothing is to be done."""
    tick, due = command.meta.tick, state.due_tick
    steps = Steps(materials, state, command.meta)
    if due is None or tick < due:
        return steps
    if state.exit is not None and tick >= state.exit_tick:
        steps.leave()
        return steps
    if state.intent is not None:
        if command.abandoned:
            steps.outcome_unknown("the sender stopped before it recorded an outcome")
        return steps
    if state.resends and tick >= state.resends[0].due_tick:
        steps.send_again(state.resends[0], command)
        return steps
    if state.hold:
        if state.heard is not None:
            steps.finish_call(state.heard)
            return steps
        if tick < state.hold_until:
            steps.hold_again()
            return steps
        if not steps.end_hold():
            return steps
    if state.failure is not None:
        # The step failed while the run was paused; now the failure takes effect.
        steps.record(e.RunFailed(state.failure, state.current_step))
        return steps
    steps.run(command)
    return steps


def may_send(state: RunState, tick: int) -> bool:
    """Whether `advance` could come to a send at this tick, and so would ask the policy gate.

    A run that ends a wait has done something by that, and a send behind it waits for the next tick.
    """
    if state.intent is not None or state.failure is not None:
        return False
    if state.resends and tick >= state.resends[0].due_tick:
        return True
    return state.hold not in ("wait", "pending")


class Steps:
    """One decision in the making: the events so far, and the state they lead to."""

    def __init__(self, materials: c.Materials, state: RunState, meta: e.Meta | None) -> None:
        self.materials = materials
        self.state = state
        self.events: list[e.Event] = []
        self._graph = materials.plan.graph
        self._meta = meta
        self._acted = False

    def record(self, event: e.Event) -> None:
        """Add an event and follow it."""
        assert self._meta is not None, "only a command with a tick records events"
        self.events.append(event)
        self.state = follow(self.state, event, self._meta)

    @property
    def tick(self) -> int:
        """The tick of the decision."""
        assert self._meta is not None
        return self._meta.tick

    def leave(self) -> None:
        """Complete the run by the first exit condition that holds, in definition order, or by the
        one that made it due if none does any more."""
        noted = self.state.exit
        assert noted is not None, "an event made an exit condition true"
        found = first_exit(self._graph.exits, self.state)
        self.record(found.completed() if found else e.RunCompleted(noted[1], noted[0]))

    # --- holds ----------------------------------------------------------------------------------

    def hold_again(self) -> None:
        """Put a resumed run back to what it was waiting for."""
        state = self.state
        step = state.current_step or ""
        if state.hold == "start":
            self.record(
                e.RunScheduled(
                    state.plan_id,
                    state.plan_version,
                    state.contact_id,
                    state.enrollment,
                    state.hold_until,
                    state.steps_remaining,
                    state.pins,
                )
            )
        elif state.hold == "wait":
            self.record(e.WaitStarted(step, state.hold_until))
        elif state.hold == "pending":
            self.record(e.StepPending(step, state.hold_until))
        else:
            again = ("retry", "the pause before the next attempt goes on")
            rule, detail = again if state.hold == "retry" else state.held_by
            self.record(e.StepDeferred(step, rule, detail, state.hold_until))

    def finish_call(self, outcome: str) -> None:
        """Go on from a call whose end was told while the run stood still."""
        self.record(e.StepCompleted(str(self.state.current_step), outcome))
        self.go_on()

    def end_hold(self) -> bool:
        """End a hold whose tick has come; says whether the run goes on in this tick."""
        state = self.state
        step = state.current_step or ""
        if state.hold == "start":
            self.record(
                e.RunStarted(
                    state.plan_id,
                    state.plan_version,
                    state.contact_id,
                    state.enrollment,
                    self.tick,
                    state.steps_remaining,
                    state.pins,
                )
            )
        elif state.hold == "wait":
            self.record(e.WaitCompleted(step))
            self._acted = True
        elif state.hold == "pending":
            self.outcome_unknown("no result arrived before the deadline")
            return False
        return True

    # --- moving on --------------------------------------------------------------------------------

    def run(self, command: c.Advance) -> None:
        """Act on the current step if it is due, then go on."""
        state = self.state
        between = state.current_step is None or state.step_done or state.reenter
        if between:
            if not self.enter_next():
                return
        elif self._ends_instead():
            return
        if self._acts_later():
            return
        step = self._graph.step(str(self.state.current_step))
        if isinstance(step, SendStep):
            self._dispatch(step, command)
            return
        self._do(step)
        self.go_on()

    def go_on(self) -> None:
        """Enter and do the steps behind a finished one, as far as no channel is needed."""
        self._acted = True
        while self._moves() and self.state.step_done:
            if not self.enter_next() or self._acts_later():
                return
            self._do(self._graph.step(str(self.state.current_step)))

    def _moves(self) -> bool:
        return self.state.status.moves

    def _acts_later(self) -> bool:
        return self.state.acts_at is None or self.state.acts_at > self.tick

    def _out_of_breath(self) -> bool:
        # A loop that takes no time would never leave the tick; it goes on in the next one.
        entered = self.state.visits if self.state.entered_tick == self.tick else 0
        return entered >= len(self.materials.plan.steps)

    def _ends_instead(self) -> bool:
        """Whether the run ends here, for what is known of its contact, instead of going on."""
        if self.state.erased:
            # Without the contact's data a decision would be a guess.
            self.record(e.RunCancelled("erased"))
            return True
        found = first_exit(self._graph.exits, self.state)
        if found is None:
            return False
        self.record(found.completed())
        return True

    def enter_next(self) -> bool:
        """Enter the step that comes next, unless the run ends instead; says whether it did."""
        if self._ends_instead():
            return False
        state = self.state
        following: str | None
        if state.current_step is None:
            following = self._graph.entry
        elif state.reenter:
            following = state.current_step
        elif isinstance(self._graph.step(state.current_step), Branch):
            following = state.previous_step[1] if state.previous_step else None
        else:
            following = self._graph.next_after(state.current_step)
        if following is None:
            self.record(e.RunCompleted())
            return False
        sends = isinstance(self._graph.step(following), SendStep)
        waits = (sends and self._acted) or self._out_of_breath()
        acts_at = self.tick + 1 if waits else self.tick
        self.record(e.StepEntered(following, self._graph.remaining(following), acts_at))
        self._acted = True
        return True

    def _do(self, step: AnyStep) -> None:
        """Do a step that needs no channel; it records at least one event, or would stand still."""
        match step:
            case Wait():
                until = self.tick + self.materials.scale.ticks(step.duration_ms)
                self.record(e.WaitStarted(step.id, until))
            case Branch():
                self._branch(step)
            case End():
                self.record(e.RunCompleted(step.outcome, step_id=step.id))
            case SendEmail() | SendVoice():
                raise AssertionError(f"{step.id} sends, and no send is done beside other steps")
            case _:
                assert_never(step)

    def _branch(self, step: Branch) -> None:
        seen: dict[str, JsonScalar] = {}
        for condition, goto in self._graph.arms(step.id):
            if holds(condition, self.state, seen):
                personal = e.Seen(seen) if seen else None
                self.record(e.BranchEvaluated(step.id, unparse(condition), goto, personal))
                return
        raise AssertionError(f"branch {step.id} has no default")

    # --- sending ----------------------------------------------------------------------------------

    def _dispatch(self, step: SendStep, command: c.Advance) -> None:
        state = self.state
        key = key_of_visit(state, step.id)
        attempt = Attempt(key, state.attempt + 1, state.previous_step)
        event = attempt_to_send(self.materials, state, step, command, attempt)
        self.record(event)
        if isinstance(event, e.StepSkipped):
            self.go_on()
        elif isinstance(event, e.StepFailed):
            self.record(e.RunFailed(event.error, step.id))

    def send_again(self, resend: Resend, command: c.Advance) -> None:
        """Send a message that bounced softly once more; the run's own way is not touched."""
        step = self._graph.step(resend.step_id)
        mailed = self.state.mailed[resend.step_id]
        assert isinstance(step, SendEmail), "only an e-mail bounces"
        if too_late(mailed, resend, self.materials.scale, self.tick):
            error = "it first went out more than a day ago"
            self.record(e.StepFailed(step.id, error, mailed.attempt, resend=True))
            return
        attempt = Attempt(resend.key, mailed.attempt + 1, mailed.previous_step, True)
        self.record(attempt_to_send(self.materials, self.state, step, command, attempt))

    # --- failing ----------------------------------------------------------------------------------

    def fail(self, error: str, attempt: int, detail: e.Detail | None) -> None:
        """The current step fails, and the run with it unless it is paused or has ended."""
        step = str(self.state.intent.step_id if self.state.intent else self.state.current_step)
        self.record(e.StepFailed(step, error, attempt, personal=detail))
        if self._moves():
            self.record(e.RunFailed(error, step))

    def outcome_unknown(self, cause: str) -> None:
        """The last send may have arrived; the run fails closed unless it has ended."""
        intent = self.state.intent
        step = str(intent.step_id if intent else self.state.current_step)
        key = intent.key if intent else key_of_visit(self.state, step)
        resend = intent is not None and intent.resend
        self.record(e.OutcomeUnknown(step, key, cause, resend))
        if not self.state.status.ended:
            self.record(e.RunFailed(f"outcome unknown: {cause}", step))
