"""Erasure: nothing personal of the erased is left to be read, and everything still verifies."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dee_es import Contact, Engine, EngineConfig
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.adapters.channels.twilio import CallRef, ProviderCalls
from dee_es.core.evidence.signed_note import open_note
from dee_es.engine import transact
from dee_es.engine.retention.certificate import file_name
from dee_es.errors import AlreadyEnrolled, ContactSuppressed, InvalidInput
from dee_es.ports import ChannelResult
from tests.support.counts import count
from tests.support.engines import (
    BACKENDS,
    calling,
    database_url,
    open_engine,
    outreach,
    people,
    publish_basics,
)

PEOPLE = count(40, 1_000)
ERASED = [f"c{number}" for number in range(0, PEOPLE, 10)]


def person(number: int) -> Contact:
    return Contact(
        id=f"c{number}",
        email=f"mail{number}x@example.com",
        phone=f"+1555{number:06d}",
        firstName=f"Forename{number}x",
    )


def strings(number: int) -> list[bytes]:
    """What must not be found of a contact: name, address, phone, variable, body of its message."""
    return [
        f"mail{number}x@".encode(),
        f"1555{number:06d}".encode(),
        f"Forename{number}x".encode(),
        f"secret{number}x".encode(),
    ]


@dataclass
class Case:
    folder: Path
    kind: str
    url: str
    engine: Engine
    channel: MemoryChannel


@pytest.fixture(params=BACKENDS)
def case(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> Iterator[Case]:
    url = database_url(request.param, tmp_path, fresh_postgres)
    channel = MemoryChannel()
    keys = tmp_path / "keys.db"
    with open_engine(url, channel=channel, keys=keys) as engine:
        publish_basics(engine)
        for number in range(PEOPLE):
            engine.execute(outreach(), person(number), {"note": f"secret{number}x"})
        engine.tick()
        yield Case(tmp_path, request.param, url, engine, channel)


def test_the_erased_are_gone_and_the_rest_goes_on(case: Case) -> None:
    engine = case.engine
    visits = {run.id: _visits(engine, run.id) for run in engine.list_runs(limit=PEOPLE).runs}
    for contact in ERASED:
        done = engine.erase_contact(contact, "asked in writing", "ann")
        assert done.key_destroyed
        assert len(done.cancelled) == 1
    sent = len(case.channel.sent)
    engine.run_until_idle()
    later = case.channel.sent[sent:]
    for run in engine.list_runs(limit=PEOPLE).runs:
        erased = run.contact_id in ERASED
        assert (run.status == "cancelled") == erased
        assert bool(run.variables) != erased
        assert engine.verify_audit_chain(run.id).valid
        result = engine.replay(run.id)
        assert result.verdict == ("erased" if erased else "identical")
        entries = engine.audit.get_by_run(run.id)
        assert entries[0].erased == erased
        if erased:
            # Each visit once, as it was; what cannot be decided again is neither alike nor other.
            assert _visits(engine, run.id) == visits[run.id]
            lost = {difference.step for difference in result.erased}
            assert {step.id for step in result.steps if not step.identical} == lost
            assert all(step.replayed_result is None for step in result.steps if step.id in lost)
            assert run.status_reason == "asked in writing"
            for text in strings(int(run.contact_id[1:])):
                assert text.decode() not in repr(entries) + repr(engine.get_logs(run.id))
    assert engine.verify_log().valid
    told = repr(later)
    for contact in ERASED:
        assert not any(text.decode() in told for text in strings(int(contact[1:])))
    (first, *_) = engine.audit.query(actions=["contact.erased"]).entries
    assert (first.actor, first.reason, first.contact_id) == ("ann", "asked in writing", "c0")


def _visits(engine: Engine, run_id: str) -> list[tuple[str, str | None]]:
    return [(step.id, step.original_result) for step in engine.replay(run_id).steps]


def test_a_run_whose_exit_condition_holds_already_ends_by_it(case: Case) -> None:
    engine = case.engine
    exits = [{"when": "events.hasReply(any)", "outcome": "replied"}]
    engine.publish_plan(outreach("asking", exit_conditions=exits))
    runs = [engine.execute(outreach("asking", exit_conditions=exits), person(n)) for n in (0, 1)]
    engine.tick()
    engine.ingest_event("email.replied", "c0", runs[0].id)
    for number, run in enumerate(runs):
        assert (run.id in engine.erase_contact(f"c{number}", "asked").cancelled) == (number == 1)
        assert engine.replay(run.id).verdict == "erased"
    ended = [engine.get_run(run.id) for run in runs]
    assert [(run.status, run.outcome) for run in ended] == [
        ("completed", "replied"), ("cancelled", None),
    ]  # fmt: skip
    last = engine.audit.get_by_run(runs[0].id)[-1]
    assert (last.action, last.actor, last.reason) == ("run.completed", engine._parts.actor, "asked")
    assert engine.verify_log().valid


def test_an_erasure_counts_as_an_unsubscribe_as_any_suppression_by_name_does(case: Case) -> None:
    engine = case.engine
    exits = [{"when": "contact.unsubscribed", "outcome": "gone"}]
    plan = outreach("leaving", exit_conditions=exits)
    engine.publish_plan(plan)
    runs = [engine.execute(plan, person(n)) for n in (0, 1)]
    engine.tick()
    engine.suppress("c0", level="regulatory", reason="asked")
    for number, run in enumerate(runs):
        assert run.id not in engine.erase_contact(f"c{number}", "asked").cancelled
        assert engine.replay(run.id).verdict == "erased"
        ended = engine.get_run(run.id)
        assert (ended.status, ended.outcome) == ("completed", "gone")
    assert engine.verify_log().valid


def test_a_run_ends_by_what_only_the_key_can_read_before_that_goes(case: Case) -> None:
    engine = case.engine
    exits = [{"when": 'contact.unsubscribed and variables.tier == "gold"', "outcome": "gone"}]
    plan = outreach("leaving", exit_conditions=exits)
    engine.publish_plan(plan)
    run = engine.execute(plan, person(0), variables={"tier": "gold"})
    engine.tick()
    engine.erase_contact("c0", "asked")
    ended = engine.get_run(run.id)
    assert (ended.status, ended.outcome) == ("completed", "gone")


def test_the_erased_cannot_be_enrolled_again(case: Case) -> None:
    engine = case.engine
    engine.erase_contact("c0", "asked")
    same = person(0)
    for contact in (
        same,
        Contact(id="c0", email="new@example.com"),
        Contact(id="other", email="MAIL0X@example.com"),
        Contact(id="third", email="new@example.com", phone=same.phone),
    ):
        with pytest.raises((ContactSuppressed, AlreadyEnrolled)) as caught:
            engine.execute(outreach("another"), contact)
        assert isinstance(caught.value, ContactSuppressed)
    with pytest.raises(InvalidInput, match="stays suppressed"):
        engine.unsuppress("c0", level="regulatory")
    # Another person is not touched.
    assert engine.execute(outreach("another"), person(1)).status == "active"


def test_what_arrives_afterwards_is_recorded_without_what_is_personal(case: Case) -> None:
    engine = case.engine
    run = engine.list_runs(contact_id="c0").runs[0].id
    engine.erase_contact("c0", "asked")
    engine.ingest_event("email.replied", "c0", run, "intro", {"text": "my name is secret0x"})
    last = engine.audit.get_by_run(run)[-1]
    assert last.action == "event.received"
    assert "secret0x" not in repr(last)
    assert engine.verify_log().valid


def test_what_arrives_about_somebody_without_a_key_is_not_kept_either(case: Case) -> None:
    engine = case.engine
    engine.suppress("only-listed")
    assert not engine.erase_contact("only-listed", "asked").key_destroyed
    engine.ingest_event("email.replied", "only-listed", data={"text": "my name is secret1x"})
    (*_, last) = engine.get_contact_logs("only-listed")
    assert last.action == "event.received"
    assert last.data.get("personal") is None
    assert not any(PERSONAL.search(content_of(path)) for path in files_of(case))


def test_an_erasure_can_be_repeated(case: Case) -> None:
    engine = case.engine
    first = engine.erase_contact("c0", "asked")
    head = engine.health().position
    again = engine.erase_contact("c0", "asked again")
    assert again.cancelled == ()
    assert again.runs == first.runs
    assert engine.health().position == head


def test_whoever_is_not_known_cannot_be_erased(case: Case) -> None:
    with pytest.raises(InvalidInput, match="nothing is known of 'nobody'"):
        case.engine.erase_contact("nobody", "asked")
    with pytest.raises(InvalidInput, match="reason"):
        case.engine.erase_contact("c0", " ")
    # Somebody who was only ever suppressed is known.
    case.engine.suppress("only-listed")
    assert not case.engine.erase_contact("only-listed", "asked").key_destroyed


def test_no_plaintext_is_in_any_file(case: Case) -> None:
    """Neither before nor after: database, write-ahead log and key store hold ciphertext only."""
    case.engine.erase_contact("c0", "asked")
    case.engine.run_until_idle()
    case.engine.projections.rebuild("audit_trail")
    case.engine.audit.archive(case.engine.now().now, place=str(case.folder / "archives"))
    found = [path for path in files_of(case) if PERSONAL.search(content_of(path))]
    assert found == []


def test_the_search_finds_what_is_there(case: Case, tmp_path: Path) -> None:
    """The test above could not fail otherwise."""
    for text in strings(17):
        (tmp_path / "leak").write_bytes(bytes(5000) + text + bytes(5000))
        assert PERSONAL.search((tmp_path / "leak").read_bytes())
    assert len(files_of(case)) > (20 if case.kind == "postgres" else 0)


# Digests in hex, of which the server's write-ahead log has many, may hold any ten digits.
PHONE = rb"(?<![0-9a-f])1555\d{6}(?![0-9a-f])"
PERSONAL = re.compile(rb"mail\d+x@|Forename\d+x|secret\d+x|" + PHONE, re.IGNORECASE)


def files_of(case: Case) -> list[Path]:
    """Every file of the database, of the server's write-ahead log, of keys and archives."""
    folders = [case.folder]
    if case.kind == "postgres":
        with psycopg.connect(case.url, autocommit=True) as raw:
            raw.execute("CHECKPOINT")
            row = raw.execute(
                "SELECT current_setting('data_directory'), oid FROM pg_database "
                "WHERE datname = current_database()"
            ).fetchone()
        assert row is not None
        data = Path(row[0])
        folders += [data / "base" / str(row[1]), data / "pg_wal"]
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


def content_of(path: Path) -> bytes:
    """What is in a file; nothing if the server has just taken it away, as it does with caches."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


# --- the certificate ------------------------------------------------------------------------------


def test_the_certificate_says_what_was_erased_and_what_had_left(case: Case) -> None:
    engine = case.engine
    run = engine.list_runs(contact_id="c0").runs[0].id
    done = engine.erase_contact("c0", "asked in writing", "ann")
    signer = engine._parts.signers.open(
        json.loads(done.certificate.partition("\n\n")[0])["log"], create=False
    )
    assert signer is not None
    told = json.loads(open_note(done.certificate, "certificate", signer.key, signer.verify))
    (entry,) = engine.audit.query(actions=["contact.erased"]).entries
    assert told["entry"] == {
        "stream": "contact:c0",
        "version": entry.version,
        "position": entry.position,
        "checksum": entry.checksum,
    }
    assert (told["contact"], told["actor"], told["reason"]) == ("c0", "ann", "asked in writing")
    assert told["keyDestroyed"] == engine._parts.store.contact_keys(["c0"])["c0"].hex()
    assert [each["run"] for each in told["runs"]] == [run]
    (message,) = told["left"]["messages"]
    assert (message["run"], message["step"], message["outcome"]) == (run, "intro", "delivered")
    assert {each.partition(":")[0] for each in told["suppressed"]} == {"id", "email", "phone"}
    assert not PERSONAL.search(done.certificate.encode())


def test_the_certificate_names_files_of_the_outbox(tmp_path: Path) -> None:
    with Engine(
        EngineConfig(
            f"sqlite:///{tmp_path / 'dee.db'}",
            clock="manual",
            outbox=str(tmp_path / "outbox"),
            certificates=str(tmp_path / "certificates"),
        )
    ) as engine:
        publish_basics(engine)
        engine.execute(outreach(), person(0), {"note": "secret0x"})
        engine.tick()
        done = engine.erase_contact("c0", "asked")
        assert Path(done.written_to).read_text(encoding="utf-8") == done.certificate
        told = json.loads(done.certificate.partition("\n\n")[0])
        (file,) = told["left"]["messages"][0]["files"]
        assert b"mail0x@" in Path(file).read_bytes()
        again = engine.erase_contact("c0", "asked again")
        assert again.certificate == done.certificate


def test_the_certificate_lists_what_went_out_again_and_then_no_more(tmp_path: Path) -> None:
    """What is told of a message's step once it has left does not take it off the list."""
    hour = 3600
    url = f"sqlite:///{tmp_path / 'dee.db'}"
    with open_engine(url, channel=MemoryChannel(), keys=tmp_path / "keys.db") as engine:
        publish_basics(engine)
        run = engine.execute(outreach(), person(0)).id
        engine.tick()
        for tick in (60, 2 * hour):
            engine.run_until(tick)
            data = {"kind": "soft"}
            engine.ingest_event("email.bounced", "c0", run, "intro", data, event_id=f"e{tick}")
        engine.pause_run(run)
        engine.run_until(2 * 24 * hour)
        engine.resume_run(run)
        engine.run_until(2 * 24 * hour + 2)
        assert engine.get_timeline(run)[-2].action == "error.occurred", "it goes out no more"
        done = engine.erase_contact("c0", "asked", certificate=str(tmp_path / "certs"))
        told = json.loads(done.certificate.partition("\n\n")[0])
    assert [each["outcome"] for each in told["left"]["messages"]] == ["delivered", "delivered"]


def test_the_certificate_says_how_calls_ended() -> None:
    """Also that of a call which went on when its run had ended; one that nobody took reached
    nobody, and still was placed."""
    placing = MemoryChannel(lambda action, _: ChannelResult("pending", action.key[:16]))
    with open_engine(":memory:", channel=placing) as engine:
        publish_basics(engine)
        runs = {}
        for outcome, end_first in (("busy", False), ("answered", True)):
            run = engine.execute(calling(f"p-{outcome}"), person(0)).id
            engine.tick()
            if end_first:
                engine.cancel_run(run, "enough")
            engine.ingest_event("call.completed", "c0", run, None, {"outcome": outcome})
            runs[run] = outcome
        certificate = engine.erase_contact("c0", "asked").certificate
    told = json.loads(certificate.partition("\n\n")[0])
    calls = {m["run"]: m["outcome"] for m in told["left"]["messages"] if m["channel"] == "voice"}
    assert calls == runs


def test_each_contact_has_a_certificate_of_its_own(case: Case) -> None:
    """A colon and an underscore may both be in ids, and a certificate is never written over."""
    written = {}
    for contact in ("crm:7_1", "crm_7:1", "crm_7_1", "crm:7:1"):
        case.engine.suppress(contact, reason="x")
        done = case.engine.erase_contact(contact, "asked", certificate=str(case.folder / "certs"))
        written[contact] = (done.written_to, done.certificate)
    for path, certificate in written.values():
        assert Path(path).read_text(encoding="utf-8") == certificate


def test_names_of_certificates_differ_by_more_than_case() -> None:
    ids = ["jane", "Jane", "JANE", "jAne", "j:ane", "j:Ane", "j.ane", "JANE1", "jane1"]
    names = {file_name(each) for each in ids}
    assert len({name.lower() for name in names}) == len(ids)
    assert file_name("jane") == "erasure-jane.txt", "as it was"
    assert file_name("Jane") == "erasure-Jane=1.txt"
    assert all(set(name) <= set(string.ascii_letters + string.digits + "-.=~") for name in names)


def test_an_erasure_that_cannot_be_certified_does_not_begin(
    tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    config = EngineConfig(fresh_postgres(), clock="manual", keys=f"sqlite:///{tmp_path / 'k.db'}")
    with Engine(config) as engine:
        engine.suppress("c0", reason="x")
        head = engine.health().position
        with pytest.raises(InvalidInput, match="audit_key_file"):
            engine.erase_contact("c0", "asked")
        assert engine.health().position == head


def test_what_was_pressed_in_calls_is_forgotten_with_the_contact(tmp_path: Path) -> None:
    file = tmp_path / "calls.db"
    config = EngineConfig(
        f"sqlite:///{tmp_path / 'dee.db'}",
        clock="manual",
        certificates=str(tmp_path / "certificates"),
        twilio_calls=str(file),
    )
    calls = ProviderCalls(file)
    with closing(calls), Engine(config) as engine:
        publish_basics(engine)
        for number in range(2):
            run = engine.execute(outreach(), person(number))
            placed = CallRef(run.id, "call", f"key {number}", 1)
            calls.bind(placed, f"CA{number}")
            calls.gather(placed, "pin", f"7351{number}")
        engine.erase_contact("c0", "asked")
        assert calls.find("CA0") is None
        assert calls.find("CA1") is not None
        written = b"".join(path.read_bytes() for path in tmp_path.glob("calls.db*"))
        assert b"73510" not in written
        assert b"73511" in written


@pytest.mark.parametrize("kind", BACKENDS)
def test_nothing_is_sent_whose_key_goes_between_the_decision_and_the_log(
    kind: str, tmp_path: Path, fresh_postgres: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a run that began while its contact was being erased."""
    decision, channel = transact.decision, MemoryChannel()
    with open_engine(database_url(kind, tmp_path, fresh_postgres), channel=channel) as engine:
        publish_basics(engine)
        runs = {each["id"]: engine.execute(outreach(), each).id for each in people(2)}
        key = engine._parts.store.contact_keys(["c00"])["c00"]

        def deciding(materials: Any, state: Any, command: Any) -> Any:
            decided = decision(materials, state, command)
            if state.contact_id == "c00":
                engine._parts.keys.destroy(key)
            return decided

        monkeypatch.setattr(transact, "decision", deciding)
        engine.tick()
        assert [action.run_id for action in channel.actions] == [runs["c01"]]
        assert engine.get_run(runs["c00"]).status_reason == "the contact was erased"
