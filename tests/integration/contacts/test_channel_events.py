"""Channel events by the batch: the same log as one by one, in fewer commits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from dee_es import ChannelEvent, Engine
from dee_es.core.ids import contact_stream
from dee_es.engine.models import IngestResult
from dee_es.errors import DeeError, InvalidInput, RunNotFound, StoreUnavailable
from dee_es.ports import Committed, Conflict, Unit
from tests.support.engines import BACKENDS, database_url, open_engine, outreach, publish_basics

NAMES = ("ada", "ben", "cyd")


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]) -> str:
    return database_url(request.param, tmp_path, fresh_postgres)


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    with started(url) as engine:
        yield engine


def started(url: str) -> Engine:
    """An engine with one run for each of the contacts, two for the first, mails sent."""
    engine = open_engine(url, seed=7)
    publish_basics(engine)
    for plan in (outreach(), outreach("second")):
        for name in NAMES if plan.id == "outreach" else NAMES[:1]:
            engine.execute(plan, {"id": name, "email": f"{name}@example.com", "firstName": name})
    engine.tick()
    return engine


def of(kind: str, who: str, **more: Any) -> ChannelEvent:
    return ChannelEvent(f"email.{kind}", who, **more)


MIXED: Sequence[ChannelEvent] = (
    of("delivered", "ada", step_id="intro", event_id="e1"),
    of("delivered", "ben", step_id="intro", event_id="e2"),
    of("opened", "ada", step_id="intro", event_id="e3", data={"agent": "a reader"}),
    of("opened", "ada", event_id="e3"),
    of("opened", "nobody", event_id="e4", data={"agent": "another"}),
    of("clicked", "nobody", event_id="e5", data={"url": "https://example.com"}),
    of("unsubscribed", "ben", event_id="e6"),
    of("complained", "ben", event_id="e7"),
    of("unsubscribed", "ben", event_id="e8"),
    of("replied", "cyd", step_id="intro", event_id="e9", data={"text": "Yes"}),
    of("bounced", "ada", event_id="e10", data={"kind": "hard"}),
    of("delivered", "ada", event_id="e11"),
)


def log_of(engine: Engine) -> list[tuple[str, int, str, object]]:
    """What every stream holds of channel events and what came of them, apart from command ids."""
    streams = [contact_stream(name) for name in (*NAMES, "nobody")]
    streams += [run.id for run in engine.list_runs(limit=100).runs]
    rows = engine._parts.store.read_streams(streams)
    opened = [each for name in streams for each in engine._journal.open(rows.get(name, []))]
    return [(each.stream_id, each.version, each.name, each.event) for each in opened]


def commits(engine: Engine) -> int:
    """Where the log ends."""
    return engine.health().position


def test_a_batch_comes_to_the_same_as_its_events_one_by_one(tmp_path: Path, url: str) -> None:
    with started(url) as engine, started(":memory:") as other:
        seen: list[tuple[int, int]] = []
        result = engine.ingest_events(
            MIXED, on_progress=lambda result: seen.append((result.done, result.known))
        )
        fresh = [
            other.ingest_event(
                event.type, str(event.contact_id), None, event.step_id, event.data,
                event_id=event.event_id,
            )
            for event in MIXED
        ]  # fmt: skip
        assert (result.accepted, result.known, result.errors) == (fresh.count(True), 1, 0)
        assert seen == [(len(MIXED), 1)]
        assert log_of(engine) == log_of(other)
        assert engine.verify_log().valid
        for each in (engine, other):
            each.run_until_idle()
        assert log_of(engine) == log_of(other)


def test_a_batch_is_one_transaction(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    commit = engine._parts.store.commit

    def counting(units: Sequence[Unit], **more: Any) -> list[Committed | Conflict]:
        sizes.append(len(units))
        return commit(units, **more)

    monkeypatch.setattr(engine._parts.store, "commit", counting)
    result = engine.ingest_events([of("opened", name) for name in NAMES * 4], batch_size=6)
    assert result == IngestResult(accepted=12)
    assert sizes == [6, 6]


def test_the_same_again_adds_nothing(engine: Engine) -> None:
    engine.ingest_events(MIXED)
    before = commits(engine)
    again = engine.ingest_events(MIXED, batch_size=5)
    assert again == IngestResult(known=len(MIXED))
    unnamed = [of("opened", "ada"), of("opened", "ada")]
    assert engine.ingest_events(unnamed, command_id="import-1").accepted == 2
    assert engine.ingest_events(unnamed, command_id="import-1").known == 2
    assert engine.ingest_events(unnamed).accepted == 2
    # Her runs have ended by then, so that each of the four is in her own stream only.
    assert commits(engine) == before + 4


def test_what_cannot_be_used_is_told_and_stops_nothing(engine: Engine) -> None:
    run = next(run for run in engine.list_runs().runs if run.contact_id == "ben")
    told: list[tuple[int, DeeError]] = []
    events: list[Any] = [
        of("opened", "ada"),
        of("eaten", "ada"),
        of("opened", "ada", run_id=run.id, event_id="late"),
        of("opened", "ada", event_id="late"),
        of("opened", "ada", run_id="run_" + "a" * 26),
        of("opened", "ada", data={"text": ["x" * 200_000, "y" * 200_000]}),
        of("opened", "ada", occurred_at="today"),
        "nothing",
        ChannelEvent("email.opened"),
        ChannelEvent("email.clicked", run_id=run.id),
        of("clicked", "ada"),
        of("bounced", "ada", data={"kind": "permanent"}),
        of("replied", "ada", data={"autoReply": "yes"}),
        ChannelEvent("call.completed", "ada", data={"outcome": "engaged"}),
    ]
    result = engine.ingest_events(events, on_error=lambda place, error: told.append((place, error)))
    assert (result.accepted, result.known, result.errors) == (4, 0, 10)
    assert sorted(place for place, _ in told) == [1, 2, 4, 5, 6, 7, 8, 11, 12, 13]
    by_place = dict(told)
    assert isinstance(by_place[4], RunNotFound)
    fields = {p: e.field for p, e in by_place.items() if isinstance(e, InvalidInput)}
    assert {p: fields[p] for p in (1, 2, 6, 7, 8, 11, 12, 13)} == {
        1: "type", 2: "run_id", 6: "occurred_at", 7: "event", 8: "contact_id",
        11: "data.kind", 12: "data.autoReply", 13: "data.outcome",
    }  # fmt: skip
    assert "allowed" in str(by_place[5])
    assert engine.verify_log().valid


def test_a_contact_without_runs_gets_one_key(engine: Engine) -> None:
    events = [of("opened", "new", data={"n": number}) for number in range(5)]
    assert engine.ingest_events(events).accepted == 5
    rows = engine._parts.store.read_stream(contact_stream("new"))
    opened = engine._journal.open(rows)
    assert [each.event.personal.data["n"] for each in opened] == [0, 1, 2, 3, 4]  # type: ignore[union-attr]


def runs_of(engine: Engine, who: str) -> list[str]:
    return [run.id for run in engine.list_runs(contact_id=who).runs]


def damage(engine: Engine, patch: pytest.MonkeyPatch, run_id: str) -> None:
    """Let the run's entries be read as if somebody had taken the first one away."""
    store = engine._parts.store
    read = store.read_streams

    def damaged(ids: Sequence[str]) -> Any:
        found = read(ids)
        if run_id in found:
            found[run_id] = found[run_id][1:]
        return found

    engine._runs._cache.clear()
    patch.setattr(store, "read_streams", damaged)


def test_a_stream_that_was_tampered_with_holds_up_nobody_else(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run of one contact cannot be read: its events are refused, the others are taken in."""
    damage(engine, monkeypatch, runs_of(engine, "ben")[0])
    told: list[int] = []
    events = [of("opened", "ada"), of("opened", "ben"), of("opened", "cyd"), of("clicked", "ada")]
    result = engine.ingest_events(events, on_error=lambda place, _: told.append(place))
    assert (result.accepted, told) == (3, [1])


@pytest.mark.parametrize("names_one", [False, True])
@pytest.mark.parametrize("kind", ["unsubscribed", "complained"])
def test_an_unsubscribe_is_heard_although_a_run_cannot_be_read(
    engine: Engine, kind: str, names_one: bool, caplog: pytest.LogCaptureFixture
) -> None:
    damaged, other = runs_of(engine, "ada")
    run_id = other if names_one else None
    with pytest.MonkeyPatch.context() as patch:
        damage(engine, patch, damaged)
        event = of(kind, "ada", run_id=run_id, event_id="stop")
        assert engine.ingest_events([event, event]) == IngestResult(accepted=1, known=1)
        # What closes nothing waits until it can be told to all runs.
        replied = engine.ingest_events([of("replied", "ada"), of("replied", "ben")])
        assert (replied.accepted, replied.errors) == (1, 1)
    told = [each.__dict__ for each in caplog.records if each.message == "run_not_told"]
    assert [each["run"] for each in told] == [damaged]
    assert engine.contact_at("ada").suppressions
    assert engine.get_run(other).status == "cancelled"
    assert engine.get_run(damaged).status == "waiting"
    # Whoever lists the contact once more tells the run.
    engine.suppress("ada", reason="the run can be read again")
    assert [e.data["type"] for e in engine.get_logs(damaged) if e.action == "event.received"] == [
        "contact.suppressed"
    ]
    engine.run_until_idle()
    assert engine.get_run(damaged).status == "completed"
    sent = [each for each in engine.get_logs(damaged) if each.action == "step.dispatched"]
    assert len(sent) == 1, "the one of before"
    assert engine.verify_log().valid


def test_a_lost_answer_is_found_in_the_log(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = engine._parts.store.commit

    def lose(units: Sequence[Unit], **more: Any) -> list[Committed | Conflict]:
        commit(units, **more)
        monkeypatch.undo()
        raise StoreUnavailable("the answer was lost")

    monkeypatch.setattr(engine._parts.store, "commit", lose)
    assert engine.ingest_events([of("opened", "ada"), of("opened", "ben")]).accepted == 2

    def refuse(units: Sequence[Unit], **more: Any) -> list[Committed | Conflict]:
        raise StoreUnavailable("nobody is there")

    monkeypatch.setattr(engine._parts.store, "commit", refuse)
    with pytest.raises(StoreUnavailable):
        engine.ingest_events([of("opened", "ada"), of("opened", "ben")])


def test_a_command_that_is_repeated_is_the_same_command(engine: Engine) -> None:
    assert engine.ingest_event("email.opened", "ada", command_id="c1")
    before = commits(engine)
    assert engine.ingest_event("email.opened", "ada", command_id="c1")
    assert commits(engine) == before
    assert engine.ingest_event("email.opened", "ada", event_id="e1", command_id="c2")
    assert engine.ingest_event("email.opened", "ada", event_id="e1", command_id="c2")
    assert not engine.ingest_event("email.opened", "ada", event_id="e1", command_id="c3")
    assert not engine.ingest_event("email.opened", "ada", event_id="e1")


def test_two_who_bring_the_same_events_at_once_share_the_work(url: str) -> None:
    with started(url) as engine:
        events = [of("opened", name, event_id=f"{name}-{n}") for n in range(40) for name in NAMES]
        results: list[IngestResult] = []
        threads = [
            threading.Thread(
                target=lambda: results.append(engine.ingest_events(events, batch_size=20))
            )
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(result.accepted for result in results) == len(events)
        assert sum(result.known for result in results) == len(events)
        for name in NAMES:
            stream = engine._parts.store.read_stream(contact_stream(name))
            ids = [each.event.event_id for each in engine._journal.open(stream)]  # type: ignore[union-attr]
            assert ids == [f"{name}-{n}" for n in range(40)]
        assert engine.verify_log().valid


@pytest.mark.parametrize(
    "kind, data, cause",
    [
        ("unsubscribed", {}, "unsubscribed"),
        ("complained", {}, "complained"),
        ("bounced", {"kind": "hard"}, "undeliverable"),
    ],
)
def test_whoever_wants_no_more_of_one_run_has_all_of_them_ended(
    engine: Engine, kind: str, data: dict[str, Any], cause: str
) -> None:
    """As by the link in a message, which names the run and the step that it was sent by."""
    told, other = (run for run in engine.list_runs().runs if run.contact_id == "ada")
    event = of(kind, "ada", run_id=told.id, step_id="intro", data=data, event_id="stop")
    assert engine.ingest_events([event, event]) == IngestResult(accepted=1, known=1)
    for run in (told, other):
        ended = engine.get_run(run.id)
        assert (ended.status, ended.status_reason) == ("cancelled", cause)
        assert engine.replay(run.id).identical
        received = [e for e in engine.get_logs(run.id) if e.action == "event.received"]
        assert len(received) == 1
    assert {run.contact_id for run in engine.list_runs(status="waiting").runs} == {"ben", "cyd"}


def test_a_step_that_an_event_names_is_one_of_the_run_it_names(engine: Engine) -> None:
    told, other = (run for run in engine.list_runs().runs if run.contact_id == "ada")
    event = of("unsubscribed", "ada", run_id=told.id, step_id="elsewhere")
    assert engine.ingest_events([event]).accepted == 1
    steps = {
        run.id: entry.data["step_id"]
        for run in (told, other)
        for entry in engine.get_logs(run.id)
        if entry.action == "event.received"
    }
    assert steps == {told.id: "elsewhere", other.id: "intro"}
