"""A suppression by id holds for every record of the person: it lists the addresses of its runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dee_es import Contact, Engine
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.core.ids import contact_stream
from dee_es.errors import ContactSuppressed, IntegrityViolation
from tests.support.engines import (
    BACKENDS,
    calling,
    database_url,
    open_engine,
    outreach,
    publish_basics,
)
from tests.support.evidence.overwriting import overwrite

EMAIL, PHONE = "dup@x.org", "+49 (0)30 1234"
A = Contact(id="a", email=EMAIL, firstName="A")
B = Contact(id="b", email="Dup@X.org", firstName="B")
REACHES: list[dict[str, Any]] = [
    {}, {"level": "regulatory"}, {"level": "channel", "channel": "email"},
    {"level": "plan", "plan_id": "outreach"},
]  # fmt: skip


@pytest.fixture
def channel() -> MemoryChannel:
    return MemoryChannel()


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]) -> str:
    return database_url(request.param, tmp_path, fresh_postgres)


@pytest.fixture
def engine(url: str, channel: MemoryChannel) -> Iterator[Engine]:
    with open_engine(url, channel=channel) as opened:
        publish_basics(opened)
        yield opened


@pytest.mark.parametrize("reach", REACHES)
def test_another_record_of_the_person_is_covered(
    engine: Engine, channel: MemoryChannel, reach: dict[str, Any]
) -> None:
    engine.execute(outreach(), A)
    engine.execute(outreach(), B)
    assert engine.suppress("a", reason="asked", **reach)
    assert not engine.suppress("a", reason="asked again", **reach), "it is on the list in full"
    engine.run_until_idle()
    assert channel.sent == []
    with pytest.raises(ContactSuppressed):
        engine.execute(outreach(), Contact(id="later", email=EMAIL, firstName="L"))


def test_every_address_of_every_run_is_listed(engine: Engine) -> None:
    engine.execute(outreach(), A)
    engine.execute(calling(), Contact(id="a", email="new@x.org", phone=PHONE, firstName="A"))
    engine.suppress("a", phone="+15550100")
    for number, address in enumerate(
        ({"email": EMAIL}, {"email": "NEW@x.org"}, {"phone": "+49301234"}, {"phone": "+15550100"})
    ):
        with pytest.raises(ContactSuppressed):
            engine.execute(calling(), Contact(id=f"d{number}", firstName="D", **address))


def test_lifting_by_id_lifts_all_of_it_and_nothing_in_another_name(engine: Engine) -> None:
    engine.execute(outreach(), A)
    engine.execute(outreach(), B)
    engine.suppress("a")
    assert not engine.unsuppress(email=EMAIL), "it is listed in the contact's name"
    assert engine.unsuppress("a")
    assert not engine.unsuppress("a")
    free = Contact(id="free", email=EMAIL, firstName="F")
    engine.cancel_run(engine.execute(outreach(), free).id, "the test goes on")
    for other in ({"email": EMAIL}, {"contact_id": "b"}):
        engine.suppress(**other)
        engine.suppress("a")
        assert engine.unsuppress("a")
        with pytest.raises(ContactSuppressed):
            engine.execute(outreach(), free)
        assert engine.unsuppress(**other)
        engine.cancel_run(engine.execute(outreach(), free).id, "the test goes on")


def test_who_was_suppressed_by_the_id_alone_is_listed_in_full_when_told_again(
    engine: Engine,
) -> None:
    engine.suppress("a")
    with pytest.raises(ContactSuppressed):
        engine.execute(outreach(), A)
    engine.unsuppress("a")
    engine.execute(outreach(), A)
    engine.suppress("a", level="channel", channel="voice")
    assert engine.suppress("a")
    assert engine.unsuppress("a", level="channel", channel="voice")
    with pytest.raises(ContactSuppressed, match="global"):
        engine.execute(outreach(), Contact(id="later", email=EMAIL, firstName="L"))


def test_repeated_under_its_id_it_is_the_same_though_there_are_new_runs(engine: Engine) -> None:
    reach: dict[str, Any] = {"level": "plan", "plan_id": "calling", "command_id": "k"}
    assert engine.suppress("a", **reach)
    engine.execute(outreach(), A)
    before = engine.health().position
    assert engine.suppress("a", **reach)
    assert engine.health().position == before


def test_the_erased_have_no_addresses_any_more(engine: Engine) -> None:
    engine.execute(outreach(), A)
    engine.erase_contact("a", "asked")
    assert engine.suppress("a")
    rows = engine._parts.store.read_stream(contact_stream("a"))
    (*_, last) = engine._journal.open(rows)
    assert getattr(last.event, "subjects", ()) == ("id:a",)


def test_a_run_that_cannot_be_read_is_told_when_all_else_is_listed(
    engine: Engine, url: str
) -> None:
    engine.execute(outreach(), A)
    broken = engine.execute(calling(), Contact(id="a", phone=PHONE, firstName="A")).id
    overwrite(engine, url, broken, 1, b"DEE2")
    engine._runs.forget()
    with pytest.raises(IntegrityViolation, match=broken):
        engine.suppress("a")
    with pytest.raises(ContactSuppressed):
        engine.execute(outreach(), Contact(id="later", email=EMAIL, firstName="L"))
