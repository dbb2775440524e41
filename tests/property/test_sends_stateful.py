"""Random lives of a few contacts under a policy, with crashes: no send that should not have been.

Every send that a scripted channel sees is judged by a model that knows only what was commanded.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dee_es import Engine, EngineConfig, ExecutionRun, create_plan, steps
from dee_es.adapters.keys import open_memory_keys, open_sqlite_keys
from dee_es.core.events import StepRetried
from dee_es.core.runs.advance import Steps
from dee_es.engine.facade import EngineApi
from dee_es.errors import (
    AlreadyEnrolled,
    ContactSuppressed,
    InvalidInput,
    InvalidTransition,
    StoreUnavailable,
)
from dee_es.ports import Action, ChannelResult, Committed, Conflict, SendContext
from tests.support.by_hand.funnel import assert_funnels_add_up
from tests.support.channels.send_model import Person, Rules, SendModel
from tests.support.counts import count
from tests.support.engines import (
    DAY,
    assert_replays,
    calling,
    database_url,
    master_of,
    open_engine,
    outreach,
    publish_basics,
)

PEOPLE: Final = {
    each.id: each
    for each in (
        Person("ada", "Ada@One.example", "+15550001", "Europe/Berlin"),
        Person("ben", "ben@one.example", "+15550002", "America/New_York"),
        Person("cyd", "cyd@two.example", "+15550003", "Australia/Lord_Howe"),
        Person("dan", "dan@two.example", "+15550004", "America/Santiago"),
        Person("eve", "eve@two.example", "+15550005", None),
        Person("fay", "fay@one.example", "+15550006", "Mars/Olympus"),
        # The same mailbox as the first, under another id.
        Person("gil", "ada@one.example", "+15550007", "Pacific/Auckland"),
    )
}
PLANS: Final = {
    "outreach": outreach(),
    "calling": calling(),
    "burst": create_plan(
        id="burst",
        name="Three in a row",
        steps=[
            steps.send_email("one", "intro", "One"),
            steps.send_email("two", "follow", "Two"),
            steps.send_email("three", "intro", "Three"),
        ],
    ),
}
# Each a few days before clocks change: in New York, Berlin, Lord Howe, both of those in autumn.
EPOCHS: Final = [
    datetime(2026, month, day, tzinfo=UTC)
    for month, day in [(3, 6), (3, 27), (4, 3), (10, 2), (10, 23), (10, 30)]
]
STEPS: Final = [1, 61, 3600, 6 * 3600, DAY, DAY + 1, 3 * DAY, 7 * DAY, 21 * DAY]
# Often enough, long enough for a whole plan.
LONG_STEPS: Final = [DAY, 2 * DAY, 4 * DAY]
MOODS: Final = [
    *["deliver"] * 9,
    "refuse",
    "reject",
    "unknown",
    "raise",
    "die before",
    "die after",
    "die at commit",
    "interrupt",
    "lose commit",
    "lose answer",
    "pause",
    "cancel",
]
EVERY_DAY: Final = frozenset(range(7))
PAUSABLE: Final = {"pending", "active", "waiting"}
ENDED: Final = {"completed", "cancelled"}
# Where time alone can bring a run from each status.
BY_TIME: Final = {
    "pending": {"pending", "active", "waiting", "failed", "completed"},
    # After a resume, the tick puts a run back to what it waited for, its start too.
    "active": {"pending", "active", "waiting", "failed", "completed"},
    "waiting": {"active", "waiting", "failed", "completed"},
    "paused": {"paused", "failed", "completed"},
    "failed": {"failed", "completed"},
    "completed": {"completed"},
    "cancelled": {"cancelled"},
}
people = st.sampled_from(sorted(PEOPLE))
plans = st.sampled_from(sorted(PLANS))
either = st.sampled_from([0, 1])
Outcome = Literal["delivered", "failed", "resend"]
outcomes: st.SearchStrategy[Outcome] = st.sampled_from(["delivered", "failed", "resend", "resend"])
rules = st.builds(
    Rules,
    opens=st.sampled_from([(9, 0), (0, 0), (0, 30), (2, 15)]),
    closes=st.sampled_from([(17, 0), (24, 0), (3, 15), (20, 0)]),
    weekdays=st.sampled_from([EVERY_DAY, EVERY_DAY, EVERY_DAY - {5, 6}, frozenset({5, 6})]),
    holiday=st.sampled_from(["2026-03-29", "2026-10-25"]),
    default_zone=st.sampled_from(["Europe/Lisbon", None]),
    purpose=st.sampled_from([None, "news"]),
    per_channel=st.integers(2, 9),
    per_domain=st.integers(2, 5),
    per_contact=st.integers(1, 3),
).filter(lambda made: made.opens < made.closes)


class PowerCut(BaseException):
    """Ends an engine where it stands, past everything that handles errors."""


class Interrupted(BaseException):
    """Ends what an engine is doing, as Ctrl-C would; the engine lives on."""


class ScriptedChannel:
    """Does what `moods` say, in order, and then delivers; tells the model of every attempt."""

    name = "scripted"
    kinds = frozenset({"email", "voice"})

    def __init__(self, model: SendModel) -> None:
        self.model = model
        self.moods: list[str] = []
        self.at_commit: str | None = None
        self.meddle: Callable[[str, str], None] = lambda mood, run: None

    def send(self, action: Action, context: SendContext) -> ChannelResult:
        """Judge the attempt, then answer it."""
        mood = self.moods.pop(0) if self.moods else "deliver"
        tick = context.time_ms // 1000 - int(self.model.epoch.timestamp())
        self.model.sent(action, tick, arrives=mood not in ("refuse", "reject"))
        if mood in ("refuse", "reject"):
            return ChannelResult("failed", error=mood, retryable=mood == "refuse")
        if mood in ("die before", "die after"):
            raise PowerCut
        if mood == "interrupt":
            raise Interrupted
        if mood == "raise":
            raise OSError("the line went dead")
        if mood in ("die at commit", "lose commit", "lose answer"):
            self.at_commit = mood
        if mood in ("pause", "cancel"):
            self.meddle(mood, action.run_id)
        if mood == "unknown":
            return ChannelResult("unknown", error="who knows")
        return ChannelResult("pending" if action.channel == "voice" else "delivered")

    def close(self) -> None:
        """Nothing to release."""


class Sends(RuleBasedStateMachine):
    """Two engines on one database, whose sends are judged by the model."""

    kind: str
    fresh_postgres: Callable[[], str]
    replayed_at_the_end = True

    @initialize(rules=rules, epoch=st.sampled_from(EPOCHS), unasked=st.sets(people, max_size=2))
    def begin(self, rules: Rules, epoch: datetime, unasked: set[str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dee-sends-"))
        self.url = database_url(self.kind, self.folder, type(self).fresh_postgres)
        self.model = SendModel(epoch, rules)
        self.channel = ScriptedChannel(self.model)
        self.channel.meddle = self.meddle
        self.engines: list[EngineApi] = []
        for _ in range(2):
            self.engines.append(self.opened())
        publish_basics(self.first)
        self.first.publish_policy(rules.definition())
        self.now = 0
        self.number = 0
        self.checked = 0
        self.stream_ticks: dict[str, int] = {}
        self.statuses: dict[str, str] = {}
        for who in sorted(PEOPLE.keys() - unasked):
            self.grant(0, who, rules.purpose, None)
        self.bulk_execute(0, set(PEOPLE), "burst")

    # --- engines ----------------------------------------------------------------------------------

    def opened(self) -> EngineApi:
        """An engine that knows only what is in the database."""
        if self.kind == "memory" and self.engines:
            return EngineApi(self.engines[0]._parts)
        keys = self.folder / "keys.db"
        engine = Engine(
            EngineConfig(self.url, clock="manual", epoch=self.model.epoch, max_concurrent_sends=1),
            channels={"email": self.channel, "voice": self.channel},
            keys=open_memory_keys()
            if self.kind == "memory"
            else open_sqlite_keys(str(keys), master_of(keys)),
        )
        store: Any = engine._parts.store
        commit = store.commit

        def committed(*args: Any, **options: Any) -> list[Committed | Conflict]:
            fate, self.channel.at_commit = self.channel.at_commit, None
            if fate == "die at commit":
                raise PowerCut
            if fate == "lose commit":
                raise StoreUnavailable("the database went away")
            answer = commit(*args, **options)
            if fate == "lose answer":
                raise StoreUnavailable("the database took it and went away")
            return list(answer)

        store.commit = committed
        return engine

    @property
    def first(self) -> EngineApi:
        return self.engines[0]

    def abandon(self, at: int) -> None:
        """Open an engine in the place of one that has died."""
        if self.kind != "memory":
            self.engines[at].close()
        self.engines[at] = self.opened()

    @contextmanager
    def dying(self, at: int) -> Iterator[None]:
        """The engine may lose its database in the block, or die."""
        self.channel.at_commit = None
        try:
            yield
        except PowerCut:
            self.abandon(at)
        except (Interrupted, StoreUnavailable):
            pass
        finally:
            self.channel.moods.clear()
            self.channel.at_commit = None

    def run_at(self, number: int) -> ExecutionRun | None:
        runs = self.all_runs()
        return runs[number % len(runs)] if runs else None

    def all_runs(self) -> tuple[ExecutionRun, ...]:
        return self.first.list_runs(limit=1000).runs

    # --- commands ---------------------------------------------------------------------------------

    @rule(at=either, who=people, plan=plans, ahead=st.sampled_from([0, 0, 3600, 2 * DAY]))
    def execute(self, at: int, who: str, plan: str, ahead: int) -> None:
        engine = self.engines[at]
        start = engine.clock.time(engine.clock.refresh() + ahead) if ahead else None
        with suppress(AlreadyEnrolled, ContactSuppressed):
            run = engine.execute(PLANS[plan], _given(PEOPLE[who]), start_at=start)
            self.model.enroll(run.id, plan, PEOPLE[who])
            self.statuses[run.id] = run.status

    @rule(at=either, who=st.sets(people, min_size=1), plan=plans)
    def bulk_execute(self, at: int, who: set[str], plan: str) -> None:
        given = [_given(PEOPLE[each]) for each in sorted(who)]
        result = self.engines[at].bulk_execute(PLANS[plan], given, batch_size=2)
        assert result.done == len(given)
        for run in self.all_runs():
            if run.id not in self.model.runs:
                self.model.enroll(run.id, run.plan_id, PEOPLE[run.contact_id])
                self.statuses[run.id] = run.status

    @rule(
        at=either,
        number=st.integers(0, 50),
        what=st.sampled_from(["pause", "resume", "resume", "cancel", "retry", "resolve"]),
        keep=st.sampled_from(["deadline", "remaining"]),
        outcome=outcomes,
    )
    def command(
        self,
        at: int,
        number: int,
        what: str,
        keep: Literal["deadline", "remaining"],
        outcome: Outcome,
    ) -> None:
        run = self.run_at(number)
        if run is None:
            return
        engine = self.engines[at]
        acts: dict[str, Callable[[], ExecutionRun]] = {
            "pause": lambda: engine.pause_run(run.id, keep=keep),
            "resume": lambda: engine.resume_run(run.id),
            "cancel": lambda: engine.cancel_run(run.id, "enough"),
            "retry": lambda: engine.retry_run(run.id, "again"),
            "resolve": lambda: engine.resolve_step(run.id, outcome, reason="asked them"),
        }
        unknown = run.id in self.model.unknown
        allowed = {
            "pause": run.status in PAUSABLE,
            "resume": run.status == "paused",
            "cancel": run.status not in ENDED,
            "retry": run.status == "failed" and not unknown,
            "resolve": run.status == "failed" and unknown,
        }
        reached = {"pause": "paused", "cancel": "cancelled"}.get(what, "active")
        if what == "resolve" and outcome == "failed":
            reached = "failed"
        lost = self.first._runs.load(run.id).state.unknown
        try:
            after = acts[what]()
        except InvalidTransition:
            assert not allowed[what], (what, run)
            assert engine.get_run(run.id) == run
            return
        assert allowed[what], (what, run)
        assert after.status == reached
        self.statuses[run.id] = after.status
        if what == "resolve":
            self.model.unknown.discard(run.id)
            if outcome != "delivered" and lost is not None:
                self.model.settled[run.id, lost.step_id] += 1

    @precondition(lambda self: self.model.unknown)
    @rule(at=either, number=st.integers(0, 50), outcome=outcomes)
    def settle(self, at: int, number: int, outcome: Outcome) -> None:
        """Resolve a run whose outcome is unknown, which a random command seldom meets."""
        unknown = sorted(self.model.unknown)
        numbers = {run.id: number for number, run in enumerate(self.all_runs())}
        chosen = numbers[unknown[number % len(unknown)]]
        self.command(at, chosen, "resolve", "deadline", outcome)

    @rule(at=either, plan=plans, what=st.sampled_from(["pause", "resume", "resume", "cancel"]))
    def bulk(self, at: int, plan: str, what: str) -> None:
        before = {run.id: run.status for run in self.all_runs() if run.plan_id == plan}
        wanted = {"pause": PAUSABLE, "resume": {"paused"}}.get(
            what, {status for status in BY_TIME if status not in ENDED}
        )
        engine = self.engines[at]
        if what == "pause":
            result = engine.bulk_pause({"plan_id": plan}, "slowly")
        elif what == "resume":
            result = engine.bulk_resume({"plan_id": plan}, "on", per_tick=2)
        else:
            result = engine.bulk_cancel({"plan_id": plan}, "enough")
        matched = {run for run, status in before.items() if status in wanted}
        assert (result.matched, result.changed) == (len(matched), len(matched))
        reached = {"pause": "paused", "resume": "active", "cancel": "cancelled"}[what]
        for run in before:
            status = reached if run in matched else before[run]
            assert engine.get_run(run).status == status
            self.statuses[run] = status

    @rule(
        at=either,
        who=people,
        by=st.sampled_from(["id", "email", "both", "phone"]),
        level=st.sampled_from(["channel", "plan", "global", "regulatory"]),
        channel=st.sampled_from(["email", "voice"]),
        plan=plans,
        on=st.booleans(),
    )
    def suppression(
        self, at: int, who: str, by: str, level: Any, channel: Any, plan: str, on: bool
    ) -> None:
        person = PEOPLE[who]
        about: dict[str, Any] = {"level": level}
        scope = ""
        if level == "channel":
            about["channel"] = scope = channel
        if level == "plan":
            about["plan_id"], scope = plan, f"plan {plan}"
        if by in ("id", "both"):
            about["contact_id"] = who
        if by in ("email", "both"):
            about["email"] = person.email.swapcase()
        if by == "phone":
            about["phone"] = person.phone
        named = {"id": who, "both": who, "email": person.email.lower(), "phone": person.phone}[by]
        subjects = {named, person.email.lower()} if by == "both" else {named}
        if by in ("id", "both"):
            subjects |= self.model.enrolled.get(who, set())
        if on:
            self.engines[at].suppress(**about)
            self.model.suppress(named, level, scope, subjects)
        else:
            lifted = self.engines[at].unsuppress(**about)
            known = self.model.suppressed.pop((named, level, scope), None)
            assert lifted == (known is not None)

    @rule(
        at=either,
        who=people,
        purpose=st.sampled_from([None, "news"]),
        lasts=st.sampled_from([None, None, 60, DAY, 5 * DAY]),
    )
    def grant(self, at: int, who: str, purpose: str | None, lasts: int | None) -> None:
        engine = self.engines[at]
        ends = None if lasts is None else engine.clock.refresh() + lasts
        until = None if ends is None else engine.clock.time(ends)
        engine.grant_consent(who, "email", purpose=purpose, expires_at=until)
        self.model.consents[who, purpose] = ends

    @rule(at=either, who=people, purpose=st.sampled_from([None, "news"]))
    def revoke(self, at: int, who: str, purpose: str | None) -> None:
        self.engines[at].revoke_consent(who, "email", purpose=purpose)
        for each in (purpose,) if purpose else (None, "news"):
            self.model.consents.pop((who, each), None)

    @rule(
        at=either,
        who=people,
        event=st.sampled_from(
            [
                ("email.opened", {}),
                ("email.replied", {}),
                ("email.bounced", {"kind": "soft"}),
                ("email.bounced", {"kind": "hard"}),
                ("email.unsubscribed", {}),
                ("email.complained", {}),
                *[("call.completed", {"outcome": "answered"})] * 5,
                ("call.failed", {}),
            ]
        ),
        step=st.sampled_from([None, "intro", "call", "one"]),
        again=st.booleans(),
        ago=st.sampled_from([0, 60, DAY]),
    )
    def channel_event(
        self,
        at: int,
        who: str,
        event: tuple[str, dict[str, str]],
        step: str | None,
        again: bool,
        ago: int,
    ) -> None:
        kind, data = event
        engine = self.engines[at]
        again = again and self.number > 0
        self.number += not again
        when = engine.clock.time(max(0, engine.clock.now() - ago))
        accepted = engine.ingest_event(
            kind, who, None, step, data, when, event_id=f"event_{self.number}"
        )
        assert accepted != again
        ends = {
            "email.unsubscribed": ("global", ""),
            "email.complained": ("regulatory", ""),
            "email.bounced": ("channel", "email") if data.get("kind") == "hard" else None,
        }.get(kind)
        if accepted and ends is not None:
            self.model.suppress(who, *ends, {who} | self.model.enrolled.get(who, set()))
        if accepted and data.get("kind") == "soft":
            self.model.bounced_softly(who, step)
        for run in self.all_runs():
            self.statuses[run.id] = _only(run, self.statuses[run.id], {"active", *ENDED})

    # --- time -------------------------------------------------------------------------------------

    @rule(at=either, ticks=st.sampled_from(STEPS), moods=st.lists(st.sampled_from(MOODS)))
    def run_on(self, at: int, ticks: int, moods: list[str]) -> None:
        self.let_pass(at, moods, lambda engine: engine.run_until(engine.clock.refresh() + ticks))

    @rule(at=either, ticks=st.sampled_from(LONG_STEPS), moods=st.lists(st.sampled_from(MOODS)))
    def run_far(self, at: int, ticks: int, moods: list[str]) -> None:
        self.run_on(at, ticks, moods)

    @rule(at=either, moods=st.lists(st.sampled_from(MOODS)))
    def tick(self, at: int, moods: list[str]) -> None:
        self.let_pass(at, moods, lambda engine: engine.tick())

    def let_pass(self, at: int, moods: list[str], act: Callable[[EngineApi], object]) -> None:
        self.channel.moods = list(moods)
        self.meddler = 1 - at
        with self.dying(at):
            act(self.engines[at])
        for run in self.all_runs():
            # The channel itself may have paused or cancelled it.
            meddled = {"pause": {"paused"}, "cancel": {"cancelled"}}
            extra = set().union(*(meddled.get(mood, set()) for mood in moods))
            before = self.statuses[run.id]
            extra = extra if before in PAUSABLE else set()
            self.statuses[run.id] = _only(run, before, BY_TIME[before] | extra)
            reason = run.status_reason or ""
            if run.status == "failed" and reason.startswith("outcome unknown"):
                self.model.unknown.add(run.id)

    def meddle(self, mood: str, run_id: str) -> None:
        """Command a run while its message is under way."""
        engine = self.engines[self.meddler]
        with suppress(InvalidTransition):
            if mood == "pause":
                engine.pause_run(run_id)
            else:
                engine.cancel_run(run_id, "in the middle of it")

    @rule(at=either)
    def nothing_stays_open(self, at: int) -> None:
        """After a tick of an engine that does not die no run that may act has an open intent."""
        self.let_pass(at, [], lambda engine: engine.tick())
        runs = [run.id for run in self.all_runs() if run.status in PAUSABLE]
        loaded = self.first._runs.load_many(runs)
        assert not [run for run, each in loaded.items() if each.state.intent is not None]

    @rule(at=either)
    def die_idle(self, at: int) -> None:
        self.abandon(at)

    @rule(at=either, back=st.integers(1, 30 * DAY))
    def time_goes_back(self, at: int, back: int) -> None:
        engine = self.engines[at]
        now = engine.clock.refresh()
        with pytest.raises(InvalidInput, match="has passed"):
            engine.run_until(now - back)
        assert engine.clock.move_to(now - back) == now
        assert engine._parts.store.advance_clock(max(0, now - back)) == now
        if now > 0:
            past = engine.clock.time(max(0, now - back))
            with pytest.raises((InvalidInput, AlreadyEnrolled)):
                engine.execute(PLANS["burst"], _given(PEOPLE["ada"]), start_at=past)
        assert engine.now().tick == now

    # --- what must hold ---------------------------------------------------------------------------

    @invariant()
    @precondition(lambda self: hasattr(self, "checked"))
    def no_send_was_wrong(self) -> None:
        assert not self.model.faults, self.model.faults

    @invariant()
    @precondition(lambda self: hasattr(self, "checked"))
    def statuses_move_by_the_table(self) -> None:
        assert {run.id: str(run.status) for run in self.all_runs()} == self.statuses

    @invariant()
    @precondition(lambda self: hasattr(self, "checked"))
    def the_log_is_whole_and_time_goes_on(self) -> None:
        verdict = self.first.verify_log()
        assert verdict.valid, verdict.problems
        rows = self.first._parts.store.read_log(self.checked, 100_000)
        for row in rows:
            tick = self.first._journal.open_public([row])[0].meta.tick
            assert tick >= self.stream_ticks.get(row.stream_id, 0), row
            self.stream_ticks[row.stream_id] = tick
        self.checked += len(rows)
        now = self.first.clock.refresh()
        assert now >= self.now
        self.now = now

    def teardown(self) -> None:
        engines = getattr(self, "engines", [])
        try:
            if engines and self.replayed_at_the_end:
                assert_replays(engines[0])
                assert engines[0].audit.verify_indexes().differences == ()
                assert_funnels_add_up(engines[0], PLANS)
        finally:
            for engine in engines:
                engine.close()
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder, ignore_errors=True)


def _given(person: Person) -> dict[str, Any]:
    return {
        "id": person.id,
        "email": person.email,
        "phone": person.phone,
        "timezone": person.zone,
        "firstName": person.id,
    }


def _only(run: ExecutionRun, before: str, allowed: set[str]) -> str:
    """The run's status, which has to be one of those allowed, or still what it was."""
    status = str(run.status)
    assert status == before or (status in allowed and before not in ENDED), (before, run)
    return status


def _machine(kind: str, fresh_postgres: Callable[[], str]) -> type[Sends]:
    class Here(Sends):
        pass

    Here.kind = kind
    Here.fresh_postgres = staticmethod(fresh_postgres)  # type: ignore[assignment]
    return Here


@pytest.mark.parametrize(
    "kind,examples",
    [("memory", count(25, 1000)), ("sqlite", count(8, 300)), ("postgres", count(2, 40))],
)
def test_no_send_that_should_not_have_been(
    kind: str, examples: int, fresh_postgres: Callable[[], str]
) -> None:
    run_state_machine_as_test(
        _machine(kind, fresh_postgres),
        settings=settings(
            max_examples=examples,
            stateful_step_count=count(40, 120),
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def _let_through(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take one of the gate's rules away."""
    gate = sys.modules["dee_es.core.gate.evaluate"]
    if rule == "suppression":
        monkeypatch.setattr(gate.suppression, "check", lambda *_: None)
        return
    kept = {name: check for name, check in gate.RULES.items() if name != rule}
    assert len(kept) == len(gate.RULES) - 1
    monkeypatch.setattr(gate, "RULES", kept)


def _send_again(steps: Steps, cause: str) -> None:
    """Retry what nobody knows the outcome of."""
    intent = steps.state.intent
    if intent is not None and not steps.state.status.ended:
        steps.record(StepRetried(intent.step_id, cause, intent.attempt, steps.tick + 1))


@pytest.mark.parametrize(
    "missing,noticed",
    [
        ("suppression", "suppressed contact"),
        ("consent", "without consent"),
        ("windows", "outside of the window"),
        ("limits", "a day for"),
        ("fail closed", "sent again unasked"),
    ],
)
def test_the_model_would_notice(
    missing: str, noticed: str, monkeypatch: pytest.MonkeyPatch, fresh_postgres: Callable[[], str]
) -> None:
    if missing == "fail closed":
        monkeypatch.setattr(Steps, "outcome_unknown", _send_again)
    else:
        _let_through(missing, monkeypatch)
    machine = _machine("memory", fresh_postgres)
    # The first fault that comes up will do, so nothing but the model is asked.
    for other in ("statuses_move_by_the_table", "the_log_is_whole_and_time_goes_on"):
        monkeypatch.setattr(Sends, other, lambda self: None)
    monkeypatch.setattr(Sends, "replayed_at_the_end", False)
    with pytest.raises(AssertionError, match=noticed):
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=200,
                stateful_step_count=40,
                deadline=None,
                phases=[Phase.generate],
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )


# --- channel events commute -----------------------------------------------------------------------

REPORTS: Final = [
    (kind, step)
    for kind in ("email.delivered", "email.opened", "email.clicked", "email.replied")
    for step in ("one", "two", None)
]
WATCHING: Final = create_plan(
    id="watching",
    name="Two letters, then what was made of them",
    steps=[
        steps.send_email("one", "intro", "One"),
        steps.send_email("two", "follow", "Two"),
        steps.wait("pause", {"days": 1}),
        steps.branch(
            "read",
            [
                {"when": 'events.hasClick("one") and events.hasOpen("two")', "goto": "clicked"},
                {"when": "events.hasOpen(any)", "goto": "opened"},
                {"when": "default", "goto": "ignored"},
            ],
        ),
        steps.end("clicked", "clicked"),
        steps.end("opened", "opened"),
        steps.end("ignored", "ignored"),
    ],
    exit_conditions=[{"when": 'events.hasReply("two")', "outcome": "replied"}],
)


@given(
    reports=st.lists(st.sampled_from(REPORTS), max_size=6),
    again=st.lists(st.integers(0, 5), max_size=4),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=count(25, 500))
def test_channel_events_may_come_in_any_order_and_more_than_once(
    reports: list[tuple[str, str | None]], again: list[int], order: random.Random
) -> None:
    told = list(enumerate(reports))
    retold = [*told, *(told[number] for number in again if number < len(told))]
    order.shuffle(retold)
    ends = []
    for reports_in_order in (told, retold):
        with open_engine(":memory:", seed=1) as engine:
            publish_basics(engine)
            run = engine.execute(WATCHING, _given(PEOPLE["ada"]))
            engine.run_until(1)
            seen: set[int] = set()
            for number, (kind, step) in reports_in_order:
                first = engine.ingest_event(kind, "ada", run.id, step, event_id=f"event_{number}")
                assert first == (number not in seen)
                seen.add(number)
            reached = engine._runs.load(run.id).state.seen
            engine.run_until_idle()
            ends.append((engine.get_run(run.id), reached))
    assert ends[0] == ends[1]
