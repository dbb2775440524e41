"""A suppression by id holds for every record of the person: it lists the addresses of its runs,
one by one and from a list alike."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dee_es import Contact, Engine, SuppressionEntry
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.core.ids import contact_stream
from dee_es.engine.models import ImportResult
from dee_es.errors import ContactSuppressed, PartlySuppressed
from dee_es.ports import EventStore, Views
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
    told = f"^contact 'a' is on the suppression list, but .* is not on the list; {broken} entry 1"
    with pytest.raises(PartlySuppressed, match=told):
        engine.suppress("a")
    with pytest.raises(ContactSuppressed):
        engine.execute(outreach(), Contact(id="later", email=EMAIL, firstName="L"))


# --- from a list ----------------------------------------------------------------------------------

LIST = [SuppressionEntry("a")]


@pytest.mark.parametrize(
    "reach",
    [
        {},
        {"level": "global"},
        {"level": "channel", "scope": "email"},
        {"level": "plan", "scope": "outreach"},
    ],
)
def test_a_list_of_ids_covers_another_record_of_the_person(
    engine: Engine, channel: MemoryChannel, reach: dict[str, Any]
) -> None:
    engine.execute(outreach(), A)
    engine.execute(outreach(), B)
    for dry in (True, False):
        given = engine.import_suppressions(LIST, reason="a list", dry_run=dry, **reach)
        assert given == ImportResult(added=1)
    for dry in (True, False):
        again = engine.import_suppressions(LIST, reason="again", dry_run=dry, **reach)
        assert again == ImportResult(already=1), "it is on the list in full"
    engine.run_until_idle()
    assert channel.sent == []
    with pytest.raises(ContactSuppressed):
        engine.execute(outreach(), Contact(id="later", email=EMAIL, firstName="L"))
    assert engine.audit.verify_indexes().valid


def test_a_list_of_ids_lists_what_suppress_does(engine: Engine) -> None:
    """Of runs that ended, too; and what the list itself names."""
    for who in ("a", "b"):
        run = engine.execute(outreach(), Contact(id=who, email=f"{who}@x.org", firstName="N"))
        engine.cancel_run(run.id, "over")
        engine.execute(calling(), Contact(id=who, email=f"new.{who}@x.org", phone=PHONE))
    engine.suppress("a", phone="+15550100", level="regulatory")
    engine.import_suppressions([SuppressionEntry("b", phone="+15550100")])
    listed = [
        set(getattr(engine._journal.open(rows)[-1].event, "subjects", ()))
        for rows in (
            engine._parts.store.read_stream(contact_stream("a")),
            engine._parts.store.read_stream(contact_stream("b")),
        )
    ]
    own = [{each for each in some if each.startswith(("id:", "email:"))} for some in listed]
    assert len(own[0] & own[1]) == 0
    assert [len(each) for each in own] == [3, 3]
    assert listed[0] - own[0] == listed[1] - own[1]
    for number, address in enumerate(("b@x.org", "NEW.b@x.org")):
        with pytest.raises(ContactSuppressed):
            engine.execute(outreach(), Contact(id=f"d{number}", email=address, firstName="D"))


def test_a_list_again_lists_the_addresses_of_runs_that_came_before_this_did(
    engine: Engine,
) -> None:
    """Whoever was listed by the id alone, by an older version or before there were runs."""
    engine.import_suppressions(LIST, level="plan", scope="calling")
    engine.execute(outreach(), A)
    assert engine.import_suppressions(LIST, "plan", "calling", dry_run=True).added == 1
    assert engine.import_suppressions(LIST, level="plan", scope="calling").added == 1
    with pytest.raises(ContactSuppressed):
        engine.execute(calling(), Contact(id="later", email=EMAIL, firstName="L"))
    assert engine.unsuppress("a", level="plan", plan_id="calling"), "lifted by id, all of it"
    engine.execute(calling(), Contact(id="later", email=EMAIL, firstName="L"))


def test_a_list_of_addresses_names_what_it_says_and_no_more(engine: Engine) -> None:
    engine.execute(outreach(), Contact(id="a", email=EMAIL, phone=PHONE, firstName="A"))
    engine.import_suppressions([SuppressionEntry(email=EMAIL)])
    engine.execute(calling(), Contact(id="later", phone=PHONE, firstName="L"))


def test_on_a_list_too_the_erased_have_no_addresses_any_more(engine: Engine) -> None:
    engine.execute(outreach(), A)
    engine.erase_contact("a", "asked")
    assert engine.import_suppressions(LIST, level="global").added == 1
    (*_, last) = engine._journal.open(engine._parts.store.read_stream(contact_stream("a")))
    assert getattr(last.event, "subjects", ()) == ("id:a",)


def test_a_run_that_cannot_be_read_is_told_in_the_log_and_holds_no_list_up(
    engine: Engine, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine.execute(outreach(), A)
    broken = engine.execute(calling(), Contact(id="a", phone=PHONE, firstName="A")).id
    overwrite(engine, url, broken, 1, b"DEE2")
    engine._runs.forget()
    with caplog.at_level(logging.WARNING, "dee_es"):
        assert engine.import_suppressions([*LIST, SuppressionEntry("b")]).added == 2
    (told,) = [each for each in caplog.records if each.msg == "addresses_not_listed"]
    assert told.__dict__["run"] == broken
    assert broken in told.__dict__["error"]
    with pytest.raises(ContactSuppressed):
        engine.execute(outreach(), Contact(id="later", email=EMAIL, firstName="L"))


def test_a_long_list_of_ids_is_looked_up_at_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, known or not."""
    known = [{"id": f"k{n}", "email": f"k{n}@x.org", "firstName": "K"} for n in range(60)]
    engine.bulk_execute(outreach(), known)
    asked: Counter[str] = Counter()

    def counting(part: object, name: str) -> Callable[..., Any]:
        ask = getattr(part, name)
        return lambda *given, **more: asked.update([name]) or ask(*given, **more)

    for kind, part in ((EventStore, engine._parts.store), (Views, engine._parts.views)):
        for name in dir(kind):
            if not name.startswith("_") and callable(getattr(part, name)):
                monkeypatch.setattr(part, name, counting(part, name))
    listed = [SuppressionEntry(each["id"]) for each in known]
    listed += [SuppressionEntry(f"u{n}") for n in range(60)]
    assert engine.import_suppressions(listed).added == 120
    first, _ = asked.total(), asked.clear()
    assert first < 20, asked
    assert engine.import_suppressions(listed).already == 120
    assert asked.total() < 20, asked
    # While others enroll, too: then runs that began meanwhile are looked for.
    monkeypatch.setattr(engine._suppression_import, "_began_since", lambda _: True)
    asked.clear()
    assert engine.import_suppressions(listed, level="global").added == 120
    assert asked.total() < 200, asked
