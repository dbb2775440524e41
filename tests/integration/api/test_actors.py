"""Who did it, and why: no command of a person is in the log without an actor, or without the reason
that some of them need."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dee_es import Engine, EngineConfig
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.adapters.keys import open_memory_keys
from dee_es.config import load_config
from dee_es.core.events import RecordedEvent
from dee_es.engine.models import ChannelEvent, SuppressionEntry
from dee_es.errors import InvalidInput
from dee_es.ports import ChannelResult
from tests.support.engines import (
    ACTOR,
    EPOCH,
    database_url,
    open_engine,
    outreach,
    publish_basics,
)

Fresh = Callable[[], str]
JANE: dict[str, Any] = {"id": "jane", "email": "jane@example.com", "firstName": "Jane"}


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Fresh
) -> Iterator[Engine]:
    with open_engine(database_url(request.param, tmp_path, fresh_postgres)) as engine:
        publish_basics(engine)
        yield engine


def log_of(engine: Engine) -> list[RecordedEvent]:
    return engine._journal.open_public(engine._parts.store.read_log(0, 10_000))


def head(engine: Engine) -> int:
    return engine._parts.store.log_head().position


# --- actors ---------------------------------------------------------------------------------------


def live(engine: Engine) -> None:
    """Every command that a person can give, none with an actor of its own."""
    engine.publish_policy({"limits": {"perDay": {"contact": 100}}})
    engine.publish_plan(outreach("published"))
    first = engine.execute(outreach(), JANE)
    people = [{"id": f"c{n}", "email": f"c{n}@example.com", "firstName": "N"} for n in range(6)]
    engine.suppress("c5", reason="asked us to stop")
    assert engine.bulk_execute(outreach(), people).created == 5
    engine.grant_consent("jane", "email")
    engine.revoke_consent("jane", "email")
    engine.import_suppressions([SuppressionEntry(email="x@example.com")])
    engine.unsuppress("c5")
    engine.tick()
    engine.ingest_event("email.opened", "jane")
    engine.ingest_events([ChannelEvent("email.clicked", "jane", None, None, {}, None, None)])
    engine.pause_run(first.id)
    engine.resume_run(first.id)
    engine.cancel_run(first.id, "over")
    engine.bulk_pause({"plan_id": "outreach"}, "a holiday")
    engine.bulk_resume({"plan_id": "outreach"}, "it is over")
    engine.bulk_cancel({"contact_id": "c1"}, "over")
    engine.erase_contact("c2", "asked in writing")
    replayed = engine.execute(outreach("replayed"), {**JANE, "id": "replayed"})
    engine.replay(replayed.id, dry_run=False)


def test_every_command_has_an_actor_and_no_tick_has(engine: Engine) -> None:
    live(engine)
    log = log_of(engine)
    replayed = {run.id for run in engine.list_runs(contact_id="replayed").runs}
    for entry in log:
        itself = entry.meta.command == "result" or (
            entry.meta.command == "tick" and entry.stream_id not in replayed
        )
        assert entry.meta.actor == (None if itself else ACTOR), (entry.name, entry.meta)
    assert {entry.meta.command for entry in log} == {
        "init", "publish", "execute", "bulk_execute", "suppress", "unsuppress", "consent", "ingest",
        "pause", "resume", "cancel", "bulk_pause", "bulk_resume", "bulk_cancel", "erase", "tick",
        "result",
    }  # fmt: skip


def test_retries_and_resolutions_have_an_actor() -> None:
    channel = MemoryChannel(lambda *_: ChannelResult("unknown", error="lost"))
    with open_engine(":memory:", channel=channel) as engine:
        publish_basics(engine)
        lost = engine.execute(outreach(), JANE)
        engine.tick()
        engine.resolve_step(lost.id, "failed", reason="nothing arrived")
        engine.retry_run(lost.id, "once more")
        told = {entry.name: entry.meta.actor for entry in log_of(engine)}
        assert (told["StepResolved"], told["RunRetried"]) == (ACTOR, ACTOR)


def test_a_call_may_name_another_actor(engine: Engine) -> None:
    before = head(engine)
    run = engine.execute(outreach(), JANE, actor="ann")
    engine.ingest_event("email.opened", "jane", actor="ann")
    engine.ingest_events(
        [ChannelEvent("email.clicked", "jane", None, None, {}, None, None)], actor="ann"
    )
    engine.replay(run.id, dry_run=False, actor="ann")
    entries = [entry for entry in log_of(engine)[before:] if entry.meta.command != "result"]
    assert "StepDispatched" in {entry.name for entry in entries}
    assert {entry.meta.actor for entry in entries} == {"ann"}
    assert engine.replay(run.id).identical


BAD_ACTORS = [
    "",
    " ",
    "\t",
    "two\nlines",
    "a\x00b",
    "a\x1b[31m",
    "a\u202eb",
    "x" * 201,
    5,
    "\ud800",
]


@pytest.mark.parametrize("actor", BAD_ACTORS, ids=repr)
def test_an_actor_that_cannot_be_shown_is_refused(actor: Any) -> None:
    with open_engine(":memory:") as engine:
        publish_basics(engine)
        run = engine.execute(outreach(), JANE)
        before = head(engine)
        for call in (
            lambda: engine.pause_run(run.id, actor=actor),
            lambda: engine.publish_template("new", text="x", actor=actor),
            lambda: engine.ingest_event("email.opened", "jane", actor=actor),
            lambda: engine.replay(run.id, dry_run=False, actor=actor),
            lambda: engine.execute(outreach("other"), JANE, actor=actor),
        ):
            with pytest.raises(InvalidInput, match="actor: "):
                call()
        assert head(engine) == before
    with pytest.raises(InvalidInput, match="actor: "):
        Engine(EngineConfig(":memory:", actor=actor))


def actor_of(config: EngineConfig) -> str | None:
    with Engine(config, keys=open_memory_keys()) as engine:
        (first,) = log_of(engine)
        return first.meta.actor


def test_the_default_is_the_user_of_the_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    assert actor_of(EngineConfig(":memory:")) == getpass.getuser()
    monkeypatch.setenv("LOGNAME", "somebody")
    assert actor_of(EngineConfig(":memory:")) == "somebody"
    # As in a container that runs under a number without a name.
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_123_456)
    assert actor_of(EngineConfig(":memory:")) == "uid 4123456"


def test_the_setting_comes_from_flags_then_variables_then_the_file(tmp_path: Path) -> None:
    (tmp_path / "dee.toml").write_text('actor = "of the file"\n', encoding="utf-8")
    environ = {"DEE_ACTOR": "of the variable"}
    memory = {"database": ":memory:"}
    assert actor_of(load_config(memory, {}, tmp_path)) == "of the file"
    assert actor_of(load_config(memory, environ, tmp_path)) == "of the variable"
    given = {**memory, "actor": "of the flag"}
    assert actor_of(load_config(given, environ, tmp_path)) == "of the flag"


# --- reasons --------------------------------------------------------------------------------------

REASONED: dict[str, Callable[[Engine, str, Any], object]] = {
    "cancel_run": lambda engine, run, reason: engine.cancel_run(run, reason),
    "retry_run": lambda engine, run, reason: engine.retry_run(run, reason),
    "resolve_step": lambda engine, run, reason: engine.resolve_step(run, "failed", reason=reason),
    "bulk_cancel": lambda engine, _, reason: engine.bulk_cancel({"plan_id": "outreach"}, reason),
    "bulk_pause": lambda engine, _, reason: engine.bulk_pause({"plan_id": "outreach"}, reason),
    "bulk_resume": lambda engine, _, reason: engine.bulk_resume({"plan_id": "outreach"}, reason),
    "bulk_retry": lambda engine, _, reason: engine.bulk_retry({"plan_id": "outreach"}, reason),
    "place_hold": lambda engine, run, reason: engine.place_hold(run_id=run, reason=reason),
    "lift_hold": lambda engine, _, reason: engine.lift_hold(engine.holds()[0].hold_id, reason),
    "erase_contact": lambda engine, _, reason: engine.erase_contact("jane", reason),
}


@pytest.mark.parametrize("reason", ["", "  ", "\n", None, 7, "a\x00"], ids=repr)
@pytest.mark.parametrize("name", REASONED)
def test_without_a_reason_nothing_is_written(name: str, reason: Any) -> None:
    """Each in the state in which it would be done with a reason."""
    channel = MemoryChannel(lambda *_: ChannelResult("unknown", error="lost"))
    with open_engine(":memory:", channel=channel) as engine:
        publish_basics(engine)
        run = engine.execute(outreach(), JANE)
        if name in ("retry_run", "bulk_retry", "resolve_step"):
            engine.tick()
        if name in ("retry_run", "bulk_retry"):
            engine.resolve_step(run.id, "failed", reason="nothing arrived")
        if name == "bulk_resume":
            engine.pause_run(run.id)
        if name == "lift_hold":
            engine.place_hold(run_id=run.id, reason="a lawsuit")
        before, shown = head(engine), engine.get_run(run.id)
        with pytest.raises(InvalidInput, match="reason: "):
            REASONED[name](engine, run.id, reason)
        assert (head(engine), engine.get_run(run.id)) == (before, shown)
        REASONED[name](engine, run.id, "because")
        assert head(engine) > before
        assert log_of(engine)[before].meta.reason == "because"


@pytest.mark.parametrize("name", [name for name in REASONED if name.startswith("bulk")])
def test_a_bulk_change_without_any_reason_is_refused(name: str) -> None:
    with open_engine(":memory:") as engine:
        publish_basics(engine)
        engine.execute(outreach(), JANE)
        before = head(engine)
        with pytest.raises(InvalidInput, match="reason: must not be blank"):
            getattr(engine, name)(plan_id="outreach")
        assert head(engine) == before


def test_a_clock_of_a_named_epoch_is_by_somebody_too() -> None:
    config = EngineConfig(":memory:", clock="manual", epoch=EPOCH, actor="ann")
    assert actor_of(config) == "ann"
