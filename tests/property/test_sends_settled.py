"""Whatever happens beside a send, it is settled once: by an outcome, or as unknown.

Lives of one plan with mails, a call and a loop, in which things happen by chance, but likely ones:
calls end and mails bounce while others are under way, and people pause, resolve and try again.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, Final

import pytest

from dee_es.core import events as e
from dee_es.core.builders import steps, transitions
from dee_es.core.plans.plan import ExecutionPlan
from dee_es.errors import InvalidTransition
from tests.support.counts import count
from tests.support.runs.given import Story, given, plan_of

SETTLED: Final = (e.StepCompleted, e.StepFailed, e.StepRetried, e.StepPending, e.OutcomeUnknown)
RESOLUTIONS: Final = (1_000, 60_000, 3_600_000)
DAY_MS: Final = 86_400_000
LIVES, PART = count(2_000, 40_000), 8


def looping() -> ExecutionPlan:
    """A mail, a call, a short wait, another mail, and all of it again until somebody replies."""
    ends = {"when": "events.hasReply(any)", "goto": "over"}
    way = ["intro", "call", "rest", "more", "again"]
    return plan_of(
        steps.send_email("intro", "hello", "Hi"),
        steps.send_voice("call", "hello"),
        steps.wait("rest", {"minutes": 30}),
        steps.send_email("more", "hello", "Hi again"),
        steps.branch("again", [ends, {"when": "default", "goto": "intro"}]),
        steps.end("over", "done"),
        exits={'events.hasClick("more")': "clicked"},
        transitions=transitions.explicit(
            [{"from": one, "to": next_} for one, next_ in pairwise(way)]
        ),
    )


PLAN: Final = looping()
BY_STATE: Final = {
    "sending": ["answer"] * 8 + ["bounce", "hang up", "hang up", "pause", "tick", "later"],
    "pending": ["hang up", "hang up", "bounce", "bounce", "later", "tick", "pause"],
    "failed": ["resolve", "resolve", "retry", "hang up", "arrive late"],
    "paused": ["resume", "resume", "hang up", "bounce", "later"],
    "": ["later", "tick", "tick", "tick", "bounce"],
}
ANY: Final = sorted({each for several in BY_STATE.values() for each in several})
RARE: Final = ["reply", "click", "unsubscribe", "cancel"]


class Life:
    """One life, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.resolution_ms = self.chance.choice(RESOLUTIONS)
        self.hour = max(1, 3_600_000 // self.resolution_ms)
        self.run: Story = given(PLAN, resolution_ms=self.resolution_ms)
        self.run.enrolled(0, start=self.chance.choice([None, 5]))
        self.now = 0
        self._does: dict[str, Callable[[], object]] = {
            "answer": self._answer,
            "later": self._later,
            "tick": lambda: self.run.ticked(self.now, abandoned=self._sometimes(0.2)),
            "pause": lambda: self.run.paused(self.now, self._one_of("deadline", "remaining")),
            "resume": lambda: self.run.resumed(self.now),
            "retry": lambda: self.run.retried(self.now),
            "resolve": lambda: self.run.resolved(
                self.now, self._one_of("delivered", "failed", "resend")
            ),
            "cancel": lambda: self.run.cancelled(self.now),
            "arrive late": self._arrive_late,
            "bounce": lambda: self._told("email.bounced", "intro", "more", None, kind="soft"),
            "hang up": lambda: self._told("call.completed", "call", None, outcome="busy"),
            "reply": lambda: self._told("email.replied", "more"),
            "click": lambda: self._told("email.clicked", "more"),
            "unsubscribe": lambda: self._told("email.unsubscribed", None),
        }

    def live(self) -> None:
        for _ in range(self.chance.randint(10, 200)):
            try:
                self._does[self._next()]()
            except InvalidTransition:
                continue

    def come_to_rest(self) -> None:
        """Nothing is due for ever without anything to do."""
        for _ in range(200):
            due, version = self.run.state.due_tick, self.run.state.version
            if due is None:
                return
            self.now = max(self.now, due)
            self.run.ticked(self.now, abandoned=True)
            assert self.run.state.version > version, "it is due and does nothing"
            if self.run.state.intent is not None:
                self._accepted()

    def _next(self) -> str:
        state = self.run.state
        if self._sometimes(0.02):
            return self._one_of(*RARE)
        if self._sometimes(0.25):
            return self._one_of(*ANY)
        stands = "sending" if state.intent is not None else state.hold
        stands = stands if stands in BY_STATE else state.status.value
        return self._one_of(*BY_STATE.get(stands, BY_STATE[""]))

    def _one_of(self, *several: Any) -> Any:
        return self.chance.choice(several)

    def _sometimes(self, how_often: float) -> bool:
        return self.chance.random() < how_often

    def _later(self) -> None:
        due = self.run.state.due_tick
        if due is not None and self._sometimes(0.8):
            self.now = max(self.now, due)
        else:
            self.now += self._one_of(1, self.hour, 5 * self.hour, 26 * self.hour)

    def _told(self, what: str, *about: str | None, **data: str) -> None:
        self.run.received(what, self.now, self._one_of(*about), **data)

    def _accepted(self) -> None:
        call = self.run.intent.channel == "voice"
        self.run.pending(self.now) if call else self.run.delivered(self.now)

    def _answer(self) -> None:
        if self.run.state.intent is None:
            return
        said = self._one_of(*["accepted"] * 6, "refused", "busy", "lost")
        if said == "accepted":
            self._accepted()
        elif said == "lost":
            self.run.unknown(self.now)
        else:
            self.run.failed(said, self.now, retryable=said == "busy")

    def _arrive_late(self) -> None:
        lost: Any = self.run.state.awaited
        if lost is not None:
            self.run.delivered(self.now, of=SimpleNamespace(key=lost.key, attempt=lost.attempt))  # type: ignore[arg-type]


def check(life: Life) -> None:
    """Every intent was settled once, before the next one; no key stands for two messages."""
    known: set[tuple[str, int]] = set()
    first: dict[str, int] = {}
    under_way: e.StepDispatched | None = None
    for recorded in life.run.history:
        event = recorded.event
        if isinstance(event, e.StepDispatched):
            assert under_way is None, f"{under_way} was not settled before {event}"
            assert (event.key, event.attempt) not in known, f"{event} is made twice"
            known.add((event.key, event.attempt))
            day = DAY_MS // life.resolution_ms
            assert recorded.meta.tick <= first.setdefault(event.key, recorded.meta.tick) + day or (
                not event.resend
            )
            under_way = event
        elif under_way is not None and isinstance(event, SETTLED):
            late, again = getattr(event, "late", False), getattr(event, "resend", False)
            if not late and (event.step_id, again) == (under_way.step_id, under_way.resend):
                under_way = None
    intent = life.run.state.intent
    assert (under_way and under_way.key) == (intent and intent.key)


@pytest.mark.parametrize("part", range(PART))
def test_every_send_is_settled_once(part: int) -> None:
    for seed in range(part, LIVES, PART):
        life = Life(seed)
        life.live()
        check(life)
        life.come_to_rest()
        check(life)
