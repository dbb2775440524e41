"""Any plan, and any life of a run of it; every event is held against what must always be true."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from hypothesis import strategies as st

from dee_es.core import codec
from dee_es.core import commands as c
from dee_es.core import events as e
from dee_es.core.builders import steps, transitions
from dee_es.core.plans.plan import ExecutionPlan, create_plan
from dee_es.core.runs.run import decide, fold
from dee_es.core.runs.state import Intent
from dee_es.errors import InvalidTransition
from tests.support.runs.given import Story, given

OPEN: Final = {"pending", "active", "waiting", "paused", "failed"}
WAITS: Final = {"WaitStarted", "StepPending", "StepRetried", "StepDeferred"}
GOES_ON: Final = {"WaitCompleted", "StepCompleted", "StepSkipped", "StepDispatched"}

TRANSITIONS: Final[dict[tuple[str | None, str], set[str]]] = {
    (None, "pending"): {"RunScheduled"},
    (None, "active"): {"RunStarted"},
    ("pending", "active"): {"RunStarted"},
    ("active", "waiting"): WAITS,
    ("waiting", "active"): GOES_ON,
    ("paused", "active"): {"RunResumed"},
    # The tick after a resume puts the run back to what it was waiting for.
    ("active", "pending"): {"RunScheduled"},
    ("failed", "active"): {"RunRetried", "StepResolved"},
    **{(status, "paused"): {"RunPaused"} for status in ("pending", "active", "waiting")},
    **{(status, "failed"): {"RunFailed"} for status in OPEN - {"failed"}},
    **{(status, "completed"): {"RunCompleted"} for status in OPEN},
    **{(status, "cancelled"): {"RunCancelled"} for status in OPEN},
}
"""Every change of status that the specification's table allows, and the events that make it."""


# --- any plan -------------------------------------------------------------------------------------

WHENS = [
    "events.hasReply(any)",
    "events.hasOpen(any)",
    "contact.bounced",
    "contact.unsubscribed",
    "variables.score > 3",
    'contact.attributes.tier == "gold"',
    "not events.hasClick(any)",
]


@st.composite
def plans(draw: st.DrawFn) -> ExecutionPlan:
    """Valid plans; every backward goto leads to a wait, so every cycle holds one."""
    size = draw(st.integers(1, 6))
    specs: list[dict[str, object]] = []
    edges: list[dict[str, str]] = []
    for n in range(size):
        kind = draw(st.sampled_from(["email", "email", "voice", "wait", "wait", "branch"]))
        if kind == "branch":
            waits = [str(spec["id"]) for spec in specs if spec["type"] == "wait"]
            targets = [*waits, *(f"s{target}" for target in range(n + 1, size + 1))]
            arm = st.builds(
                lambda when, goto: {"when": when, "goto": goto},
                st.sampled_from(WHENS),
                st.sampled_from(targets),
            )
            arms = draw(st.lists(arm, max_size=3))
            specs.append(steps.branch(f"s{n}", [*arms, {"when": "default", "goto": f"s{n + 1}"}]))
            continue
        edges.append({"from": f"s{n}", "to": f"s{n + 1}"})
        specs.append(
            {
                "email": steps.send_email(f"s{n}", "hello", "Hi"),
                "voice": steps.send_voice(f"s{n}", "script"),
                "wait": steps.wait(f"s{n}", {"seconds": draw(st.sampled_from([1, 30, 90]))}),
            }[kind]
        )
    specs.append(steps.end(f"s{size}", "over"))
    exits = draw(st.lists(st.sampled_from(WHENS[:-1]), unique=True, max_size=2))
    return create_plan(
        id="plan",
        name="Plan",
        steps=specs,
        transitions=transitions.explicit(edges),
        exit_conditions=[{"when": when, "outcome": f"exit: {when}"} for when in exits],
    ).with_version(1)


# --- any life -------------------------------------------------------------------------------------


class Watched(Story):
    """A story that holds every event against what must always be true."""

    def __init__(self, story: Story) -> None:
        super().__init__(story.materials, story.contact)
        self.sent: list[Intent] = []

    def _append(self, event: e.Event, meta: e.Meta) -> None:
        before = self.row if self.history else None
        super()._append(event, meta)
        source, row = before.status if before else None, self.row
        name = self.history[-1].name
        if row.status != source:
            assert name in TRANSITIONS.get((source, row.status), ()), (source, row.status, name)
        if before is not None:
            ended = source in ("completed", "cancelled")
            assert row.steps_completed - before.steps_completed in ((0,) if ended else (0, 1))
        assert row.steps_remaining >= 0
        assert (row.status in ("completed", "cancelled")) == (row.completed_tick is not None)
        if row.completed_tick is not None:
            assert (row.steps_remaining, row.current_step) == (0, None)
        else:
            assert row.steps_remaining > 0
        assert (row.resume_tick is None) == (row.status not in ("pending", "waiting"))
        if self.state.intent is not None and self.state.intent not in self.sent:
            self.sent.append(self.state.intent)

    def _decides(self, command: c.RunCommand) -> Story:
        again = self._elsewhere(command)
        try:
            super()._decides(command)
        except InvalidTransition as error:
            assert again == str(error)  # noqa: PT017
            raise
        assert again == [codec.encode(event, command.meta) for event in self.news]
        return self

    def _elsewhere(self, command: c.RunCommand) -> object:
        """What another process decides, which read plan and history from where they are stored."""
        given = self.materials
        definition = json.loads(json.dumps(given.plan.definition()))
        plan = ExecutionPlan.from_definition(definition, given.plan.version)
        materials = c.Materials(plan, given.templates, given.scripts, given.sender, given.scale)
        state = fold(self.history)
        assert state is not None
        try:
            events = decide(materials, state, command)
        except InvalidTransition as error:
            return str(error)
        return [codec.encode(event, command.meta) for event in events]


def run_of(plan: ExecutionPlan, draw: Callable[..., Any]) -> Watched:
    """A run of the plan that has just been enrolled, for a contact that may lack something."""
    story = given(
        plan,
        email=draw(st.sampled_from(["jane@example.com", "jane@example.com", None])),
        phone=draw(st.sampled_from(["+15550100", "+15550100", None])),
        variables={"score": draw(st.integers(0, 5))},
        attributes={"firstName": "Jane", "tier": draw(st.sampled_from(["gold", "tin"]))},
        resolution_ms=draw(st.sampled_from([1000, 60_000])),
    )
    run = Watched(story)
    run.enrolled(0, start=draw(st.sampled_from([None, None, 50])))
    return run


RESULTS = ["delivered", "delivered", "failed", "retryable", "pending", "unknown"]
EVENTS = [
    ("email.replied", {}),
    ("email.opened", {}),
    ("email.bounced", {"kind": "soft"}),
    ("email.bounced", {"kind": "hard"}),
    ("email.unsubscribed", {}),
    ("call.completed", {"outcome": "busy"}),
    ("call.voicemail", {}),
]
LEVELS = [[], [], [], [("global", "")], [("channel", "email")]]


def tick(run: Watched, draw: Callable[..., Any]) -> None:
    """The scheduler looks, when the run is due or at any other time."""
    due = run.state.due_tick
    now = run.now if due is None or draw(st.booleans()) else max(due, run.now)
    run.ticked(now, suppressed=draw(st.sampled_from(LEVELS)), abandoned=draw(st.booleans()))


def result(run: Watched, draw: Callable[..., Any]) -> None:
    """A channel tells of a send, of this one or of an earlier one."""
    if not run.sent:
        return
    of = run.sent[-1] if draw(st.integers(0, 3)) else draw(st.sampled_from(run.sent))
    kind = draw(st.sampled_from(RESULTS))
    if kind in ("failed", "retryable"):
        run.failed("refused", run.now, retryable=kind == "retryable", of=of)
    elif kind == "delivered":
        run.delivered(run.now, of=of)
    elif run.state.intent is not None:
        (run.pending if kind == "pending" else run.unknown)(run.now)


def event(run: Watched, draw: Callable[..., Any]) -> None:
    """A channel event arrives."""
    kind, data = draw(st.sampled_from(EVENTS))
    named = [None, *(step.id for step in run.materials.plan.steps)]
    run.received(kind, run.now, draw(st.sampled_from(named)), **data)


def command(run: Watched, draw: Callable[..., Any]) -> None:
    """Somebody asks for something, which the run's status allows or does not."""
    name, act = draw(st.sampled_from(sorted(COMMANDS.items())))
    status, unknown = run.row.status, run.state.unknown
    allowed = {
        "pause": status in ("pending", "active", "waiting"),
        "resume": status == "paused",
        "cancel": status in OPEN,
        "retry": status == "failed" and not unknown,
        "resolve": status == "failed" and unknown,
    }[name.partition(" ")[0]]
    before = len(run.history)
    try:
        act(run)
    except InvalidTransition:
        assert not allowed, f"{name} on a run that is {status}"
        assert len(run.history) == before
    else:
        assert allowed, f"{name} on a run that is {status}"
        assert len(run.history) == before + 1


COMMANDS: Final[dict[str, Callable[[Watched], Story]]] = {
    "pause keeping the deadline": lambda run: run.paused(run.now),
    "pause keeping the rest": lambda run: run.paused(run.now, keep="remaining"),
    "resume": lambda run: run.resumed(run.now),
    "resume for later": lambda run: run.resumed(run.now, after=40),
    "cancel": lambda run: run.cancelled(run.now),
    "retry": lambda run: run.retried(run.now),
    "resolve as delivered": lambda run: run.resolved(run.now, "delivered"),
    "resolve as failed": lambda run: run.resolved(run.now, "failed"),
    "resolve by sending again": lambda run: run.resolved(run.now, "resend"),
}


ACTIONS: Final = (tick, tick, tick, result, result, event, command)
"""What may happen next, the more often the more often it is listed."""


def live_on(run: Watched, draw: Callable[..., Any]) -> None:
    """Some time passes, and something happens to the run."""
    run.now += draw(st.sampled_from([0, 0, 1, 30, 90, 100_000]))
    draw(st.sampled_from(ACTIONS))(run, draw)
