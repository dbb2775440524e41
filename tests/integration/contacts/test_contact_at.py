"""What is told of a contact's suppressions: its own, and those of its addresses in other names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from dee_es import Contact, Engine
from dee_es.errors import ContactSuppressed, InvalidInput
from tests.support.engines import (
    BACKENDS,
    DAY,
    database_url,
    open_engine,
    outreach,
    publish_basics,
)

EMAIL = "ada@example.com"
PHONE = "+15550100100"


@pytest.fixture(params=BACKENDS)
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> Iterator[Engine]:
    """Two records of one person, each with a run, and somebody else."""
    with open_engine(database_url(request.param, tmp_path, fresh_postgres)) as engine:
        publish_basics(engine)
        for who, email in (("ada", EMAIL), ("ada2", "Ada@Example.com"), ("bob", "b@example.com")):
            phone = PHONE if who == "ada" else None
            engine.execute(outreach(), Contact(id=who, email=email, phone=phone, firstName="Ada"))
        engine.tick()
        yield engine


def told(engine: Engine, who: str, tick: int | None = None) -> tuple[object, object]:
    found = engine.contact_at(who, tick=tick)
    return found.suppressions, found.address_suppressions


def test_a_second_record_of_the_person_is_told_of(engine: Engine) -> None:
    assert told(engine, "ada") == ((), ())
    engine.suppress("ada2", email=EMAIL, reason="asked")
    assert told(engine, "ada2") == (("global",), ())
    assert told(engine, "ada") == ((), ("global",))
    assert told(engine, "bob") == ((), ())
    assert told(engine, "nobody") == ((), ())
    engine.run_until_idle()
    (run,) = engine.list_runs(contact_id="ada").runs
    assert "step.skipped" in [entry.action for entry in engine.get_logs(run.id)]


def test_an_address_that_is_listed_in_its_own_right(engine: Engine) -> None:
    engine.suppress(phone=PHONE, level="channel", channel="voice", reason="asked")
    engine.suppress(email=EMAIL, level="plan", plan_id="outreach", reason="asked")
    assert told(engine, "ada") == ((), ("channel voice", "plan outreach"))
    assert told(engine, "ada2") == ((), ("plan outreach",))
    engine.suppress("ada", level="plan", plan_id="outreach", reason="asked again")
    assert told(engine, "ada")[0] == ("plan outreach",)


def test_as_of_any_moment(engine: Engine) -> None:
    engine.run_until(DAY)
    engine.suppress(email=EMAIL, reason="asked")
    engine.suppress("ada2", email=EMAIL, level="channel", channel="voice", reason="asked")
    engine.run_until(2 * DAY)
    engine.unsuppress(email=EMAIL, reason="asked")
    assert told(engine, "ada", DAY - 1) == ((), ())
    assert told(engine, "ada", DAY) == ((), ("channel voice", "global"))
    assert told(engine, "ada") == ((), ("channel voice",))


def test_nobody_is_told_of_a_moment_that_is_yet_to_come(engine: Engine) -> None:
    now = engine.now()
    assert engine.contact_at("ada", tick=now.tick).tick == now.tick
    for moment in ({"tick": now.tick + 1}, {"time": now.now + timedelta(days=1)}):
        with pytest.raises(InvalidInput, match="lies in the future") as caught:
            engine.contact_at("ada", **moment)
        assert caught.value.field == next(iter(moment))
    engine.run_until(now.tick + DAY)
    assert engine.contact_at("ada", tick=now.tick + DAY).runs


def test_a_moment_that_another_process_has_reached_has_come(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'dee.db'}"
    with open_engine(url) as engine, open_engine(url) as other:
        publish_basics(other)
        other.execute(outreach(), Contact(id="ada", email=EMAIL, firstName="Ada"))
        other.run_until(DAY)
        assert engine.contact_at("nobody", tick=DAY - 1).runs == ()


def test_what_is_erased_is_not_looked_up(engine: Engine, tmp_path: Path) -> None:
    engine.suppress("ada2", reason="asked")
    engine.erase_contact("ada", reason="asked", certificate=str(tmp_path))
    assert told(engine, "ada") == (("regulatory",), ())
    assert told(engine, "ada2") == (("global",), ("regulatory",))


def test_who_is_not_known_is_told_from_who_has_no_run(engine: Engine) -> None:
    """Nobody at all, from somebody of whom nothing more than one word is on record."""
    assert engine.contact_at("ada").known
    assert not engine.contact_at("adda").known
    assert engine.explain_contact("adda").now.startswith("Nothing is on record of contact adda")
    engine.suppress("listed", reason="asked")
    engine.grant_consent("agreed", "email")
    with pytest.raises(ContactSuppressed):
        engine.execute(outreach(), Contact(id="listed", email="l@example.com", firstName="L"))
    for who in ("listed", "agreed"):
        found = engine.contact_at(who)
        assert (found.known, found.runs) == (True, ())
        assert engine.explain_contact(who).now.startswith(f"Contact {who} has no run")
    engine.run_until(DAY)
    engine.execute(outreach(), Contact(id="new", email="new@example.com", firstName="New"))
    assert engine.contact_at("new", tick=1).known, "known is who is known by now"


def test_who_has_archived_runs_alone_is_known(engine: Engine, tmp_path: Path) -> None:
    (run,) = engine.list_runs(contact_id="bob").runs
    engine.cancel_run(run.id, "asked")
    engine.run_until(2 * DAY)
    engine.audit.archive(engine.now().now - timedelta(days=1), place=str(tmp_path / "archive"))
    found = engine.contact_at("bob")
    assert (found.known, found.runs, found.entries) == (True, (), ())
