"""What happens in a run's steps: sends, waits, branches, and what channels tell.

Several of them have a flag `resend`: the event is about a message that bounced softly and is sent
again. That goes on beside the run's own way through its plan and changes neither its step nor what
it waits for.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from dee_es.core.events.base import Detail, Event, Message, Seen
from dee_es.core.values import JsonScalar


class StepEntered(Event, frozen=True, omit_defaults=True):
    """The step became the current one; it acts at `acts_at`."""

    step_id: str
    steps_remaining: int
    acts_at: int


class StepDispatched(Event, frozen=True, omit_defaults=True):
    """The intent to send, committed before the channel is touched.

    `digest` is the SHA-256 of the rendered message; `lease_epoch` names the holder that sends.
    `reads` is what the policy gate read, `counted` what the send uses of the policy's counters:
    name, slot, amount and limit of each.
    """

    personal_type: ClassVar[Any] = Message
    step_id: str
    channel: str
    key: str
    attempt: int
    lease_epoch: int
    digest: str
    reads: dict[str, JsonScalar] = msgspec.field(default_factory=dict)
    counted: tuple[tuple[str, int, int, int], ...] = ()
    resend: bool = False
    personal: Message | None = None


class StepPending(Event, frozen=True, omit_defaults=True):
    """The channel took the action and will report later; unknown after `deadline_tick`."""

    step_id: str
    deadline_tick: int
    message_id: str | None = None


class StepCompleted(Event, frozen=True, omit_defaults=True):
    """The step did what it was for; `result` is `delivered` or the outcome of a call.

    `late` marks evidence: the outcome had been given up as unknown, and changes nothing any more.
    """

    step_id: str
    result: str
    message_id: str | None = None
    late: bool = False
    resend: bool = False


class BranchEvaluated(Event, frozen=True, omit_defaults=True):
    """The branch chose `goto` because `when` held; the values it saw are personal."""

    personal_type: ClassVar[Any] = Seen
    step_id: str
    when: str
    goto: str
    personal: Seen | None = None


class StepSkipped(Event, frozen=True, omit_defaults=True):
    """The gate denied the step and the run goes on without it; `reads` is what the gate read."""

    personal_type: ClassVar[Any] = Seen
    step_id: str
    rule: str
    detail: str
    reads: dict[str, JsonScalar] = msgspec.field(default_factory=dict)
    resend: bool = False
    personal: Seen | None = None


class StepDeferred(Event, frozen=True, omit_defaults=True):
    """The step waits until `until_tick`, because of `rule`; `reads` is what the gate read."""

    personal_type: ClassVar[Any] = Seen
    step_id: str
    rule: str
    detail: str
    until_tick: int
    reads: dict[str, JsonScalar] = msgspec.field(default_factory=dict)
    resend: bool = False
    personal: Seen | None = None


class WaitStarted(Event, frozen=True, omit_defaults=True):
    """The run waits in this step until `until_tick`."""

    step_id: str
    until_tick: int


class WaitCompleted(Event, frozen=True, omit_defaults=True):
    """The wait is over."""

    step_id: str


class ChannelEventReceived(Event, frozen=True, omit_defaults=True):
    """Something happened to a message or call.

    `kind` is what the engine makes of the data, in plain text so that an erasure does not change
    what the event means: `hard` or `soft` for a bounce, `auto` for a reply that a machine sent, the
    outcome for a call that is over.

    `exit_outcome` and `exit_condition` are set when it made an exit condition hold. `ended` marks
    evidence that reached a run which had already ended.
    """

    personal_type: ClassVar[Any] = Detail
    type: str
    contact_id: str
    event_id: str
    occurred_tick: int
    run_id: str | None = None
    step_id: str | None = None
    kind: str | None = None
    exit_condition: str | None = None
    exit_outcome: str | None = None
    ended: bool = False
    personal: Detail | None = None


class StepFailed(Event, frozen=True, omit_defaults=True):
    """The step failed for good; `error` names the kind of failure, without personal data.

    `late` marks evidence, as in `StepCompleted`. `reads` is what the gate read, if it was asked.
    """

    personal_type: ClassVar[Any] = Detail
    step_id: str
    error: str
    attempt: int = 0
    late: bool = False
    reads: dict[str, JsonScalar] = msgspec.field(default_factory=dict)
    resend: bool = False
    personal: Detail | None = None


class StepRetried(Event, frozen=True, omit_defaults=True):
    """An attempt failed in a way that can pass, or its message bounced softly; the next one is made
    at `retry_tick`.

    `ours`: the fault was no message's but that of our own settings, and the attempt is not counted.
    """

    personal_type: ClassVar[Any] = Detail
    step_id: str
    error: str
    attempt: int
    retry_tick: int
    resend: bool = False
    personal: Detail | None = None
    ours: bool = False


class OutcomeUnknown(Event, frozen=True, omit_defaults=True):
    """The message may or may not have arrived; nothing is sent again by itself."""

    step_id: str
    key: str
    cause: str
    resend: bool = False


class StepResolved(Event, frozen=True, omit_defaults=True):
    """A person settled an unknown outcome; the run acts on it at `acts_at`."""

    step_id: str
    outcome: Literal["delivered", "failed", "resend"]
    acts_at: int
    resend: bool = False
