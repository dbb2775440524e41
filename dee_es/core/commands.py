"""What can be asked of a run: imperatives that carry tick, time and actor in their `meta`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from dee_es.core.clock import TimeScale
from dee_es.core.events import Detail, Enrolled, Meta, Pins
from dee_es.core.gate import Policy, Snapshot
from dee_es.core.plans.plan import ExecutionPlan


@dataclass(frozen=True)
class Materials:
    """The definitions a run decides by, in the versions it has pinned, and the scale of time."""

    plan: ExecutionPlan
    templates: Mapping[str, Mapping[str, Any]]
    scripts: Mapping[str, Mapping[str, Any]]
    sender: Mapping[str, Any] | None
    scale: TimeScale
    policy: Policy | None = None


class Enroll(msgspec.Struct, frozen=True, gc=False):
    """Create the run. `start_tick` None means now; a later tick leaves it pending until then."""

    meta: Meta
    run_id: str
    contact_id: str
    enrollment: int
    contact: Enrolled
    pins: Pins
    start_tick: int | None = None


class Advance(msgspec.Struct, frozen=True, gc=False):
    """Do whatever is due at the tick.

    `snapshots` holds, for each channel, what the gate may read; a channel that is not there has
    nothing to read. `lease_epoch` names the holder that would send. `abandoned` says that whoever
    committed the run's open intent is not sending any more, so that its outcome will never be
    known.
    """

    meta: Meta
    snapshots: Mapping[str, Snapshot] = {}
    lease_epoch: int = 0
    abandoned: bool = False


class RecordResult(msgspec.Struct, frozen=True, gc=False):
    """What a channel said about the attempt with this key; `ours` as in `StepRetried`."""

    meta: Meta
    key: str
    attempt: int
    status: Literal["delivered", "failed", "pending", "unknown"]
    message_id: str | None = None
    error: str = ""
    retryable: bool = False
    detail: Detail | None = None
    ours: bool = False


class ReceiveEvent(msgspec.Struct, frozen=True, gc=False):
    """A channel event of the run's contact."""

    meta: Meta
    type: str
    event_id: str
    occurred_tick: int
    step_id: str | None = None
    detail: Detail | None = None


class Pause(msgspec.Struct, frozen=True, gc=False):
    """Stop acting until resumed. Waits keep their `deadline` or their `remaining` ticks."""

    meta: Meta
    keep: Literal["deadline", "remaining"] = "deadline"


class Resume(msgspec.Struct, frozen=True, gc=False):
    """Go on after a pause, `after` ticks from now. `policy` is the version published by now, which
    a run that its policy had paused takes in the place of its own; 0 if there is none."""

    meta: Meta
    after: int = 1
    policy: int = 0


class Cancel(msgspec.Struct, frozen=True, gc=False):
    """End the run; `cause` says what kind of cancellation it is."""

    meta: Meta
    cause: str = "cancelled"


class Erase(msgspec.Struct, frozen=True, gc=False):
    """End the run, since its contact is being erased."""

    meta: Meta


class Retry(msgspec.Struct, frozen=True, gc=False):
    """Enter a failed run's step again, `after` ticks from now; `pins` takes definitions anew."""

    meta: Meta
    pins: Pins | None = None
    after: int = 1


class Resolve(msgspec.Struct, frozen=True, gc=False):
    """Settle a send whose outcome is unknown."""

    meta: Meta
    outcome: Literal["delivered", "failed", "resend"]


RunCommand = (
    Advance | RecordResult | ReceiveEvent | Pause | Resume | Cancel | Erase | Retry | Resolve
)
"""Commands to a run that exists; `Enroll` creates it."""
