"""Runs that an outage had stopped, all retried at once."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from dee_es import Engine
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.errors import EmptyFilter, InvalidInput
from dee_es.ports import Action, ChannelResult, SendContext
from tests.support.engines import (
    BACKENDS,
    database_url,
    open_engine,
    outreach,
    publish_basics,
)


class Outage:
    """A channel that refuses everything until it is over; of `lost` nobody knows what became."""

    def __init__(self) -> None:
        self.over = False

    def __call__(self, action: Action, _: SendContext) -> ChannelResult:
        if self.over:
            return ChannelResult("delivered", action.key[:16])
        if "lost" in action.message.to:
            return ChannelResult("unknown", error="connection lost")
        return ChannelResult("failed", error="no such host")


def enrolled(engine: Engine) -> None:
    publish_basics(engine)
    people = [{"id": f"c{n}", "email": f"c{n}@example.com", "firstName": "N"} for n in range(7)]
    engine.bulk_execute(outreach(), [*people, {**people[0], "id": "l", "email": "lost@x.example"}])
    engine.tick()


@pytest.mark.parametrize("kind", BACKENDS)
def test_what_failed_goes_on_under_what_is_published_now_and_nothing_is_sent_twice(
    kind: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    outage = Outage()
    channel = MemoryChannel(outage)
    url = database_url(kind, tmp_path, fresh_postgres)
    with open_engine(url, channel=channel) as engine:
        enrolled(engine)
        assert engine.count_runs() == {**engine.count_runs(), "failed": 8}
        engine.publish_template("intro", text="Sorry for the delay, {{contact.firstName}}")
        outage.over = True
        filters = {"status": "failed"}
        assert engine.bulk_retry(filters, "it is over", dry_run=True).matched == 8
        done = engine.bulk_retry(filters, "it is over", command_id="again")
        assert (done.matched, done.changed, done.errors) == (8, 7, 1)
        engine.run_until(engine.now().tick + 5)
        texts = [action.message.text for action in channel.actions[8:]]
        assert texts == ["Sorry for the delay, N"] * 7
        # Whose send may have arrived waits for somebody who knows.
        (left,) = engine.list_runs("failed").runs
        assert left.contact_id == "l"
        assert [run.run_id for run in done.unchanged] == [left.id]
        assert "outcome of its last send is unknown" in done.unchanged[0].detail
        assert engine.bulk_retry(filters, "it is over", command_id="again").changed == 0
        engine.run_until(engine.now().tick + 5)
        assert len(channel.actions) == 8 + 7
        entries = engine.audit.query(actions=["run.retried"]).entries
        assert {entry.reason for entry in entries} == {"it is over"}
        assert len(entries) == 7


def test_all_runs_are_never_meant_by_accident() -> None:
    with open_engine(":memory:", channel=MemoryChannel(Outage())) as engine:
        enrolled(engine)
        with pytest.raises(EmptyFilter, match="retry all runs"):
            engine.bulk_retry({}, "why")
        with pytest.raises(InvalidInput, match="reason"):
            engine.bulk_retry({"status": "failed"}, " ")


@pytest.mark.parametrize("kind", BACKENDS)
def test_what_failed_comes_back_at_a_pace(
    kind: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    """The server that was down for an hour is not to meet all at once what it had refused."""
    outage = Outage()
    channel = MemoryChannel(outage)
    url = database_url(kind, tmp_path, fresh_postgres)
    with open_engine(url, channel=channel) as engine:
        enrolled(engine)
        outage.over, now = True, engine.now().tick
        assert engine.bulk_retry({"status": "failed"}, "it is over", per_tick=3).changed == 7
        before, sent = len(channel.actions), []
        for tick in range(now + 1, now + 5):
            engine.run_until(tick)
            sent.append(len(channel.actions) - before)
        # The eighth, of which nobody knows, has its place among them.
        assert (max(b - a for a, b in pairwise([0, *sent])), sent[-1]) == (3, 7)
        for run in engine.list_runs(limit=10).runs:
            assert engine.replay(run.id).identical
        with pytest.raises(InvalidInput, match="per_tick"):
            engine.bulk_retry({"status": "failed"}, "it is over", per_tick=0)
