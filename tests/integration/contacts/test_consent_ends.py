"""What the gate is told before a send: a consent that was given for a time, to the tick, the first
that there is, and all that a version of the policy asks for, about each channel of a plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dee_es import create_plan, steps
from dee_es.adapters.channels.memory import MemoryChannel
from tests.support.engines import (
    BACKENDS,
    assert_replays,
    database_url,
    open_engine,
    outreach,
    people,
    publish_basics,
)

ENDS = 10


@pytest.mark.parametrize("kind", BACKENDS)
def test_a_consent_counts_no_longer_at_the_tick_at_which_it_ends(
    kind: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    channel = MemoryChannel()
    with open_engine(database_url(kind, tmp_path, fresh_postgres), channel=channel) as engine:
        publish_basics(engine)
        engine.publish_policy({"consent": {"required": ["email"]}})
        runs = []
        for person, start in zip(people(2), (ENDS - 1, ENDS), strict=True):
            engine.grant_consent(person["id"], "email", expires_at=engine.clock.time(ENDS))
            runs.append(engine.execute(outreach(), person, start_at=engine.clock.time(start)).id)
        engine.run_until(ENDS)
        assert [action.run_id for action in channel.actions] == runs[:1]
        (skipped,) = [each for each in engine.get_logs(runs[1]) if each.action == "step.skipped"]
        assert skipped.tick == ENDS
        read = {"policy": 1, "consent.email": "expired", "consent.email.expires": ENDS}
        assert skipped.data["reads"] == read
        assert_replays(engine)


@pytest.mark.parametrize("kind", BACKENDS)
def test_the_first_consent_that_a_database_holds_counts(
    kind: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    channel = MemoryChannel()
    with open_engine(database_url(kind, tmp_path, fresh_postgres), channel=channel) as engine:
        publish_basics(engine)
        engine.publish_policy({"consent": {"required": ["email"]}})
        asked, other = people(2)
        engine.grant_consent(asked["id"], "email")
        run = engine.execute(outreach(), asked).id
        engine.execute(outreach(), other)
        engine.tick()
        assert [action.run_id for action in channel.actions] == [run]
        assert_replays(engine)


@pytest.mark.parametrize("kind", BACKENDS)
def test_each_version_of_the_policy_has_read_what_it_needs(
    kind: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    """Though runs of an older one, which asks for less, went before them."""
    channel = MemoryChannel()
    with open_engine(database_url(kind, tmp_path, fresh_postgres), channel=channel) as engine:
        publish_basics(engine)
        engine.publish_policy({"limits": {"perDay": {"contact": 3}}})
        first, asked, other = people(3)
        engine.grant_consent(asked["id"], "email")
        runs = [engine.execute(outreach(), first).id]
        engine.tick()
        engine.publish_policy({"consent": {"required": ["email"]}})
        runs.append(engine.execute(outreach(), asked).id)
        engine.execute(outreach(), other)
        engine.tick()
        assert [action.run_id for action in channel.actions] == runs
        assert_replays(engine)


@pytest.mark.parametrize("kind", BACKENDS)
def test_each_channel_of_a_plan_is_asked_about(
    kind: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    channel = MemoryChannel()
    both = [steps.send_voice("call", "call"), steps.send_email("mail", "follow", "We missed you")]
    plan = create_plan(id="both", name="Both", steps=both)
    with open_engine(database_url(kind, tmp_path, fresh_postgres), channel=channel) as engine:
        publish_basics(engine)
        for person in people(2):
            engine.execute(plan, {**person, "phone": "+15550001"})
            engine.suppress(email=person["email"])
        engine.run_until(10)
        assert channel.actions == []
        for run in engine.list_runs().runs:
            skipped = [e.step_id for e in engine.get_timeline(run.id) if e.action == "step.skipped"]
            assert skipped == ["call", "mail"]
        assert_replays(engine)
