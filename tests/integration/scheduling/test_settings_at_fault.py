"""A wrong password, or what else of our own settings keeps a channel from sending, ends no run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from dee_es import Contact
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.core.runs.rules import RULES
from dee_es.engine import definitions
from dee_es.ports import Action, ChannelResult, SendContext
from tests.support.engines import (
    BACKENDS,
    assert_replays,
    database_url,
    open_engine,
    outreach,
    publish_basics,
)


def test_runs_wait_until_the_settings_are_put_right(caplog: pytest.LogCaptureFixture) -> None:
    refused = ChannelResult("failed", error="smtp 535", ours=True)
    answers = [refused] * 6 + [ChannelResult("failed", error="smtp 451", retryable=True)] * 2

    def answer(_: Action, __: SendContext) -> ChannelResult:
        return answers.pop(0) if answers else ChannelResult("delivered", "msg_1")

    channel = MemoryChannel(answer)
    with open_engine(":memory:", channel=channel) as engine:
        publish_basics(engine)
        run = engine.execute(outreach(), Contact(id="c1", email="ada@example.com", firstName="Ada"))
        with caplog.at_level(logging.ERROR, "dee_es"):
            engine.run_until(600)
        told = [each for each in caplog.records if each.msg == "channel_settings_at_fault"]
        assert [each.__dict__["error"] for each in told] == ["smtp 535"] * 4
        waiting = engine.get_run(run.id)
        assert (waiting.status, waiting.status_reason) == ("waiting", "attempt 4: smtp 535")
        assert "put right" in str(engine.explain(run.id))
        engine.run_until(2 * 3600)
        assert engine.get_run(run.id).steps_completed >= 1
        assert len({action.key for action in channel.actions}) == 1
        assert [action.attempt for action in channel.actions] == list(range(1, 10))
        assert_replays(engine)


@pytest.mark.parametrize("kind", BACKENDS)
def test_what_never_left_uses_up_neither_limits_nor_budget(
    kind: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    refused = ChannelResult("failed", error="smtp 535", ours=True)
    answers = [refused] * 4

    def answer(_: Action, __: SendContext) -> ChannelResult:
        return answers.pop(0) if answers else ChannelResult("delivered", "msg_1")

    budget = {"amount": 2, "currency": "EUR", "costPerSend": {"email": 1}, "per": "total"}
    url = database_url(kind, tmp_path, fresh_postgres)
    with open_engine(url, channel=MemoryChannel(answer)) as engine:
        publish_basics(engine)
        limits = {"contact": 1, "channel": {"email": 1}, "domain": 1}
        engine.publish_policy({"budget": budget, "limits": {"perDay": limits}})
        run = engine.execute(outreach(), Contact(id="c1", email="ada@example.com", firstName="Ada"))
        engine.run_until(3_600)
        sent = [entry for entry in engine.get_timeline(run.id) if entry.action == "step.executed"]
        assert [entry.outcome for entry in sent] == ["delivered"]
        assert engine.get_run(run.id).status != "paused"
        assert_replays(engine)


def test_a_log_of_older_rules_means_what_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = ChannelResult("failed", error="smtp 535", ours=True)
    answers = [ChannelResult("delivered", "msg_1")]

    def answer(_: Action, __: SendContext) -> ChannelResult:
        return answers.pop(0) if answers else refused

    with open_engine(":memory:", channel=MemoryChannel(answer)) as engine:
        publish_basics(engine)
        attempts = []
        for number, rules in enumerate((1, RULES)):
            answers[:] = [ChannelResult("delivered", "msg_1")]
            monkeypatch.setattr(definitions, "RULES", rules)
            ada = Contact(id=f"c{number}", email=f"a{number}@example.com", firstName="Ada")
            run = engine.execute(outreach(), ada)
            engine.tick()
            engine.ingest_event("email.bounced", ada.id, run.id, None, {"kind": "soft"})
            engine.run_until(engine.now().tick + 30 * 3600)
            sent = [each for each in engine.get_logs(run.id) if each.action == "step.dispatched"]
            attempts.append(sum(each.step_id == sent[0].step_id for each in sent))
        assert attempts == [1 + 3, 1 + 24]
        assert_replays(engine)
