"""Whoever is suppressed while a run of theirs is open: its exit conditions are looked at on the
next tick, by whichever door the suppression came in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from dee_es import Engine, ExecutionRun, create_plan, steps
from dee_es.client import DeeClient
from dee_es.engine.contacts.suppressed_runs import TOGETHER
from dee_es.engine.models import SuppressionEntry
from dee_es.errors import ContactSuppressed
from dee_es.ports import Unit
from tests.support.engines import BACKENDS, DAY, database_url, open_engine, publish_basics
from tests.support.evidence.overwriting import overwrite
from tests.support.storage.meanwhile import Two
from tests.support.web.listening import listening

PLAN = create_plan(
    id="spring",
    name="Spring",
    steps=[
        steps.send_email("intro", "hello", "Hi"),
        steps.wait("pause", {"days": 3}),
        steps.send_email("again", "hello", "Hi again"),
        steps.end("cold", "silent"),
    ],
    exit_conditions=[{"when": "contact.unsubscribed", "outcome": "gone"}],
)
OTHER = create_plan(
    id="summer", name="Summer", steps=PLAN.steps, exit_conditions=PLAN.exit_conditions
)


@pytest.fixture(params=BACKENDS)
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> Iterator[Engine]:
    with open_engine(database_url(request.param, tmp_path, fresh_postgres)) as engine:
        publish_basics(engine)
        engine.publish_template("hello", text="Hello")
        yield engine


def waiting(engine: Engine, who: str = "ada") -> ExecutionRun:
    run = engine.execute(PLAN, {"id": who, "email": f"{who}@example.com"})
    engine.tick()
    run = engine.get_run(run.id)
    assert run.status == "waiting"
    return run


@pytest.mark.parametrize(
    "how", [{}, {"level": "regulatory"}, {"level": "plan", "plan_id": "spring"}]
)
def test_a_suppression_by_id_ends_the_run_on_the_next_tick(
    engine: Engine, how: dict[str, Any]
) -> None:
    run, other = waiting(engine), waiting(engine, "ben")
    assert engine.suppress("ada", reason="asked us to stop", actor="ann", **how)
    engine.run_until(1)
    ended = engine.get_run(run.id)
    assert (ended.status, ended.outcome) == ("completed", "gone")
    assert engine.get_run(other.id) == other
    told = next(x for x in engine.audit.get_by_run(run.id) if x.action == "event.received")
    assert (told.actor, told.reason) == ("ann", "asked us to stop")
    assert "put on the suppression list" in str(engine.explain(run.id))
    assert engine.replay(run.id).identical
    assert engine.verify_log().valid
    assert engine.audit.verify_indexes().valid


@pytest.mark.parametrize(
    "how",
    [
        {"level": "channel", "channel": "email"},
        {"level": "plan", "plan_id": "another"},
    ],
)
def test_what_closes_one_channel_or_another_plan_ends_nothing(
    engine: Engine, how: dict[str, Any]
) -> None:
    run = waiting(engine)
    assert engine.suppress("ada", **how)
    engine.run_until(1)
    assert engine.get_run(run.id) == run


def test_the_contact_and_its_runs_are_told_in_one_commit(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No crash can come between the two."""
    runs = [waiting(engine), engine.execute(OTHER, {"id": "ada", "email": "ada@example.com"})]
    committed: list[list[str]] = []
    commit = engine._committer.commit

    def noted(units: Sequence[Unit], **more: Any) -> Any:
        committed.extend([append.stream_id for append in unit.appends] for unit in units)
        return commit(units, **more)

    monkeypatch.setattr(engine._committer, "commit", noted)
    assert engine.suppress("ada", reason="asked us to stop")
    (streams,) = committed
    assert streams[0] == "contact:ada"
    assert sorted(streams[1:]) == sorted(run.id for run in runs)
    engine.run_until(1)
    assert {engine.get_run(run.id).outcome for run in runs} == {"gone"}


def test_whatever_happens_to_its_runs_meanwhile_all_are_told_once(tmp_path: Path) -> None:
    with ExitStack() as stack:
        two, begun = Two(tmp_path, stack), dict[str, list[str]]()
        two.mine.publish_template("hello", text="Hello")

        def begin(who: str) -> None:
            person = {"id": who, "email": f"{who}@example.com"}
            begun[who] = [two.mine.execute(PLAN, person).id]

        def happens(who: str) -> None:
            two.other.pause_run(begun[who][0])
            begun[who].append(two.other.execute(OTHER, {"id": who}).id)

        moments = two.every_moment(begin, lambda who: two.mine.suppress(who), happens)
        for who, moment in moments:
            if moment.refused is not None:
                assert isinstance(moment.refused, ContactSuppressed), "it came too late to begin"
            for run in begun[who]:
                assert two.names(run).count("ChannelEventReceived") == 1, (who, moment.before)


def test_a_run_that_keeps_changing_holds_no_suppression_up(tmp_path: Path) -> None:
    with ExitStack() as stack:
        two, asked = Two(tmp_path, stack), 0
        two.mine.publish_template("hello", text="Hello")
        run = two.mine.execute(PLAN, {"id": "ada", "email": "ada@example.com"}).id
        commit = two.mine._committer.commit

        def late(units: Sequence[Unit], **more: Any) -> Any:
            nonlocal asked
            if run in [append.stream_id for unit in units for append in unit.appends]:
                asked += 1
                if asked <= TOGETHER:
                    change = two.other.resume_run if asked % 2 == 0 else two.other.pause_run
                    change(run)
            return commit(units, **more)

        stack.enter_context(mock.patch.object(two.mine._committer, "commit", late))
        assert two.mine.suppress("ada", reason="asked us to stop")
        assert asked == TOGETHER + 1
        assert two.names("contact:ada") == ["ContactSuppressed"]
        assert two.names(run).count("ChannelEventReceived") == 1


def test_the_same_call_twice_tells_the_run_once(engine: Engine) -> None:
    """Also one that finishes what a run that kept changing had left undone."""
    run = waiting(engine)
    for _ in range(2):
        engine.suppress("ada", command_id="stop-ada")
    assert engine.suppress("ada") is False
    assert engine.get_run(run.id).version == run.version + 1


@pytest.mark.parametrize("listed", ["address", "list"])
def test_a_list_of_addresses_is_met_at_the_next_send(engine: Engine, listed: str) -> None:
    """Which runs have the address is not looked up: a list may have millions of them."""
    run = waiting(engine)
    if listed == "address":
        engine.suppress(email="ADA@example.com")
    else:
        engine.import_suppressions([SuppressionEntry(email="ada@example.com")])
    engine.run_until(1)
    assert engine.get_run(run.id).status == "waiting"
    engine.run_until(4 * DAY)
    assert engine.get_run(run.id).outcome == "gone"
    assert [entry.action for entry in engine.get_timeline(run.id)][-2:] == [
        "step.skipped", "run.completed",
    ]  # fmt: skip
    assert engine.replay(run.id).identical


LEAVING = [SuppressionEntry("ada"), SuppressionEntry("ben"), SuppressionEntry("nobody")]


@pytest.mark.parametrize(
    "how", [{}, {"level": "global"}, {"level": "plan", "scope": "spring"}], ids=str
)
def test_a_list_of_ids_ends_runs_on_the_next_tick(engine: Engine, how: dict[str, Any]) -> None:
    runs, other = [waiting(engine, who) for who in ("ada", "ben")], waiting(engine, "cy")
    runs.append(engine.execute(OTHER, {"id": "ada", "email": "ada@example.com"}))
    assert engine.import_suppressions(LEAVING, reason="a list", actor="ann", **how).added == 3
    engine.run_until(1)
    outcomes = [engine.get_run(run.id).outcome for run in runs]
    assert outcomes == ["gone", "gone", None if how.get("level") == "plan" else "gone"]
    assert engine.get_run(other.id) == other
    told = next(x for x in engine.audit.get_by_run(runs[0].id) if x.action == "event.received")
    assert (told.actor, told.reason) == ("ann", "a list")
    for run in runs[:2]:
        assert engine.replay(run.id).identical
    assert engine.verify_log().valid
    assert engine.audit.verify_indexes().valid


def test_a_list_that_closes_one_channel_ends_nothing(engine: Engine) -> None:
    run = waiting(engine)
    engine.import_suppressions(LEAVING, level="channel", scope="email")
    engine.run_until(1)
    assert engine.get_run(run.id) == run


def test_a_batch_of_a_list_and_all_its_runs_are_one_transaction(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = {who: waiting(engine, who).id for who in ("ada", "ben")}
    sizes: list[list[int]] = []
    commit = engine._committer.commit

    def noted(units: Sequence[Unit], **more: Any) -> Any:
        sizes.append([len(unit.appends) for unit in units])
        return commit(units, **more)

    monkeypatch.setattr(engine._committer, "commit", noted)
    progress: list[int] = []
    result = engine.import_suppressions(LEAVING, on_progress=lambda r: progress.append(r.done))
    assert (result.added, result.already, result.errors, progress) == (3, 0, 0, [3])
    assert sizes == [[2, 2, 1]]
    versions = [engine.get_run(run).version for run in runs.values()]
    # The same list again finds nothing to do.
    assert engine.import_suppressions(LEAVING).already == 3
    assert (len(sizes), [engine.get_run(run).version for run in runs.values()]) == (1, versions)


def test_a_list_again_tells_runs_that_were_not_told(engine: Engine) -> None:
    """As those of a list that was taken in before lists told any."""
    run = waiting(engine)
    with mock.patch.object(engine._suppressed_runs, "_decided", return_value=None):
        assert engine.import_suppressions(LEAVING).added == 3
    assert engine.get_run(run.id) == run
    assert engine.import_suppressions(LEAVING).already == 3
    engine.run_until(1)
    assert engine.get_run(run.id).outcome == "gone"


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_run_that_cannot_be_read_holds_no_list_up(
    kind: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    url, keys = database_url(kind, tmp_path, fresh_postgres), tmp_path / "keys.db"
    with open_engine(url, keys=keys) as engine:
        publish_basics(engine)
        engine.publish_template("hello", text="Hello")
        bad, good = waiting(engine), waiting(engine, "ben")
        state = engine._parts.store.read_stream(bad.id)[0].state
        overwrite(engine, url, bad.id, 1, state[:-1] + bytes([state[-1] ^ 1]))
    with open_engine(url, keys=keys) as engine:
        assert engine.import_suppressions(LEAVING).added == 3
        engine.run_until(1)
        assert engine.get_run(good.id).outcome == "gone"
        (told,) = engine.contact_at("ben").suppressions
        assert told == "regulatory"


def test_over_http_it_is_the_same(engine: Engine) -> None:
    run = waiting(engine)
    with listening(engine) as url, DeeClient(url) as client:
        assert client.suppress("ada", reason="asked us to stop")
    engine.run_until(1)
    assert engine.get_run(run.id).outcome == "gone"
