"""A run that cannot be read or decided holds up itself and nobody else, and neither does an outcome
that cannot be recorded."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dee_es import Engine, ExecutionRun
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.core.commands import Advance, RecordResult, RunCommand
from dee_es.core.evidence import chain
from dee_es.core.runs.state import RunState
from dee_es.engine import transact
from dee_es.engine.log.journal import payload_of
from dee_es.engine.run_cache import LoadedRun
from dee_es.engine.scheduling import attempts, scheduler
from dee_es.errors import (
    ChannelFailed,
    DeeError,
    IntegrityViolation,
    InvalidInput,
    StoreUnavailable,
    UnknownEventVersion,
)
from dee_es.ports import Action, ChannelResult, SendContext
from tests.integration.auditing.test_tampering import Case
from tests.support.engines import (
    BACKENDS,
    DAY,
    assert_replays,
    database_url,
    open_engine,
    outreach,
    publish_basics,
)

Fresh = Callable[[], str]
PEOPLE = [{"id": f"c{n}", "email": f"c{n}@example.com", "firstName": "N"} for n in range(5)]
STATE = "UPDATE stored_events SET state = ? WHERE originator_id = ? AND originator_version = 1"
RENAMED = (
    "UPDATE stored_events SET topic = ?, state = ? "
    "WHERE originator_id = ? AND originator_version = 1"
)
TOPIC = "UPDATE stored_events SET topic = ? WHERE originator_id = ? AND originator_version = 1"


@dataclass
class Damaged:
    """A database one of whose five new runs is damaged, as an engine finds it that starts now."""

    engine: Engine
    channel: MemoryChannel
    runs: list[ExecutionRun]
    bad: ExecutionRun
    error: type[DeeError]

    @property
    def good(self) -> list[ExecutionRun]:
        return [run for run in self.runs if run.id != self.bad.id]

    def stood(self) -> set[str | None]:
        """The steps that the good runs stand at."""
        return {self.engine.get_run(run.id).current_step for run in self.good}

    def sent(self) -> list[str]:
        return sorted(action.run_id for action in self.channel.actions)


@pytest.fixture(params=["sqlite", "postgres"])
def fresh_case(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Fresh
) -> Iterator[Case]:
    url = database_url(request.param, tmp_path, fresh_postgres)
    with open_engine(url, keys=tmp_path / "keys.db") as engine:
        publish_basics(engine)
        runs = [engine.execute(outreach(), person) for person in PEOPLE]
        yield Case(request.param, url, engine, runs)


@pytest.fixture(params=["edited", "unknown"])
def damaged(request: pytest.FixtureRequest, tmp_path: Path, fresh_case: Case) -> Iterator[Damaged]:
    bad = fresh_case.runs[1]
    if request.param == "edited":
        state = fresh_case.engine._parts.store.read_stream(bad.id)[0].state
        fresh_case.shell(STATE, state[:-1] + bytes([state[-1] ^ 1]), bad.id)
    else:
        # As code that is newer than this would have written it.
        row = fresh_case.engine._parts.store.read_stream(bad.id)[0]
        _, state = chain.seal(bad.id, 1, "RunTeleported", chain.GENESIS, payload_of(row))
        fresh_case.shell(RENAMED, "RunTeleported", state, bad.id)
    channel = MemoryChannel()
    with open_engine(fresh_case.url, channel=channel, keys=tmp_path / "keys.db", page=2) as engine:
        error = IntegrityViolation if request.param == "edited" else UnknownEventVersion
        yield Damaged(engine, channel, fresh_case.runs, bad, error)


def test_a_tick_does_all_the_others_and_then_tells(damaged: Damaged) -> None:
    with pytest.raises(damaged.error, match=damaged.bad.id):
        damaged.engine.tick()
    assert damaged.sent() == sorted(run.id for run in damaged.good)
    assert damaged.stood() == {"pause"}


def test_the_way_to_a_later_tick_leads_past_it(
    damaged: Damaged, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried once on the whole way, however many ticks that has."""
    with pytest.raises(damaged.error, match=damaged.bad.id):
        damaged.engine.run_until(4 * DAY)
    assert damaged.engine.now().tick == 4 * DAY
    assert damaged.stood() == {"rest"}
    assert [each.message for each in caplog.records] == ["run_held_up"]
    with pytest.raises(damaged.error, match=damaged.bad.id):
        damaged.engine.run_until_idle()
    assert {damaged.engine.get_run(run.id).outcome for run in damaged.good} == {"silent"}
    assert [each.message for each in caplog.records] == ["run_held_up"] * 2


def test_a_worker_works_on_and_tells_once(
    damaged: Damaged, caplog: pytest.LogCaptureFixture
) -> None:
    stop, ticks = threading.Event(), []

    def on_tick(_: object) -> None:
        ticks.append(1)
        if len(ticks) == 3:
            stop.set()

    with caplog.at_level(logging.INFO, "dee_es"):
        total = damaged.engine.worker(stop, on_tick)
    assert total.delivered == len(damaged.good)
    (told,) = [each for each in caplog.records if each.message == "run_held_up"]
    assert (told.levelname, told.__dict__["run"]) == ("ERROR", damaged.bad.id)
    assert told.__dict__["error"] == damaged.error.__name__
    assert f"{damaged.bad.id} entry 1" in told.__dict__["problem"]


class Undecided:
    """Has a decision fail for these runs, with words that are nobody else's business."""

    WORDS = "Ada of c1@example.com"

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.runs: set[str] = set()
        self._decision = transact.decision
        patch.setattr(transact, "decision", self._decide)

    def _decide(self, materials: Any, state: RunState, command: RunCommand) -> Any:
        if state.run_id in self.runs and isinstance(command, Advance):
            raise ValueError(f"{self.WORDS}: {state.run_id}")
        return self._decision(materials, state, command)


def test_of_several_the_first_is_told_by_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    undecided = Undecided(monkeypatch)
    with open_engine(":memory:") as engine:
        publish_basics(engine)
        undecided.runs = {engine.execute(outreach(), person).id for person in PEOPLE}
        with pytest.raises(ValueError, match=min(undecided.runs)):
            engine.tick()


def test_a_worker_tells_again_of_one_that_was_well_meanwhile(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And of what nobody foresaw no more than its kind, since nobody knows what is in it."""
    monkeypatch.setattr(scheduler, "POLL_S", 0.001)
    undecided, stop, ticks = Undecided(monkeypatch), threading.Event(), []
    with open_engine(":memory:") as engine:
        publish_basics(engine)
        bad = engine.execute(outreach(), PEOPLE[1]).id
        undecided.runs = {bad}
        then: dict[int, Callable[[], object]] = {
            2: lambda: engine.pause_run(bad),
            3: lambda: engine.resume_run(bad),
            5: stop.set,
        }

        def on_tick(_: object) -> None:
            ticks.append(1)
            then.get(len(ticks), lambda: None)()
            engine.clock.move_to(len(ticks))

        engine.worker(stop, on_tick)
    told = [each for each in caplog.records if each.message == "run_held_up"]
    assert [(each.__dict__["run"], each.__dict__["error"]) for each in told] == [
        (bad, "ValueError")
    ] * 2
    assert not any(Undecided.WORDS in str(each.__dict__) for each in told)


def test_a_damaged_definition_holds_up_the_runs_that_decide_by_it(
    fresh_case: Case, tmp_path: Path
) -> None:
    writer = fresh_case.engine
    writer.publish_template("other", text="Bye")
    apart = outreach("apart")
    mail = apart.steps[0].model_copy(update={"template_id": "other"})
    apart = apart.model_copy(update={"steps": (mail, *apart.steps[1:])})
    bad = writer.execute(apart, {"id": "d0", "email": "d0@example.com", "firstName": "N"})
    fresh_case.shell(TOPIC, "TemplateTeleported", "template:other")
    channel = MemoryChannel()
    with open_engine(fresh_case.url, channel=channel, keys=tmp_path / "keys.db") as engine:
        with pytest.raises(DeeError, match="template:other"):
            engine.tick()
        assert len(channel.sent) == len(PEOPLE)
        assert engine.get_timeline(bad.id)[-1].action == "run.started"


def test_a_bulk_command_counts_it_and_reaches_all_the_others(damaged: Damaged) -> None:
    done = damaged.engine.bulk_cancel({"plan_id": "outreach"}, "no longer wanted")
    assert (done.matched, done.cancelled, done.errors) == (5, 4, 1)
    (left,) = done.unchanged
    assert left.run_id == damaged.bad.id
    assert damaged.bad.id in left.detail
    assert {damaged.engine.get_run(run.id).status.value for run in damaged.good} == {"cancelled"}


# --- what a channel says --------------------------------------------------------------------------

UNKEEPABLE = ["\ud800", "with \x00 inside", "x" * 300_000]


@pytest.mark.parametrize(
    ("error", "event", "reason"),
    [
        (ChannelFailed("no line"), "send_failed", "no line"),
        (InvalidInput("number", "+15550100"), "send_unknown", "the channel raised InvalidInput"),
        (ValueError("+15550100 is busy"), "send_unknown", "the channel raised ValueError"),
    ],
    ids=["did not begin", "ours", "another's"],
)
def test_whatever_a_channel_raises_the_message_may_have_left_unless_it_says_otherwise(
    error: Exception, event: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(_: Action, __: SendContext) -> ChannelResult:
        raise error

    channel = MemoryChannel(answer)
    with open_engine(":memory:", channel=channel) as engine:
        publish_basics(engine)
        run = engine.execute(outreach(), PEOPLE[0])
        report = engine.run_until(DAY)
        assert (report.failed, report.unknown) == ((1, 0) if event == "send_failed" else (0, 1))
        assert len(channel.actions) == 1, "nobody sends it again"
        ((told, about),) = [(each.msg, each.__dict__) for each in caplog.records]
        assert (told, about["run"], about["step"]) == (event, run.id, "intro")
        assert about["error"] == reason


@pytest.mark.parametrize("words", UNKEEPABLE, ids=["surrogate", "nul", "long"])
@pytest.mark.parametrize(
    ("where", "kind"),
    [
        ("raised", "memory"),
        ("error", "postgres"),
        ("error", "sqlite"),
        ("detail", "memory"),
        ("message_id", "memory"),
    ],
)
def test_what_the_log_cannot_hold_of_an_answer_is_left_out(
    words: str, where: str, kind: str, tmp_path: Path, fresh_postgres: Fresh
) -> None:
    def answer(action: Action, _: SendContext) -> ChannelResult:
        if not action.message.to.startswith("c1@"):
            return ChannelResult("delivered", "msg_1")
        if where == "raised":
            raise ChannelFailed(words)
        if where == "message_id":
            return ChannelResult("delivered", words)
        text, detail = (words, {}) if where == "error" else ("refused", {"reply": words})
        return ChannelResult("failed", error=text, detail=detail)

    url = database_url(kind, tmp_path, fresh_postgres)
    with open_engine(url, channel=MemoryChannel(answer)) as engine:
        publish_basics(engine)
        runs = [engine.execute(outreach(), person) for person in PEOPLE]
        report = engine.tick()
        steps = [engine.get_run(run.id).current_step for run in runs]
        if where == "message_id":
            assert (report.delivered, steps) == (5, ["pause"] * 5)
        else:
            assert (report.delivered, report.failed) == (4, 1)
            assert steps == ["pause", "intro", "pause", "pause", "pause"]
            assert engine.get_run(runs[1].id).status == "failed"
            assert [e.id for e in engine.list_runs(status="failed").runs] == [runs[1].id]


@pytest.mark.parametrize("kind", BACKENDS)
def test_what_a_channel_says_of_a_failure_can_be_read_ever_after(
    kind: str, tmp_path: Path, fresh_postgres: Fresh
) -> None:
    """Also where it gives no reason, or one in a class of its own."""

    class Word(str):
        pass

    detail = {"reply": "no such mailbox"}
    answers = [
        ChannelResult("failed", error=None, detail=detail),  # type: ignore[arg-type]
        ChannelResult("failed", error=Word("refused"), detail=detail),
        ChannelResult("failed", error=None, retryable=True, detail=detail),  # type: ignore[arg-type]
        ChannelResult("delivered", Word("msg_1")),
        ChannelResult(["delivered"]),  # type: ignore[arg-type]
    ]
    channel = MemoryChannel(answers)
    with open_engine(database_url(kind, tmp_path, fresh_postgres), channel=channel) as engine:
        publish_basics(engine)
        runs = sorted(engine.execute(outreach(), person).id for person in PEOPLE)
        engine.tick()
        last = [engine.audit.get_by_run(run)[-1 - (at < 2)] for at, run in enumerate(runs)]
        said = [entry.output.get("personal") for entry in last[:3]]
        assert said == [{"data": detail}] * 3
        assert [entry.output.get("error") for entry in last[:3]] == ["", "refused", ""]
        statuses = [engine.get_run(run).status.value for run in runs]
        assert statuses == ["failed", "failed", "waiting", "waiting", "failed"]
        assert engine.verify_log().valid
        assert_replays(engine)


def test_an_answer_that_is_none_leaves_the_outcome_unknown() -> None:
    def answer(action: Action, _: SendContext) -> ChannelResult:
        if action.message.to.startswith("c1@"):
            return None  # type: ignore[return-value]
        if action.message.to.startswith("c2@"):
            return ChannelResult("maybe")  # type: ignore[arg-type]
        return ChannelResult("delivered", "msg_1")

    with open_engine(":memory:", channel=MemoryChannel(answer)) as engine:
        publish_basics(engine)
        runs = [engine.execute(outreach(), person) for person in PEOPLE]
        report = engine.tick()
        assert (report.delivered, report.unknown) == (3, 2)
        statuses = [engine.get_run(run.id).status.value for run in runs]
        assert statuses == ["waiting", "failed", "failed", "waiting", "waiting"]


@pytest.mark.parametrize(
    "error, status", [(StoreUnavailable("away"), "waiting"), (ValueError("wrong"), "failed")]
)
def test_what_cannot_be_made_ready_has_not_left(
    error: Exception, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again where that may pass by itself, and its outcome is known either way."""
    channel, context = MemoryChannel(), attempts.Attempts._context

    def failing(self: attempts.Attempts, run: LoadedRun, action: Action) -> SendContext:
        if action.attempt == 1 and action.message.to.startswith("c1@"):
            raise error
        return context(self, run, action)

    monkeypatch.setattr(attempts.Attempts, "_context", failing)
    with open_engine(":memory:", channel=channel) as engine:
        publish_basics(engine)
        runs = [engine.execute(outreach(), person) for person in PEOPLE]
        report = engine.tick()
        assert (report.delivered, report.failed) == (4, 1)
        assert engine.get_run(runs[1].id).status == status
        engine.run_until(120)
        sent = sorted(action.run_id for action in channel.actions)
        assert sent == sorted(run.id for run in runs if run != runs[1] or status == "waiting")


def test_a_run_that_is_damaged_while_its_message_is_under_way(
    fresh_case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The others' outcomes are recorded, and no later tick fails by the one that cannot be."""
    bad = fresh_case.runs[1]

    def answer(action: Action, _: SendContext) -> ChannelResult:
        if action.run_id == bad.id:
            # Somebody pauses it, so that it has to be read again, and then it cannot be.
            fresh_case.engine.pause_run(bad.id)
            fresh_case.shell(TOPIC, "RunTeleported", bad.id)
        return ChannelResult("delivered", "msg_1")

    channel = MemoryChannel(answer)
    with open_engine(fresh_case.url, channel=channel, keys=tmp_path / "keys.db") as engine:
        for _ in range(2):
            with pytest.raises(IntegrityViolation, match=bad.id):
                engine.tick()
        others = [run for run in fresh_case.runs if run.id != bad.id]
        assert {engine.get_run(run.id).current_step for run in others} == {"pause"}
        assert len(channel.sent) == len(PEOPLE)
    (told,) = [each for each in caplog.records if each.message == "outcome_not_recorded"]
    assert told.__dict__["run"] == bad.id


@pytest.mark.parametrize("kind", BACKENDS)
def test_an_outcome_that_cannot_be_decided_is_unknown_to_its_own_run_alone(
    kind: str, tmp_path: Path, fresh_postgres: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Already by the scheduler that holds the lease: there may be no other for days."""
    decision, channel = transact.decision, MemoryChannel()
    with open_engine(database_url(kind, tmp_path, fresh_postgres), channel=channel) as engine:
        publish_basics(engine)
        runs = [engine.execute(outreach(), person) for person in PEOPLE]

        def deciding(materials: Any, state: RunState, command: RunCommand) -> Any:
            if isinstance(command, RecordResult) and state.run_id == runs[1].id:
                raise ValueError("cannot be recorded")
            return decision(materials, state, command)

        monkeypatch.setattr(transact, "decision", deciding)
        engine.tick()
        statuses = [engine.get_run(run.id).status.value for run in runs]
        assert statuses == ["waiting", "failed", "waiting", "waiting", "waiting"]
        actions = [entry.action for entry in engine.get_timeline(runs[1].id)]
        assert "error.outcome_unknown" in actions
        engine.run_until(120)
        assert len(channel.sent) == len(PEOPLE)
