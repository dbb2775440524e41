"""Given a plan, when this happens to a run of it, then these events follow.

    given(plan).enrolled().ticked(0).delivered(0).then(StepCompleted("intro", "delivered"), ...)

Every event goes through its stored form. After each one the state that the decision saw has to be
the one that the stored history folds to, and the run list's row has to show that state.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from dee_es.core import codec
from dee_es.core import commands as c
from dee_es.core import events as e
from dee_es.core.clock import TimeScale
from dee_es.core.gate import Snapshot, SuppressionFact, ZoneRules, read_policy
from dee_es.core.ids import run_id
from dee_es.core.plans.plan import ExecutionPlan, create_plan
from dee_es.core.registry import NAMES
from dee_es.core.runs.run import RunState, decision, enroll, evolve, fold
from dee_es.core.runs.state import Intent
from dee_es.core.views import RunRow
from dee_es.engine.queries import row_of
from dee_es.errors import InvalidTransition
from projections import RUN_LIST

EPOCH = datetime(2025, 1, 1, tzinfo=UTC)
ORDINAL = 7
_MOST_PASSES = 50
"""More passes than any tick of a test needs; a tick that takes more never ends."""

Expected = e.Event | type[e.Event]


def plan_of(
    *specs: Mapping[str, object],
    exits: Mapping[str, str] | None = None,
    transitions: Mapping[str, object] | None = None,
    id: str = "plan",
) -> ExecutionPlan:
    """Version 1 of a plan; `exits` maps conditions to outcomes."""
    conditions = [{"when": when, "outcome": outcome} for when, outcome in (exits or {}).items()]
    made = create_plan(
        id=id, name="Plan", steps=specs, transitions=transitions, exit_conditions=conditions
    )
    return made.with_version(1)


def given(
    plan: ExecutionPlan,
    *,
    email: str | None = "jane@example.com",
    phone: str | None = "+15550100",
    attributes: Mapping[str, Any] | None = None,
    variables: Mapping[str, Any] | None = None,
    template: Mapping[str, Any] | None = None,
    sender: Mapping[str, Any] | None = None,
    resolution_ms: int = 1000,
) -> Story:
    """A contact that can be enrolled in `plan`; every template of it is `template`."""
    template = template or {"text": "Hello {{contact.firstName}}"}
    script = {"greeting": "Hello {{contact.firstName}}", "steps": []}
    materials = c.Materials(
        plan,
        dict.fromkeys(plan.graph.templates, template),
        dict.fromkeys(plan.graph.scripts, script),
        sender,
        TimeScale(EPOCH, resolution_ms),
    )
    attributes = {"firstName": "Jane"} if attributes is None else dict(attributes)
    contact = e.Enrolled(email, phone, "Europe/Vienna", attributes, dict(variables or {}))
    return Story(materials, contact)


class Story:
    """One run and all that has happened to it. Every action returns the story itself."""

    def __init__(self, materials: c.Materials, contact: e.Enrolled) -> None:
        self.materials = materials
        self.contact = contact
        self.run_id = run_id(materials.plan.id, "contact", 1)
        self.history: list[e.RecordedEvent] = []
        self.news: list[e.Event] = []
        self.now = 0
        self._state: RunState | None = None
        self._stored: RunState | None = None
        self._row: RunRow | None = None
        self._commands = 0
        self._key_destroyed = False
        self._zone: ZoneRules | None = None

    # --- what is known --------------------------------------------------------------------------

    @property
    def state(self) -> RunState:
        """The run as it stands."""
        assert self._state is not None, "the story has to begin with `enrolled`"
        return self._state

    @property
    def row(self) -> RunRow:
        """The run as the list shows it."""
        assert self._row is not None, "the story has to begin with `enrolled`"
        return self._row

    @property
    def intent(self) -> Intent:
        """The send that is under way."""
        assert self.state.intent is not None, "nothing is being sent"
        return self.state.intent

    @property
    def timeline(self) -> list[tuple[int, str, str | None]]:
        """Tick, event and step of all that happened."""
        return [
            (each.meta.tick, each.name, getattr(each.event, "step_id", None))
            for each in self.history
        ]

    # --- when -----------------------------------------------------------------------------------

    def under(self, policy: Mapping[str, Any] | None, zone: ZoneRules | None = None) -> Story:
        """From here on this policy is asked about the run's sends; `zone` is the contact's own."""
        self._zone = zone
        read = None if policy is None else read_policy(policy)
        self.materials = dataclasses.replace(self.materials, policy=read)
        return self

    def enrolled(
        self, tick: int = 0, start: int | None = None, pins: e.Pins | None = None
    ) -> Story:
        """The run is created, to act from `start` on."""
        meta = self._meta("execute", tick)
        command = c.Enroll(meta, self.run_id, "contact", 1, self.contact, pins or e.Pins(), start)
        return self._happens(enroll(self.materials, command), meta)

    def ticked(
        self,
        tick: int,
        *,
        suppressed: Sequence[tuple[str, str]] = (),
        abandoned: bool = False,
        lease_epoch: int = 1,
    ) -> Story:
        """The scheduler looks at the run once; `suppressed` are (level, scope)."""
        meta = self._meta("tick", tick)
        facts = tuple(SuppressionFact(*each) for each in suppressed)
        scale, plan_id = self.materials.scale, self.materials.plan.id
        snapshots = {
            channel: Snapshot(
                meta.tick,
                scale,
                channel,
                plan_id,
                facts,
                zone=self._zone,
                contact_id="contact",
                sender="default",
            )
            for channel in ("email", "voice")
        }
        return self._decides(c.Advance(meta, snapshots, lease_epoch, abandoned))

    def ran_until(self, tick: int) -> Story:
        """The scheduler does all that is due up to `tick`; every message arrives at once."""
        found: list[e.Event] = []
        while (due := self.state.due_tick) is not None and due <= tick:
            self.now = max(due, self.now)
            for _ in range(_MOST_PASSES):
                found += self.ticked(self.now).news
                if self.state.intent is not None:
                    found += self.delivered().news
                if self.state.due_tick is None or self.state.due_tick > self.now:
                    break
            else:
                raise AssertionError(f"tick {self.now} never ends: {self.timeline[-9:]}")
        self.now, self.news = tick, found
        return self

    def delivered(self, tick: int | None = None, of: Intent | None = None) -> Story:
        """The channel delivered what is being sent, or the attempt `of` that was sent before."""
        return self._result("delivered", tick, of, message_id="msg_1")

    def failed(
        self,
        error: str = "refused",
        tick: int | None = None,
        *,
        retryable: bool = False,
        ours: bool = False,
        of: Intent | None = None,
        detail: e.Detail | None = None,
    ) -> Story:
        """The channel could not send it."""
        return self._result(
            "failed", tick, of, error=error, retryable=retryable, ours=ours, detail=detail
        )

    def pending(self, tick: int | None = None, of: Intent | None = None) -> Story:
        """The channel took it and will report later."""
        return self._result("pending", tick, of, message_id="msg_1")

    def unknown(
        self, tick: int | None = None, error: str = "connection lost", of: Intent | None = None
    ) -> Story:
        """The channel cannot say whether it was sent."""
        return self._result("unknown", tick, of, error=error)

    def received(self, kind: str, tick: int, /, step: str | None = None, **data: Any) -> Story:
        """A channel event reaches the run."""
        meta = self._meta("ingest_event", tick)
        detail = e.Detail(data) if data else None
        event_id = f"event_{len(self.history)}"
        return self._decides(c.ReceiveEvent(meta, kind, event_id, tick, step, detail))

    def paused(self, tick: int, keep: Any = "deadline", reason: str | None = None) -> Story:
        """Somebody pauses the run."""
        return self._decides(c.Pause(self._meta("pause_run", tick, reason), keep))

    def resumed(self, tick: int, after: int = 1) -> Story:
        """Somebody resumes it, to act from `after` ticks later on."""
        return self._decides(c.Resume(self._meta("resume_run", tick), after))

    def cancelled(self, tick: int, reason: str | None = "no longer wanted") -> Story:
        """Somebody cancels it."""
        return self._decides(c.Cancel(self._meta("cancel_run", tick, reason)))

    def erasing(self, tick: int) -> Story:
        """The contact is being erased; its key is still there."""
        return self._decides(c.Erase(self._meta("erase", tick, "asked in writing")))

    def erasing_formerly(self, tick: int) -> Story:
        """The contact is being erased by code that always cancelled."""
        return self._decides(c.Cancel(self._meta("erase", tick, "asked in writing"), "erasure"))

    def retried(self, tick: int, pins: e.Pins | None = None) -> Story:
        """Somebody retries it."""
        return self._decides(c.Retry(self._meta("retry_run", tick, "try again"), pins))

    def resolved(self, tick: int, outcome: Any) -> Story:
        """Somebody settles its unknown outcome."""
        return self._decides(c.Resolve(self._meta("resolve_step", tick, "asked them"), outcome))

    def erased(self) -> Story:
        """The contact's key is destroyed, and with it all that is personal in the history."""
        self._key_destroyed = True
        self.history = [self._without_key(each) for each in self.history]
        self._state = self._stored = fold(self.history)
        self.news = []
        return self

    # --- then -----------------------------------------------------------------------------------

    def then(self, *expected: Expected) -> Story:
        """The last action led to exactly these events, each given whole or by its class."""
        same = len(self.news) == len(expected) and all(
            _fits(event, each) for event, each in zip(self.news, expected, strict=True)
        )
        if not same:
            wanted = "\n  ".join(map(_shown, expected)) or "nothing"
            got = "\n  ".join(map(_shown, self.news)) or "nothing"
            pytest.fail(f"expected\n  {wanted}\nbut got\n  {got}", pytrace=False)
        return self

    def stands(self, status: str, **fields: object) -> Story:
        """The run, as the list shows it, has this status and these fields."""
        expected = {"status": status, **fields}
        got = {name: getattr(self.row, name) for name in expected}
        assert got == expected, f"expected {expected}, but the run has {got}"
        return self

    def due(self, tick: int | None) -> Story:
        """The scheduler has to look at the run at `tick` next; None if it has not to."""
        assert self.state.due_tick == tick, f"due at {self.state.due_tick}, not at {tick}"
        return self

    def rests(self) -> Story:
        """Nothing is left to do for the scheduler, but to say what became of an open send."""
        return self.due(None if self.state.intent is None else self.intent.tick)

    def refuses(self, target: str, action: Callable[[Story], Story]) -> Story:
        """The action raises `InvalidTransition` to `target`, and writes nothing."""
        before, state = len(self.history), self.state
        with pytest.raises(InvalidTransition) as caught:
            action(self)
        error = caught.value
        found = (error.run_id, error.source, error.target)
        assert found == (self.run_id, state.status.value, target), str(error)
        assert all(part in str(error) for part in found), str(error)
        assert len(self.history) == before, "something was written"
        assert self.state == state
        return self

    # --- how ------------------------------------------------------------------------------------

    def _meta(self, command: str, tick: int, reason: str | None = None) -> e.Meta:
        self._commands += 1
        self.now = tick
        return e.Meta(tick, f"cmd_{self._commands}", command, 0, None, reason)

    def _result(self, status: Any, tick: int | None, of: Intent | None, **fields: Any) -> Story:
        sent = of or self.intent
        meta = self._meta("result", self.now if tick is None else tick)
        return self._decides(c.RecordResult(meta, sent.key, sent.attempt, status, **fields))

    def _decides(self, command: c.RunCommand) -> Story:
        steps = decision(self.materials, self.state, command)
        self._happens(steps.events, command.meta)
        if not self._key_destroyed:
            # The engine goes on from that state without reading the stream again.
            assert steps.state == self._state, "the decision led to another state than its events"
        return self

    def _happens(self, events: Sequence[e.Event], meta: e.Meta) -> Story:
        for event in events:
            self._append(event, meta)
        self.news = list(events)
        return self

    def _append(self, event: e.Event, meta: e.Meta) -> None:
        version = len(self.history) + 1
        name, public, personal = codec.encode(event, meta)
        stored, stored_meta = codec.decode(name, public, personal, "stored")
        assert (stored, stored_meta) == (event, meta), f"{name} is not stored as it is"
        ordinal = ORDINAL if version == 1 else 0
        recorded = e.RecordedEvent(
            self.run_id, version, name, version, stored_meta, stored, ordinal
        )
        if self._key_destroyed:
            recorded = self._without_key(recorded)
        self.history.append(recorded)
        # Live, the engine follows the event that was decided; later, the one that it stored.
        live = recorded if self._key_destroyed else replace(recorded, event=event)
        before, as_it_was = self._state, repr(self._state)
        self._state = evolve(before, live)
        assert repr(before) == as_it_was, f"{name} changed the state that it followed"
        self._stored = evolve(self._stored, recorded)
        assert self._state == self._stored, f"{name}: live and folded state differ"
        # Projections see no personal data.
        bare, bare_meta = codec.decode(name, public, None, "stored")
        plain = e.RecordedEvent(self.run_id, version, name, version, bare_meta, bare, ordinal)
        self._row = RUN_LIST.fold(self._row, plain)
        shown = row_of(self._state, ORDINAL)
        assert self._row == shown, f"after {name} the list shows\n{self._row}\nand not\n{shown}"

    @staticmethod
    def _without_key(recorded: e.RecordedEvent) -> e.RecordedEvent:
        name, public, personal = codec.encode(recorded.event, recorded.meta)
        event, meta = codec.decode(name, public, None, "stored")
        return e.RecordedEvent(
            recorded.stream_id,
            recorded.version,
            name,
            recorded.position,
            meta,
            event,
            recorded.ordinal,
            erased=bool(personal) or recorded.erased,
        )


def _fits(event: e.Event, expected: Expected) -> bool:
    return type(event) is expected if isinstance(expected, type) else event == expected


def _shown(event: Expected) -> str:
    return NAMES[event] if isinstance(event, type) else str(event)
