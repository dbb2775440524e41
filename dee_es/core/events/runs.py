"""A run's life: from its enrolment to its end."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from dee_es.core.events.base import Enrolled, Event, Pins, Seen
from dee_es.core.values import JsonScalar


class Start(Event, frozen=True, omit_defaults=True):
    """What both beginnings hold: plan, contact, pins, and as a run's first event who it is for."""

    personal_type: ClassVar[Any] = Enrolled
    plan_id: str
    plan_version: int
    contact_id: str
    enrollment: int
    start_tick: int
    steps_remaining: int
    pins: Pins = Pins()
    personal: Enrolled | None = None


class RunScheduled(Start, frozen=True, omit_defaults=True):
    """The run is to start at `start_tick`; also recorded when a resumed run goes back to waiting
    for it."""


class RunStarted(Start, frozen=True, omit_defaults=True):
    """The run acts from `start_tick` on."""


class RunPaused(Event, frozen=True, omit_defaults=True):
    """Paused; `keep` says what a run keeps of a wait: its deadline or its remaining ticks.

    `cause` is set when a rule of the policy paused it, with what the rule read.
    """

    personal_type: ClassVar[Any] = Seen
    keep: Literal["deadline", "remaining"] = "deadline"
    cause: str | None = None
    reads: dict[str, JsonScalar] = msgspec.field(default_factory=dict)
    personal: Seen | None = None


class RunResumed(Event, frozen=True, omit_defaults=True):
    """Active again from `acts_at` on; waits were moved by `shift` ticks.

    `policy` is the version that it keeps to from now on, where its own had paused it and a newer
    one is published; else 0.
    """

    acts_at: int
    shift: int = 0
    policy: int = 0


class RunRetried(Event, frozen=True, omit_defaults=True):
    """A failed run enters its step again at `acts_at`, under `pins` where they were taken anew."""

    acts_at: int
    pins: Pins | None = None


class RunCancelled(Event, frozen=True, omit_defaults=True):
    """Ended by a person, an unsubscribe, a hard bounce or an erasure; `cause` says by which."""

    cause: str


class RunCompleted(Event, frozen=True, omit_defaults=True):
    """Ended as planned: in the end step `step_id`, because `exit_condition` held, or, with neither,
    after the last step of a plan without end steps. The values the condition saw are personal."""

    personal_type: ClassVar[Any] = Seen
    outcome: str | None = None
    exit_condition: str | None = None
    step_id: str | None = None
    personal: Seen | None = None


class RunFailed(Event, frozen=True, omit_defaults=True):
    """Stopped, not ended: a person has to retry, resolve or cancel it."""

    cause: str
    step_id: str | None = None
