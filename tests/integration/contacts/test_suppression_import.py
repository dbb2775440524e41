"""Suppression lists from outside: who is on one is not reached, known by then or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from dee_es import Contact, Engine, EngineConfig, SuppressionEntry
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.core.contact import phone_as_written
from dee_es.core.events import ContactSuppressed
from dee_es.core.ids import contact_stream
from dee_es.engine.models import ImportResult
from dee_es.errors import ContactSuppressed as Refused
from dee_es.errors import DeeError, InvalidInput
from dee_es.ports import Committed, Conflict, Unit
from tests.support.engines import (
    BACKENDS,
    calling,
    database_url,
    open_engine,
    outreach,
    publish_basics,
)

JANE = Contact(id="jane", email="Jane@Example.com", phone="+1 555 0100", firstName="Jane")
EMAIL = SuppressionEntry(email="jane@example.com")
PHONE = SuppressionEntry(phone="+15550100")


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
        yield opened


def many(count: int) -> Iterator[SuppressionEntry]:
    return (SuppressionEntry(email=f"p{number}@example.com") for number in range(count))


def position(engine: Engine) -> int:
    return engine.health().position


@pytest.mark.parametrize("entry", [EMAIL, PHONE, SuppressionEntry("jane")])
def test_who_is_on_the_list_is_refused_when_enrolled_later(
    engine: Engine, entry: SuppressionEntry
) -> None:
    assert engine.import_suppressions([entry]) == ImportResult(added=1)
    with pytest.raises(Refused, match="regulatory"):
        engine.execute(outreach(), JANE)
    assert engine.bulk_execute(outreach(), [JANE]).skipped == 1
    assert (
        engine.bulk_execute(outreach(), [Contact(id="ben", email="ben@example.com")]).created == 1
    )


def test_who_was_enrolled_before_is_skipped_at_dispatch(
    engine: Engine, channel: MemoryChannel
) -> None:
    runs = [engine.execute(plan, JANE) for plan in (outreach(), calling())]
    engine.import_suppressions([SuppressionEntry(email="JANE@example.com")], reason="a list")
    engine.run_until_idle()
    assert channel.actions == []
    for run in runs:
        skipped = [each for each in engine.get_timeline(run.id) if each.action == "step.skipped"]
        assert [each.rule for each in skipped][:1] == ["suppression"]


def test_an_address_of_nobody_is_kept_as_a_digest(engine: Engine) -> None:
    engine.import_suppressions([EMAIL], reason="the national list", actor="pat")
    who = engine.contact_id_for(email="jane@example.com")
    (recorded,) = engine._journal.open(engine._parts.store.read_stream(contact_stream(who)))
    assert isinstance(recorded.event, ContactSuppressed)
    assert (recorded.event.level, recorded.meta.reason) == ("regulatory", "the national list")
    assert recorded.meta.actor == "pat"
    assert "example.com" not in str(recorded)


def test_a_list_again_adds_only_what_is_missing(engine: Engine) -> None:
    assert engine.import_suppressions(many(30), batch_size=10) == ImportResult(added=30)
    before = position(engine)
    assert engine.import_suppressions(many(40), batch_size=7) == ImportResult(added=10, already=30)
    assert position(engine) == before + 10
    assert engine.verify_log().valid


def test_a_batch_is_one_transaction(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    commit = engine._parts.store.commit

    def counting(units: Sequence[Unit], **more: Any) -> list[Committed | Conflict]:
        sizes.append(len(units))
        return commit(units, **more)

    monkeypatch.setattr(engine._parts.store, "commit", counting)
    seen: list[int] = []
    engine.import_suppressions(many(25), batch_size=10, on_progress=lambda r: seen.append(r.done))
    assert (sizes, seen) == ([10, 10, 5], [10, 20, 25])


def test_a_dry_run_counts_the_same_and_writes_nothing(engine: Engine) -> None:
    engine.import_suppressions([PHONE])
    entries = [
        EMAIL, EMAIL, PHONE, SuppressionEntry(email="jane@example.com", phone="+15550100"),
        SuppressionEntry("jane", level="plan", scope="outreach"), SuppressionEntry("jane"),
        SuppressionEntry(email="?"), *many(3), *many(3),
    ]  # fmt: skip
    before = position(engine)
    for size in (2, 500):
        rehearsed = engine.import_suppressions(entries, dry_run=True, batch_size=size)
        assert position(engine) == before
    assert engine.import_suppressions(entries, batch_size=4) == rehearsed
    assert rehearsed == ImportResult(added=7, already=5, errors=1)


def test_what_cannot_be_used_is_told_and_stops_nothing(engine: Engine) -> None:
    told: list[tuple[int, DeeError]] = []
    entries: list[Any] = [
        SuppressionEntry(email="no address"),
        SuppressionEntry("jane", level="everything"),
        SuppressionEntry("jane", level="channel", scope="fax"),
        SuppressionEntry("jane", level="channel", scope="email"),
        SuppressionEntry("jane", level="plan"),
        SuppressionEntry("jane", scope="email"),
        SuppressionEntry(),
        SuppressionEntry("jane", reason="a\0b"),
        "jane",
        SuppressionEntry("ben"),
    ]
    result = engine.import_suppressions(entries, on_error=lambda n, e: told.append((n, e)))
    assert result == ImportResult(added=2, errors=8)
    assert [(n, e.field) for n, e in told if isinstance(e, InvalidInput)] == [
        (0, "email"), (1, "level"), (2, "scope"), (4, "scope"), (5, "scope"), (6, "contact_id"),
        (7, "reason"), (8, "entry"),
    ]  # fmt: skip
    with pytest.raises(InvalidInput, match="level"):
        engine.import_suppressions([], level="everything")  # type: ignore[arg-type]


def test_entries_about_one_contact_all_count(engine: Engine) -> None:
    entries = [
        SuppressionEntry("jane", level="channel", scope="email"),
        SuppressionEntry("jane", level="channel", scope="voice"),
        SuppressionEntry("jane", phone="+15550100", level="channel", scope="voice"),
    ]
    assert engine.import_suppressions(entries) == ImportResult(added=3)
    with pytest.raises(Refused):
        engine.execute(outreach(), JANE)


def test_lifting_a_contact_leaves_its_address_on_the_list(engine: Engine) -> None:
    """Whichever came first: what was listed as an address is lifted as an address."""
    for first in ("list", "contact"):
        steps: list[Callable[[], object]] = [
            lambda: engine.import_suppressions([EMAIL], level="global"),
            lambda: engine.suppress("jane", email="jane@example.com"),
        ]
        for step in steps if first == "list" else reversed(steps):
            step()
        assert engine.unsuppress("jane", email="jane@example.com")
        with pytest.raises(Refused):
            engine.execute(outreach(), Contact(id="other", email="jane@example.com"))
        assert not engine.unsuppress("jane", email="jane@example.com")
        assert engine.unsuppress(email="jane@example.com")
        run = engine.execute(outreach(), Contact(id="other", email="jane@example.com"))
        engine.cancel_run(run.id, "the test goes on")


def test_lifting_an_address_leaves_what_a_contact_was_suppressed_with(engine: Engine) -> None:
    engine.import_suppressions([EMAIL], level="global")
    engine.suppress("jane", email="jane@example.com")
    assert engine.unsuppress(email="jane@example.com")
    with pytest.raises(Refused):
        engine.execute(outreach(), Contact(id="other", email="jane@example.com"))
    assert engine.unsuppress("jane")
    engine.execute(outreach(), Contact(id="other", email="jane@example.com"))
    assert engine.import_suppressions([EMAIL], level="global") == ImportResult(added=1)


@pytest.mark.parametrize(
    "listed, known",
    [
        ("jane@bücher.example", "Jane@xn--bcher-kva.example"),
        ("jane@XN--BCHER-KVA.example", "jane@Bücher.example"),
    ],
)
def test_an_international_domain_is_one_however_it_is_spelt(
    engine: Engine, channel: MemoryChannel, listed: str, known: str
) -> None:
    engine.suppress(email=listed, reason="asked")
    with pytest.raises(Refused):
        engine.execute(outreach(), Contact(id="c", email=known, firstName="Jane"))
    # Who is on the way already is not written to either.
    run = engine.execute(
        outreach(), Contact(id="d", email=known.replace("ane", "oe"), firstName="Joe")
    )
    engine.suppress(email=listed.replace("jane", "joe"), reason="asked")
    engine.run_until_idle()
    assert channel.sent == []
    assert engine.get_run(run.id).status != "active"
    # And lifted, however it was listed.
    assert engine.unsuppress(email=known, reason="asked again")
    assert not engine.unsuppress(email=listed)
    engine.execute(outreach(), Contact(id="c", email=known, firstName="Jane"))


def test_an_address_that_was_listed_in_both_spellings_is_lifted_in_either(engine: Engine) -> None:
    both = ("jane@bücher.example", "jane@xn--bcher-kva.example")
    engine.import_suppressions([SuppressionEntry(email=each) for each in both])
    assert engine.unsuppress(email=both[1], level="regulatory")
    for number, each in enumerate(both):
        engine.execute(outreach(), Contact(id=f"c{number}", email=each, firstName="Jane"))


@pytest.mark.parametrize(
    "listed, known", [("+49 (0)30 1234", "+49 30 1234"), ("+49301234", "0049 (0)30/1234")]
)
def test_a_number_is_one_with_the_zero_in_brackets_and_without(
    engine: Engine, listed: str, known: str
) -> None:
    engine.import_suppressions([SuppressionEntry(phone=listed)], level="global")
    with pytest.raises(Refused):
        engine.execute(outreach(), Contact(id="c", phone=known, firstName="Jane"))
    assert engine.contact_id_for(phone=listed) == engine.contact_id_for(phone=known)
    assert engine.unsuppress(phone=known)
    engine.execute(outreach(), Contact(id="c", phone=known, firstName="Jane"))


def test_who_was_listed_and_known_by_a_zero_in_brackets_before_still_is(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = "+49 (0)30 1234"
    with monkeypatch.context() as before:
        # How numbers were taken in once: all of their digits, and nothing else.
        old = lambda phone: (phone_as_written(phone),)  # noqa: E731
        before.setattr("dee_es.engine.contacts.identity.phone_spellings", old)
        before.setattr("dee_es.engine.contacts.identity.fold_phone", phone_as_written)
        engine.suppress(phone=number)
        known = engine.contact_id_for(phone=number)
        assert known != engine.contact_id_for(phone="+49301234")
    for each in (number, "+49301234"):
        with pytest.raises(Refused):
            engine.execute(outreach(), Contact(id="c", phone=each, firstName="Jane"))
    assert engine.contact_id_for(phone=number) == known
    assert engine.unsuppress(phone="+49 30 1234")
    assert not engine.unsuppress(phone=number)


@pytest.mark.parametrize("personal_data", ["encrypted", "off"])
def test_who_has_only_runs_under_a_zero_in_brackets_keeps_that_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, personal_data: Any
) -> None:
    number = "+49 (0)30 1234"
    channels = {"email": MemoryChannel(), "voice": MemoryChannel()}
    config = EngineConfig(
        f"sqlite:///{tmp_path / 'dee.db'}", clock="manual", personal_data=personal_data
    )
    with Engine(config, channels=channels) as engine:
        publish_basics(engine)
        with monkeypatch.context() as before:
            before.setattr("dee_es.engine.contacts.identity.fold_phone", phone_as_written)
            known = engine.contact_id_for(phone=number)
            engine.execute(outreach(), Contact(id=known, phone=number, firstName="Jane"))
        assert engine.contact_id_for(phone=number) == known
        assert engine.contact_id_for(phone="+49 (0)30 5678") != known
        engine.import_suppressions([SuppressionEntry(phone=number)])
        listed = engine._parts.store.read_stream(contact_stream(known))
        assert [row.name for row in listed] == ["ContactSuppressed"]


def test_a_list_from_before_numbers_had_spellings_adds_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [SuppressionEntry(phone=each) for each in ("+15550100", "+49 30 1234", "030 1234")]
    with monkeypatch.context() as before:
        old = lambda phone: (phone_as_written(phone),)  # noqa: E731
        before.setattr("dee_es.engine.contacts.identity.phone_spellings", old)
        engine.import_suppressions(entries, level="global")
    before_it = position(engine)
    again = engine.import_suppressions(entries, level="global")
    assert (again.added, again.already) == (0, 3)
    assert not engine.suppress(phone="+49 30 1234")
    assert position(engine) == before_it


def test_lifting_one_number_of_italy_leaves_the_one_with_a_zero(engine: Engine) -> None:
    engine.import_suppressions([SuppressionEntry(phone="+39 0331 123456")], level="global")
    assert not engine.unsuppress(phone="+39 331 123456")
    engine.execute(outreach(), Contact(id="a", phone="+39 331 123456", firstName="Ada"))
    with pytest.raises(Refused):
        engine.execute(outreach(), Contact(id="b", phone="+39 0331 123456", firstName="Bea"))


def test_of_a_whole_list_it_is_asked_at_once_who_is_known_by_a_zero_in_brackets(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = [f"+49 (0)30 {number}" for number in range(1000, 1100)]
    asked: list[str] = []
    store = engine._parts.store

    def counting(name: str) -> Callable[..., Any]:
        ask = getattr(store, name)
        return lambda *given: asked.append(name) or ask(*given)

    for name in ("heads", "situation"):
        monkeypatch.setattr(store, name, counting(name))
    engine.import_suppressions([SuppressionEntry(phone=each) for each in numbers])
    assert len(asked) < 10
    assert engine.import_suppressions([SuppressionEntry(phone=each) for each in numbers]).added == 0


def test_an_address_that_no_mail_can_have_is_refused(engine: Engine) -> None:
    before = position(engine)
    with pytest.raises(InvalidInput, match=r"^email: .*nobody sees"):
        engine.suppress(email="jane@example.com\u200b", reason="asked")
    result = engine.import_suppressions([SuppressionEntry(email="\ufeffjane@example.com")])
    assert (result.added, result.errors) == (0, 1)
    assert position(engine) == before


@pytest.mark.parametrize("lifted, other", [("ada", "bea"), ("bea", "ada")])
def test_an_address_stays_listed_for_as_long_as_one_contact_holds_it(
    engine: Engine, lifted: str, other: str
) -> None:
    """Two records of one person that both unsubscribed: whichever is lifted, one still holds."""
    for who in ("ada", "bea"):
        engine.execute(outreach(), {"id": who, "email": "one@example.com", "firstName": "One"})
    engine.tick()
    for who in ("ada", "bea"):
        engine.ingest_event("email.unsubscribed", who)
    assert engine.unsuppress(lifted, reason="asked to be written to again")
    with pytest.raises(Refused, match="global"):
        engine.execute(outreach(), {"id": "new", "email": "one@example.com", "firstName": "One"})
    assert engine.unsuppress(other, reason="asked, too")
    assert engine.execute(outreach(), {"id": "new", "email": "one@example.com", "firstName": "One"})
    engine.ingest_event("email.unsubscribed", lifted)
    with pytest.raises(Refused, match="global"):
        engine.execute(outreach(), {"id": "newer", "email": "one@example.com", "firstName": "One"})


@pytest.mark.parametrize("listed_first", [True, False])
def test_no_list_that_is_lifted_frees_the_address_of_somebody_erased(
    engine: Engine, listed_first: bool
) -> None:
    engine.execute(outreach(), {"id": "ada", "email": "one@example.com", "firstName": "One"})
    entries = [SuppressionEntry(email="one@example.com")]
    if listed_first:
        engine.import_suppressions(entries)
    engine.erase_contact("ada", "asked")
    if not listed_first:
        engine.import_suppressions(entries)
    assert engine.unsuppress(email="one@example.com", level="regulatory", reason="not on it now")
    with pytest.raises(Refused, match="regulatory"):
        engine.execute(outreach(), {"id": "new", "email": "one@example.com", "firstName": "One"})
