"""A contact's daily limit holds for the person, however many records there are of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dee_es import Contact, Engine
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.core.contact import fold_email
from dee_es.ports import ChannelResult
from tests.support.engines import (
    BACKENDS,
    DAY,
    assert_replays,
    calling,
    database_url,
    open_engine,
    outreach,
    publish_basics,
)

ONCE = {"limits": {"perDay": {"contact": 1}}}
ADA = Contact(id="ada", email="Ada@One.example", phone="+1 555 0100", firstName="Ada")
AGAIN = Contact(id="a2", email="ada@one.example", firstName="A.")
CALLED = Contact(id="a3", phone="+15550100", firstName="Ada")
OTHER = Contact(id="ben", email="ben@one.example", phone="+15550101", firstName="Ben")


@pytest.fixture
def channel() -> MemoryChannel:
    return MemoryChannel()


@pytest.fixture(params=BACKENDS)
def engine(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    fresh_postgres: Callable[[], str],
    channel: MemoryChannel,
) -> Iterator[Engine]:
    url = database_url(request.param, tmp_path, fresh_postgres)
    with open_engine(url, channel=channel) as opened:
        publish_basics(opened)
        opened.publish_policy(ONCE)
        yield opened


def test_records_with_one_address_share_the_limit(engine: Engine, channel: MemoryChannel) -> None:
    runs = [engine.execute(outreach(), person) for person in (ADA, AGAIN, OTHER)]
    engine.tick()
    assert sorted(action.message.to for action, _ in channel.sent) in (
        ["Ada@One.example", "ben@one.example"],
        ["ada@one.example", "ben@one.example"],
    )
    waiting = [run for run in map(engine.get_run, (run.id for run in runs)) if run.resume_tick]
    held = next(run for run in waiting if run.resume_tick == DAY)
    assert held.contact_id in ("ada", "a2")
    assert held.status_reason == (
        "limits: the limit of 1 sends a day to the contact's e-mail address is reached (1 used); "
        "it opens at 2026-01-02 00:00 UTC"
    )
    engine.run_until(DAY)
    assert len(channel.sent) == 3


def test_a_call_counts_for_whoever_has_the_number(engine: Engine, channel: MemoryChannel) -> None:
    engine.execute(outreach(), ADA)
    engine.tick()
    run = engine.execute(calling(), CALLED)
    engine.tick()
    assert [action.channel for action, _ in channel.sent] == ["email"]
    assert "the contact's telephone number is reached" in str(engine.get_run(run.id).status_reason)


def test_who_explains_a_contact_tells_what_is_listed_of_its_addresses(engine: Engine) -> None:
    engine.execute(outreach(), ADA)
    engine.suppress(email="ada@one.example", level="regulatory", reason="asked")
    engine.suppress(phone="+1 555 0100", reason="asked")
    assert engine.explain_contact("ada").now.endswith(" It is suppressed now: global, regulatory.")
    assert "suppressed" not in engine.explain_contact("ben").now


def test_what_was_counted_names_no_address(engine: Engine) -> None:
    run = engine.execute(outreach(), ADA)
    engine.tick()
    told = str([each.event for each in engine.get_events(run.id)][2:])
    assert "contact.email:" in told
    assert "contact.phone:" in told
    plain = told[told.index("reads=") : told.index("personal=")]
    assert "one.example" not in plain.lower()
    assert "5550100" not in plain


GREYLISTED = ChannelResult("failed", error="smtp 451", retryable=True)
REFUSED = ChannelResult("failed", error="smtp 550")
PRICED = {"amount": 1, "currency": "EUR", "costPerSend": {"email": 1}, "per": "day"}


@pytest.mark.parametrize(
    ("results", "policy", "attempts"),
    [
        # The retry goes out the same day, and what arrived then counts.
        ([GREYLISTED], ONCE, ["Ada@One.example", "Ada@One.example"]),
        ([REFUSED], ONCE, ["Ada@One.example", "ada@one.example"]),
        ([ChannelResult("unknown", error="smtp lost")], ONCE, ["Ada@One.example"]),
        ([GREYLISTED], {"budget": PRICED}, ["Ada@One.example", "Ada@One.example"]),
        # A server is not to be asked more often than that, whatever it says.
        ([GREYLISTED], {"limits": {"perDay": {"domain": 1}}}, ["Ada@One.example"]),
        ([GREYLISTED], {"limits": {"perDay": {"channel": {"email": 1}}}}, ["Ada@One.example"]),
    ],
)
def test_what_certainly_did_not_arrive_counts_for_nobody(
    results: list[ChannelResult], policy: dict[str, Any], attempts: list[str]
) -> None:
    channel = MemoryChannel(results)
    with open_engine(":memory:", channel=channel) as engine:
        publish_basics(engine)
        engine.publish_policy(policy)
        engine.execute(outreach(), ADA)
        engine.run_until(3_600)
        engine.execute(outreach(), AGAIN)
        engine.run_until(7_200)
        assert [action.message.to for action in channel.actions] == attempts
        assert_replays(engine)


SPELT = ("a@bücher.example", "b@XN--BCHER-KVA.example", "c@Bücher.EXAMPLE")


def test_spellings_of_a_domain_share_its_limit(engine: Engine, channel: MemoryChannel) -> None:
    engine.publish_policy({"limits": {"perDay": {"domain": 1}}})
    for number, email in enumerate(SPELT):
        engine.execute(outreach(), Contact(id=f"c{number}", email=email, firstName="Ada"))
    engine.run_until(DAY - 1)
    assert len(channel.sent) == 1
    engine.run_until(2 * DAY)
    assert len(channel.sent) == 3
    assert_replays(engine)


def test_spellings_of_an_address_share_the_limit(engine: Engine, channel: MemoryChannel) -> None:
    for number, domain in enumerate(each.partition("@")[2] for each in SPELT):
        ada = Contact(id=f"c{number}", email=f"Ada@{domain}", firstName="Ada")
        engine.execute(outreach(), ada)
    engine.run_until(DAY - 1)
    assert len(channel.sent) == 1
    assert_replays(engine)


def test_what_was_counted_by_the_spelling_replays_as_it_was(
    engine: Engine, channel: MemoryChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.publish_policy({"limits": {"perDay": {"domain": 1, "contact": 1}}})
    with monkeypatch.context() as before:
        before.setattr("dee_es.engine.contacts.identity.mailbox_counted", fold_email)
        for number, email in enumerate(SPELT):
            engine.execute(outreach(), Contact(id=f"c{number}", email=email, firstName="Ada"))
        engine.tick()
        assert len(channel.sent) == 2, "two spellings, two counters"
    engine.run_until(2 * DAY)
    assert len(channel.sent) == 3
    assert_replays(engine)
