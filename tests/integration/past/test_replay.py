"""Replays of what an engine really did, on every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dee_es import Contact, Engine, EngineConfig, steps
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.engine.past.replay_results import Divergence, ReplaySummary
from dee_es.errors import (
    IntegrityViolation,
    InvalidInput,
    InvalidTransition,
    OutcomeUnknownError,
    RunNotFound,
)
from dee_es.ports import ChannelResult
from tests.support.engines import (
    BACKENDS,
    DAY,
    EPOCH,
    calling,
    database_url,
    fickle,
    open_engine,
    outreach,
    publish_basics,
)
from tests.support.evidence.overwriting import overwrite
from tests.support.processes.scenario import POLICY
from tests.support.storage.meanwhile import Two


@pytest.fixture(params=BACKENDS)
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> Iterator[Engine]:
    url = database_url(request.param, tmp_path, fresh_postgres)
    with open_engine(url, channel=MemoryChannel(fickle)) as opened:
        publish_basics(opened)
        yield opened


def jane(number: int = 0) -> Contact:
    return Contact(
        id=f"contact_{number}",
        email=f"jane{number}@example.com",
        phone="+15550100",
        timezone="Europe/Vienna",
        firstName="Jane",
    )


def a_busy_week(engine: Engine) -> None:
    """Runs of two plans under a policy, with everything that may happen to them."""
    engine.publish_policy(POLICY)
    engine.bulk_execute(outreach(), [jane(n) for n in range(20)])
    engine.bulk_execute(calling(), [jane(n) for n in range(8)])
    engine.grant_consent("contact_1", "voice")
    engine.suppress(contact_id="contact_3", level="global")
    engine.run_until(10 * 3600)
    runs = engine.list_runs(plan_id="outreach", limit=50).runs
    engine.ingest_event("email.replied", "contact_4", data={"autoReply": True})
    engine.ingest_event("email.replied", "contact_5")
    engine.ingest_event("email.bounced", "contact_6", data={"kind": "soft"})
    engine.ingest_event("email.unsubscribed", "contact_7")
    for run in runs:
        if run.contact_id == "contact_8" and run.status in ("active", "waiting"):
            engine.pause_run(run.id, "wait", keep="remaining")
    engine.run_until(2 * DAY)
    engine.bulk_resume({"plan_id": "outreach"}, "go on", per_tick=1)
    for run in engine.list_runs("failed", limit=50).runs:
        if "unknown" in (run.status_reason or ""):
            engine.resolve_step(run.id, "resend", reason="asked them")
        else:
            engine.retry_run(run.id, "once more")
    engine.run_until(20 * DAY)


def test_every_run_of_a_busy_week_replays_identically(engine: Engine) -> None:
    a_busy_week(engine)
    # Everybody else shares a number with somebody who is suppressed.
    later = [jane(n).model_copy(update={"phone": None}) for n in range(30, 34)]
    engine.bulk_execute(outreach(), later)
    engine.run_until(22 * DAY)
    engine.pause_run(engine.list_runs("waiting").runs[0].id, "in the middle")
    runs = engine.list_runs(limit=100).runs
    for run in runs:
        result = engine.replay(run.id)
        assert (result.verdict, result.diffs) == ("identical", ()), run
        assert result.identical
        assert all(step.identical for step in result.steps)
        # From its inputs alone, too, without looking at what was decided then.
        simulated = engine.replay(run.id, plan_version=1)
        assert (simulated.diffs, simulated.assumed) == ((), ()), run
    seen: list[Divergence] = []
    summary = engine.replay_all(on_divergence=seen.append)
    assert seen == []
    assert (summary.runs, summary.identical, summary.ok) == (32, 32, True)
    assert summary.events == sum(run.version for run in runs)
    some = engine.replay_all(plan_id="calling", status="completed")
    assert some.runs == engine.list_runs("completed", plan_id="calling").total


def test_a_replay_reads_and_does_nothing_else(engine: Engine) -> None:
    run = engine.execute(outreach(), jane())
    engine.run_until(10)
    before = engine.health().position
    sent = len(engine._parts.channels["email"].sent)  # type: ignore[attr-defined]
    engine.replay(run.id)
    engine.replay(run.id, templates={"intro": {"text": "Other"}})
    engine.replay_all()
    assert engine.health().position == before
    assert len(engine._parts.channels["email"].sent) == sent  # type: ignore[attr-defined]


def test_another_template_changes_the_message_and_says_how(engine: Engine) -> None:
    run = engine.execute(outreach(), jane())
    engine.run_until(10)
    result = engine.replay(run.id, templates={"intro": {"text": "Hi {{contact.firstName}}"}})
    assert result.verdict == "different"
    (diff,) = result.diffs
    assert (diff.step, diff.field) == ("intro", "message.text")
    assert (diff.expected, diff.actual) == ("Hello Jane", "Hi Jane")
    assert engine.replay(run.id, templates={"unused": {"text": "x"}}).identical


def test_another_plan_takes_other_ways_and_the_first_is_named(tmp_path: Path) -> None:
    with open_engine(":memory:") as engine:
        publish_basics(engine)
        run = engine.execute(outreach(), jane())
        engine.run_until_idle()
        assert engine.replay(run.id, plan_version=1).identical
        sooner = outreach(
            steps=[
                steps.send_email("intro", "intro", "Hello"),
                steps.wait("pause", {"days": 1}),
                steps.send_email("again", "follow", "Once more"),
                steps.end("lost", "silent"),
            ]
        )
        result = engine.replay(run.id, plan=sooner)
        assert result.verdict == "different"
        first = result.diffs[0]
        assert (first.step, first.field) == ("pause", "tick")
        assert (first.expected, first.actual) == (3 * DAY, DAY)
        assert [diff.field for diff in result.diffs] == ["tick", "step"]
        assert result.assumed == ()
        engine.publish_plan(sooner)
        assert engine.replay(run.id, plan_version=2).diffs == result.diffs
        with pytest.raises(InvalidInput, match="plan_version"):
            engine.replay(run.id, plan_version=2, plan=sooner)


def test_where_a_run_stands_is_compared_too() -> None:
    """A wait that has not ended yet is no finished visit of a step."""
    with open_engine(":memory:") as engine:
        publish_basics(engine)
        run = engine.execute(outreach(steps=[steps.wait("pause", {"days": 3})]), jane())
        engine.tick()
        engine.publish_plan(outreach(steps=[steps.wait("pause", {"days": 2})]))
        assert engine.replay(run.id, plan_version=1).identical
        result = engine.replay(run.id, plan_version=2)
        assert result.verdict == "different"
        (diff,) = result.diffs
        assert (diff.step, diff.field) == ("pause", "resume_tick")
        assert (diff.expected, diff.actual) == (3 * DAY, 2 * DAY)


def test_a_message_that_never_went_out_counts_as_delivered() -> None:
    with open_engine(":memory:") as engine:
        publish_basics(engine)
        plan = outreach(steps=[steps.wait("pause", {"days": 1})])
        run = engine.execute(plan, jane())
        engine.run_until_idle()
        with_mail = outreach(
            steps=[steps.send_email("intro", "intro", "Hello"), steps.wait("pause", {"days": 1})]
        )
        result = engine.replay(run.id, plan=with_mail)
        assert result.assumed == ("intro",)
        assert result.diffs[0].field == "step"


def test_what_is_wrong_with_a_call_is_said(engine: Engine) -> None:
    with pytest.raises(RunNotFound):
        engine.replay("run_" + "a" * 26)
    run = engine.execute(outreach(), jane())
    with pytest.raises(InvalidInput, match="dry_run"):
        engine.replay(run.id, templates={}, dry_run=False)
    with pytest.raises(InvalidInput, match="workers"):
        engine.replay_all(workers=0)


def test_going_on_sends_what_is_due_and_nothing_twice() -> None:
    channel = MemoryChannel()
    with open_engine(":memory:", channel=channel) as engine:
        publish_basics(engine)
        run, other = (engine.execute(outreach(), jane(n)) for n in range(2))
        assert engine.replay(run.id, dry_run=False).identical
        assert [action.run_id for action in channel.actions] == [run.id]
        engine.replay(run.id, dry_run=False)
        assert len(channel.sent) == 1
        assert engine.get_run(run.id).status == "waiting"
        assert engine.get_run(other.id).status == "active"


@pytest.mark.parametrize(
    "status, command, error",
    [("failed", "retry", InvalidTransition), ("unknown", "resolve", OutcomeUnknownError)],
)
def test_going_on_is_a_persons_decision_after_a_failure(
    status: str, command: str, error: type[InvalidTransition]
) -> None:
    answer = ChannelResult(status, error="no")  # type: ignore[arg-type]
    with open_engine(":memory:", channel=MemoryChannel(lambda *_: answer)) as engine:
        publish_basics(engine)
        run = engine.execute(outreach(), jane())
        engine.tick()
        with pytest.raises(InvalidTransition, match=f"dee runs {command}") as caught:
            engine.replay(run.id, dry_run=False)
        assert type(caught.value) is error


@pytest.mark.parametrize("kind", BACKENDS)
def test_a_run_whose_first_entry_is_damaged_is_counted_and_stops_nothing(
    kind: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    url = database_url(kind, tmp_path, fresh_postgres)
    with open_engine(url) as engine:
        publish_basics(engine)
        engine.bulk_execute(outreach(), [jane(n) for n in range(5)])
        engine.tick()
        victim, other = (each.id for each in engine.list_runs(limit=2).runs)
        # The tag of the format is the very first that is read of an entry.
        overwrite(engine, url, victim, 1, b"DEE2")
        overwrite(engine, url, other, 1, b"DEE1" + bytes(40))
        found: list[Divergence] = []
        summary = engine.replay_all(on_divergence=found.append)
        assert (summary.runs, summary.identical, summary.unreadable) == (5, 3, 2)
        assert summary.causes == {"IntegrityViolation": 2}
        assert [each.run_id for each in found] == [victim, other]
        assert engine.replay_page([victim]).summary.unreadable == 1
        with pytest.raises(IntegrityViolation, match=victim):
            engine.replay(victim)


@pytest.mark.parametrize("kind", BACKENDS)
def test_a_run_of_which_the_log_has_nothing_is_never_identical(
    kind: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    """It may have been archived since it was listed."""
    with open_engine(database_url(kind, tmp_path, fresh_postgres)) as engine:
        publish_basics(engine)
        engine.publish_plan(outreach())
        run = engine.execute(outreach(), jane(1)).id
        engine.run_until_idle()
        gone = engine.execute(outreach(), jane(2)).id
        engine.cancel_run(gone, "enough")
        never = "run_" + "a" * 26
        engine.run_until(engine.now().tick + DAY)
        engine.audit.archive(engine.now().now, place=str(tmp_path / "archives"), actor="ann")
        run = engine.execute(outreach(), jane(3)).id
        page = engine.replay_page([never, run, gone])
        assert (page.summary.runs, page.summary.identical, page.summary.unreadable) == (3, 1, 2)
        assert not page.summary.ok
        assert {each.run_id: each.cause for each in page.divergences} == {
            never: "RunNotFound",
            gone: "RunArchived",
        }


def test_a_run_that_is_archived_while_all_are_replayed_is_left_out(tmp_path: Path) -> None:
    with ExitStack() as stack:
        two, replayed = Two(tmp_path, stack), dict[str, ReplaySummary]()
        two.mine.execute(outreach(), jane())

        def end(who: str) -> None:
            run = two.mine.execute(outreach(), {"id": who, "email": f"{who}@example.com"})
            two.mine.cancel_run(run.id, "enough")
            two.mine.run_until(two.mine.now().tick + DAY)

        def replay(who: str) -> None:
            replayed[who] = two.mine.replay_all(status=["active", "waiting", "cancelled"])

        def archive(_: str) -> None:
            two.other.clock.refresh()
            two.other.audit.archive(two.other.now().now, place=str(tmp_path / "archives"))

        for who, moment in two.every_moment(end, replay, archive):
            assert moment.refused is None
            told = replayed[who]
            assert told.ok, (moment.before, told)
            assert told.runs == told.identical
            assert told.causes == {}
        assert not two.mine.replay_page(["run_" + "a" * 26]).summary.ok


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_several_processes_share_a_fleet(
    kind: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    config = EngineConfig(
        database_url(kind, tmp_path, fresh_postgres),
        keys=f"sqlite:///{tmp_path / 'keys.db'}",
        clock="manual",
        epoch=EPOCH,
        outbox=str(tmp_path / "outbox"),
    )
    with Engine(config) as engine:
        publish_basics(engine)
        engine.bulk_execute(outreach(), (jane(n) for n in range(1_200)), batch_size=1_000)
        engine.run_until(1)
        told = []
        summary = engine.replay_all(workers=2, on_progress=lambda so_far: told.append(so_far.runs))
        assert (summary.runs, summary.identical) == (1_200, 1_200)
        assert told == [500, 1_000, 1_200]
        assert engine.replay_all(workers=1) == summary
