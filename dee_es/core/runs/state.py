"""A run as its events leave it: everything that a decision about it reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from dee_es.core import events as e
from dee_es.core.views import RunStatus

Hold = Literal["", "start", "wait", "retry", "defer", "pending"]
"""Why a run does not act before its `acts_at`: its start tick, a wait step, the pause before a
retry, a policy, or the result of a call. Empty if nothing holds it."""


class Intent(msgspec.Struct, frozen=True, gc=False):
    """A committed intent whose outcome is not known yet; `tick` is that of its commit.

    `outcome` is how the call went, if its end was reported before the channel even said that it
    had taken the call. `resend` marks a message that goes out again after a soft bounce.
    `counted` is what it uses of the policy's counters, as in its event.
    """

    step_id: str
    channel: str
    key: str
    attempt: int
    lease_epoch: int
    message: e.Message | None
    tick: int
    outcome: str | None = None
    resend: bool = False
    counted: tuple[tuple[str, int, int, int], ...] = ()

    @classmethod
    def of(cls, event: e.StepDispatched, tick: int) -> Intent:
        """The intent that the event commits."""
        return cls(
            event.step_id,
            event.channel,
            event.key,
            event.attempt,
            event.lease_epoch,
            event.personal,
            tick,
            resend=event.resend,
            counted=event.counted,
        )


class Lost(msgspec.Struct, frozen=True, gc=False):
    """A send of which nobody knows whether it arrived."""

    step_id: str
    key: str
    attempt: int
    resend: bool = False


class Mailed(msgspec.Struct, frozen=True, gc=False):
    """The last e-mail of a step, which a soft bounce may have sent again.

    `tick` is when it first went out, `previous_step` what the message was rendered with, `resends`
    how often it has gone out again.
    """

    key: str
    attempt: int
    tick: int
    previous_step: tuple[str, str] | None
    resends: int = 0


class Resend(msgspec.Struct, frozen=True, gc=False):
    """A message that is to go out again at `due_tick`, under this key."""

    step_id: str
    key: str
    due_tick: int


# Defaults are left out where a state is packed: most of what most runs hold is one. It is not
# frozen so that `follow` can change the copy that it makes for each event; nothing else may.
class RunState(msgspec.Struct, gc=False, kw_only=True, omit_defaults=True):
    """Everything a decision about a run reads. All ticks are absolute.

    `acts_at` is the tick from which the run wants to act (None: never by itself); while it is
    paused this is kept but not followed. `hold` says what it waits for, until `hold_until`
    (`held_by`: the rule of a policy and its reason); both outlive a pause, so that the tick
    after it can see whether the wait is over. `paused_tick` is the tick since which a pause
    delays that wait. `visits` counts the steps that were entered at `entered_tick`. `key_tick` is
    the tick that the visit's idempotency key is made of: that of its entry, or a later one where an
    earlier visit's message already has that, since waits shorter than a tick lead back to a step
    within it (`key_ticks`: the last such tick of each step). `step_done`
    says that the current step has finished and the next has not been entered; `pending_message`
    is the engine's own id of the call that is waited for, and `heard` how it went, if that was told
    while the run had failed for a message beside it; `reenter` that the current step is to
    be entered again. `exit` is the text and outcome of an exit condition that a channel event
    made true, to be followed at `exit_tick`. `unknown` is the send that may have arrived, until
    a person settles it; `awaited` the same send until its outcome arrives after all, as evidence.
    `excused` counts those of the visit's attempts that failed by our own settings.
    `mailed` and `resends` are what a soft bounce needs: they go on beside the run's own way.
    """

    run_id: str
    plan_id: str
    plan_version: int
    contact_id: str
    enrollment: int
    pins: e.Pins
    contact: e.Enrolled
    erased: bool = False
    status: RunStatus
    status_reason: str | None = None
    version: int
    created_tick: int
    start_tick: int
    last_tick: int
    completed_tick: int | None = None
    outcome: str | None = None
    current_step: str | None = None
    entered_tick: int = 0
    visits: int = 0
    key_tick: int = 0
    key_ticks: Mapping[str, int] = {}
    step_done: bool = False
    reenter: bool = False
    steps_completed: int = 0
    steps_remaining: int
    acts_at: int | None
    hold: Hold = ""
    hold_until: int = 0
    held_by: tuple[str, str] = ("", "")
    paused_tick: int = 0
    keep: str = "deadline"
    paused_by_policy: bool = False
    intent: Intent | None = None
    attempt: int = 0
    excused: int = 0
    pending_message: str | None = None
    heard: str | None = None
    failure: str | None = None
    unknown: Lost | None = None
    awaited: Lost | None = None
    exit: tuple[str, str | None] | None = None
    exit_tick: int = 0
    seen: frozenset[tuple[str, str]] = frozenset()
    call_outcomes: Mapping[str, str] = {}
    last_sent: tuple[tuple[str, str], ...] = ()
    previous_step: tuple[str, str] | None = None
    mailed: Mapping[str, Mailed] = {}
    resends: tuple[Resend, ...] = ()
    unsubscribed: bool = False
    bounced: bool = False
    command_ids: tuple[str, ...] = ()

    @property
    def due_tick(self) -> int | None:
        """The tick at which the scheduler has to look at the run, None if it has not to."""
        if self.intent is not None and self.exit is None:
            # Whatever became of the run: should the sender be gone, somebody has to say so.
            return self.intent.tick
        if self.status.ended:
            return None
        if self.exit is not None:
            return self.exit_tick
        if self.status in (RunStatus.PAUSED, RunStatus.FAILED):
            return None
        if self.resends and self.acts_at is not None:
            return min(self.acts_at, self.resends[0].due_tick)
        return self.acts_at
