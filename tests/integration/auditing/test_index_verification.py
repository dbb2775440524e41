"""Whoever changes what is decided by beside the log is found out: each row is what the log says."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from dee_es import Engine
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.engine.auditing import indexes
from dee_es.errors import DeeError
from tests.support.counts import count
from tests.support.engines import (
    BACKENDS,
    DAY,
    calling,
    fickle,
    open_engine,
    outreach,
    people,
    publish_basics,
)
from tests.support.storage.originals import Originals

ON_DISK = tuple(kind for kind in BACKENDS if kind != "memory")
JANE = {"id": "jane", "email": "jane@example.com", "firstName": "Jane"}


@dataclass
class Log:
    """A database with complicated lives in it."""

    engine: Engine
    url: str
    waiting: str
    """A run that waits."""

    def sql(self, statement: str, *values: object) -> None:
        """Change it past the engine."""
        if self.url.startswith("sqlite:///"):
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as db, db:
                changed = db.execute(statement, values).rowcount
        else:
            with psycopg.connect(self.url) as server:
                found = server.execute(statement.replace("?", "%s").encode(), values)
                changed = found.rowcount
        assert changed > 0

    def differences(self) -> list[str]:
        """What is told."""
        return [str(each) for each in self.engine.audit.verify_indexes().differences]


def live(engine: Engine, folder: Path) -> str:
    """All that the write side keeps rows about; returns a run that waits."""
    with open_engine(":memory:") as elsewhere:
        publish_basics(elsewhere)
        there = [elsewhere.execute(outreach(plan), JANE).id for plan in ("away", "far")]
        elsewhere.run_until(60)
        for run in there:
            engine.import_run(elsewhere.export_run(run))
    publish_basics(engine)
    engine.publish_policy(
        {"consent": {"required": ["voice"]}, "limits": {"perDay": {"contact": 3}}}
    )
    engine.bulk_execute(outreach(), people(12))
    engine.run_until(90)
    engine.run_until(6 * DAY)
    # Some of these runs have ended, and leave the log.
    engine.audit.archive(engine.now().now - timedelta(seconds=1), place=str(folder / "archives"))
    engine.bulk_execute(outreach(), people(8))
    engine.bulk_execute(calling(), people(6))
    engine.grant_consent("c01", "voice", purpose="sales")
    engine.grant_consent("c01", "voice")
    engine.grant_consent("c02", "email", expires_at=engine.now().now + timedelta(days=9))
    engine.revoke_consent("c01", "voice")
    engine.grant_consent("nobody", "voice")
    engine.suppress("c03", level="channel", channel="email")
    engine.suppress("c03", level="regulatory")
    engine.suppress("c04")
    engine.suppress(email="c04@example.com")
    engine.unsuppress("c04")
    engine.suppress(phone="+15550100", level="plan", plan_id="outreach")
    engine.run_until(6 * DAY + 60)
    engine.ingest_event("email.replied", "c05", data={"text": "yes"}, event_id="reply")
    engine.ingest_event("email.bounced", "c06", data={"kind": "hard"}, event_id="bounce")
    engine.ingest_event("email.unsubscribed", "c07", event_id="away")
    for number, run in enumerate(engine.list_runs(limit=5, status="waiting").runs):
        engine.pause_run(run.id, "slowly", keep="remaining")
        if number % 2:
            engine.resume_run(run.id)
    engine.erase_contact("c02", "asked")
    engine.run_until(7 * DAY)
    # It is not due where it came in, until somebody acts on it.
    engine.pause_run(there[1], "a look")
    engine.resume_run(there[1])
    run = engine.execute(outreach("last"), JANE).id
    engine.tick()
    assert engine.get_run(run).status == "waiting"
    return run


def _open(url: str, folder: Path) -> Engine:
    return open_engine(url, channel=MemoryChannel(fickle), keys=folder / "keys.db")


def _fill(url: str, folder: Path) -> str:
    with _open(url, folder) as engine:
        return live(engine, folder)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Iterator[Originals[str]]:
    with closing(Originals(tmp_path_factory.mktemp("lived"), postgres_url, _fill)) as originals:
        yield originals


@pytest.fixture(params=BACKENDS)
def log(request: pytest.FixtureRequest, tmp_path: Path, lived: Originals[str]) -> Iterator[Log]:
    if request.param == "memory":
        with _open(":memory:", tmp_path) as engine:
            yield Log(engine, ":memory:", live(engine, tmp_path))
        return
    with lived.copied(request.param, tmp_path) as (url, waiting), _open(url, tmp_path) as engine:
        yield Log(engine, url, waiting)


on_disk = pytest.mark.parametrize("log", ON_DISK, indirect=True)


# --- nothing is told where nothing is -------------------------------------------------------------


@pytest.mark.parametrize("page", [1, 7, indexes.PAGE])
def test_nothing_differs_where_nobody_changed_anything(
    log: Log, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes, "PAGE", page)
    told: list[int] = []
    verdict = log.engine.audit.verify_indexes(told.append)
    assert (verdict.differences, verdict.unread) == ((), ())
    assert verdict.valid
    health = log.engine.health()
    assert (verdict.entries, verdict.runs) == (health.position, health.runs)
    assert verdict.contacts == len(log.engine._parts.store.stream_ids("contact:"))
    assert told == sorted(told)
    assert told[-1] == health.position


def test_nothing_differs_while_others_write(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexes, "PAGE", 20)
    done = threading.Event()
    failed: list[DeeError] = []

    def write() -> None:
        number = 0
        try:
            while not done.is_set():
                number += 1
                who = f"c{number % 9:02}"
                log.engine.suppress(who)
                log.engine.execute(outreach(f"p{number}"), {**JANE, "id": f"new{number}"})
                log.engine.ingest_event("email.opened", who, event_id=f"open{number}")
                log.engine.unsuppress(who)
                log.engine.grant_consent(who, "voice")
                log.engine.tick()
        except DeeError as error:
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        before = log.engine.health().position
        for _ in range(6):
            verdict = log.engine.audit.verify_indexes()
            assert (verdict.differences, verdict.unread) == ((), ())
    finally:
        done.set()
        writer.join()
    assert failed == []
    assert log.engine.health().position > before
    assert log.differences() == []


def test_nothing_differs_whatever_is_written_between_two_reads(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, engine, store = random.Random(5), log.engine, log.engine._parts.store
    writes: list[int] = []
    reads = ("heads", "read_streams", "suppressions", "consents", "known_event_ids",
             "event_id_page", "contact_key_page")  # fmt: skip
    kept = {name: getattr(store, name) for name in reads}

    def write() -> None:
        """As somebody else does: who writes reads undisturbed."""
        monkeypatch.undo()
        number = len(writes)
        writes.append(number)
        change = engine.suppress if number % 2 else engine.unsuppress
        change("c03", level="regulatory")
        (engine.grant_consent if number % 2 else engine.revoke_consent)("c03", "voice")
        engine.ingest_event("email.opened", "c03", event_id=f"open{number}")
        if engine.get_run(log.waiting).status == "paused":
            engine.resume_run(log.waiting)
        else:
            engine.pause_run(log.waiting, "a moment")
        disturb()

    def disturb() -> None:
        for name, read in kept.items():

            def disturbed(*given: object, read: Callable[..., object] = read) -> object:
                if chance.random() < 0.2:
                    write()
                return read(*given)

            monkeypatch.setattr(store, name, disturbed)

    for _ in range(count(3, 20)):
        disturb()
        verdict = engine.audit.verify_indexes()
        monkeypatch.undo()
        assert verdict.differences == ()
        assert {each.partition(" ")[2] for each in verdict.unread} <= {
            "kept changing while it was looked at"
        }
    assert len(writes) > 20


# --- what was changed is named --------------------------------------------------------------------

HEADS = [
    ("due_tick = NULL", "due_tick: {due} by the log, none in the table"),
    ("due_tick = 5", "due_tick: {due} by the log, 5 in the table"),
    ("ended = true", "ended: False by the log, True in the table"),
    ("slice = slice + 1", "slice: {slice} by the log,"),
    ("ordinal = 1", "ordinal: {ordinal} by the log, 1 in the table"),
]


@on_disk
@pytest.mark.parametrize("change, told", HEADS, ids=[each for each, _ in HEADS])
def test_a_changed_head_of_a_run_is_named(log: Log, change: str, told: str) -> None:
    head = log.engine._parts.store.heads([log.waiting])[log.waiting]
    log.sql(f"UPDATE heads SET {change} WHERE stream_id = ?", log.waiting)
    (found,) = log.differences()
    named = told.format(due=head.due_tick, slice=head.slice, ordinal=head.ordinal)
    assert found.startswith(f"{log.waiting}: {named}")
    assert log.engine.verify_log().valid, "no chain shows it"


@on_disk
def test_a_head_that_is_gone_or_wakes_what_never_acts_is_named(log: Log) -> None:
    log.sql("DELETE FROM heads WHERE stream_id = ?", log.waiting)
    log.sql("UPDATE heads SET due_tick = 1 WHERE stream_id = 'plan:outreach'")
    imported = log.engine.list_runs(plan_id="away").runs[0].id
    log.sql("UPDATE heads SET due_tick = 1 WHERE stream_id = ?", imported)
    archived = log.engine._parts.store.tombstones(0, 1_000)[0].stream_id
    log.sql("UPDATE heads SET ended = false WHERE stream_id = ?", archived)
    assert sorted(log.differences()) == sorted(
        [
            f"{log.waiting}: head: there by the log, missing in the table",
            "plan:outreach: due_tick: none by the log, 1 in the table",
            f"{imported}: due_tick: none by the log, 1 in the table",
            f"{archived}: ended: True by the log, False in the table",
        ]
    )


ROWS = [
    ("DELETE FROM suppressions WHERE subject = 'id:c03' AND level = 'channel'",
     "contact:c03: suppression channel email of id:c03: on the list by the log, not on the list"),
    ("UPDATE suppressions SET level = 'plan' WHERE subject = 'id:c03' AND level = 'regulatory'",
     "contact:c03: suppression regulatory of id:c03: on the list by the log, not on the list"),
    ("UPDATE suppressions SET contact_id = 'c01' WHERE subject = 'id:c03'",
     "contact:c01: suppression channel email of id:c03: not on the list by the log, on the list"),
    ("DELETE FROM suppressions WHERE subject = 'id:c02'",
     "contact:c02: suppression regulatory of id:c02: on the list by the log, not on the list"),
    ("INSERT INTO suppressions VALUES ('id:c09', 'global', '', 'c09', 1)",
     "contact:c09: suppression global of id:c09: not on the list by the log, on the list"),
    ("INSERT INTO suppressions VALUES ('id:c04', 'global', '', 'c04', 1)",
     "contact:c04: suppression global of id:c04: not on the list by the log, on the list"),
    ("UPDATE consents SET state = 'granted' WHERE contact_id = 'c01' AND channel = 'voice'",
     "contact:c01: consent voice: revoked since tick 518400 by the log, granted since tick 518400"),
    ("UPDATE consents SET expires_tick = NULL WHERE contact_id = 'c02'",
     "contact:c02: consent email: granted since tick 518400 until tick 1296000 by the log,"),
    ("DELETE FROM consents WHERE contact_id = 'nobody'",
     "contact:nobody: consent voice: granted since tick 518400 by the log, none in the table"),
    ("INSERT INTO consents VALUES ('c11', 'voice', 'granted', 0, NULL, 1)",
     "contact:c11: consent voice: none by the log, granted since tick 0 in the table"),
    ("DELETE FROM channel_event_ids WHERE event_id = 'reply'",
     "contact:c05: channel event reply: known by the log, not known in the table"),
    ("INSERT INTO channel_event_ids VALUES ('to come')",
     "the log: channel event to come: not known by the log, known in the table"),
    ("INSERT INTO contact_keys SELECT 'to-come', key_id FROM contact_keys WHERE contact_id = 'c00'",
     "contact:to-come: key of the contact: none by the log, "),
    ("UPDATE log_head SET position = position - 1", "the log: log_head position: "),
    ("UPDATE log_head SET position = position + 9000000", "the log: log_head position: "),
    ("UPDATE log_head SET ordinal = ordinal - 1", "the log: log_head ordinal: "),
    ("UPDATE log_head SET tick = 5", "the log: log_head tick: 604800 by the log, 5 in the table"),
]  # fmt: skip


@on_disk
@pytest.mark.parametrize("statement, told", ROWS, ids=[each.split(" WHERE")[0] for each, _ in ROWS])
def test_a_changed_row_is_named(log: Log, statement: str, told: str) -> None:
    log.sql(statement)
    found = log.differences()
    assert any(each.startswith(told) for each in found), found
    assert all("@" not in each for each in found)
    assert len(found) <= 2


@on_disk
def test_a_whole_table_that_is_gone_is_named(log: Log) -> None:
    listed = len(log.engine._parts.store.suppression_page(None, 1_000))
    log.sql("DELETE FROM suppressions")
    found = log.differences()
    # An address that two of them stood for is missing on the account of both.
    assert len(found) >= listed > 5
    assert all("on the list by the log, not on the list in the table" in each for each in found)


@on_disk
def test_who_is_listed_on_another_s_account_is_not_missed_before_that_ends(log: Log) -> None:
    """As on a list from before each contact had a row of its own."""
    for who in ("once", "again"):
        log.engine.execute(outreach("same"), {"id": who, "email": "both@example.com"})
    for who in ("once", "again"):
        log.engine.suppress(who, level="regulatory")
    address = "subject <> 'id:' || contact_id AND level = 'regulatory' AND contact_id ="
    log.sql(f"DELETE FROM suppressions WHERE {address} ?", "again")
    assert log.differences() == []
    log.sql(f"DELETE FROM suppressions WHERE {address} ?", "once")
    found = log.differences()
    assert [each.split(":")[1] for each in found] == ["once", "again"]
    assert all("suppression regulatory of email:" in each for each in found)


@on_disk
@pytest.mark.parametrize("change", ["DELETE FROM contact_keys", "UPDATE contact_keys SET key_id ="])
def test_a_key_that_is_gone_or_another_is_named(log: Log, change: str) -> None:
    held = log.engine._parts.store.contact_keys(["jane"])["jane"]
    if change.startswith("DELETE"):
        log.sql(f"{change} WHERE contact_id = 'jane'")
        now = "none"
    else:
        log.sql(f"{change} ? WHERE contact_id = 'jane'", bytes(range(16)))
        now = bytes(range(16)).hex()
    found = log.differences()
    told = f"{log.waiting}: key of the contact: {held.hex()} by the log, {now} in the table"
    assert told in found
    assert all(": key of the contact: " in each for each in found)


@pytest.mark.parametrize("log", ["sqlite"], indirect=True)
def test_values_that_are_none_of_their_columns_are_named_as_well(log: Log) -> None:
    """SQLite keeps them."""
    log.sql("UPDATE heads SET due_tick = 'soon', slice = x'00' WHERE stream_id = ?", log.waiting)
    log.sql("UPDATE suppressions SET contact_id = x'00ff' WHERE subject = 'id:c03'")
    log.sql("UPDATE consents SET channel = x'1b' WHERE contact_id = 'nobody'")
    log.sql("UPDATE contact_keys SET key_id = 'none' WHERE contact_id = 'c00'")
    log.sql("INSERT INTO contact_keys VALUES ('to-come', 'mine'), (x'00ff', 5)")
    found = log.differences()
    assert {(each.split(": ")[0], each.split(": ")[1]) for each in found} >= {
        (log.waiting, "due_tick"),
        (log.waiting, "slice"),
        ("contact:c03", "suppression channel email of id:c03"),
        ("contact:c03", "suppression regulatory of id:c03"),
        ("contact:nobody", "consent voice"),
        ("contact:nobody", "consent b'\\x1b'"),
        ("contact:to-come", "key of the contact"),
        ("contact:b'\\x00\\xff'", "key of the contact"),
    }
    assert any("key of the contact" in each for each in found)
    assert all(each.isprintable() for each in found)


@on_disk
def test_what_cannot_be_read_is_told_and_holds_nothing_up(log: Log) -> None:
    log.sql("UPDATE heads SET version = 0 WHERE stream_id = ?", log.waiting)
    log.sql("DELETE FROM suppressions WHERE subject = 'id:c03' AND level = 'channel'")
    verdict = log.engine.audit.verify_indexes()
    assert [each.stream for each in verdict.differences] == ["contact:c03"]
    assert verdict.unread == (f"{log.waiting} cannot be folded (AssertionError)",)


@on_disk
def test_a_hundred_differences_are_enough(log: Log) -> None:
    log.engine.bulk_execute(outreach("many"), people(99))
    log.engine.bulk_execute(outreach("more"), people(99))
    log.sql("UPDATE heads SET slice = 2000")
    assert len(log.differences()) == 100


@on_disk
def test_what_was_taken_off_is_put_right_by_saying_it_again(log: Log) -> None:
    log.sql("DELETE FROM suppressions WHERE contact_id = 'c03'")
    log.sql("UPDATE consents SET state = 'granted' WHERE contact_id = 'c01'")
    log.sql("UPDATE heads SET due_tick = NULL WHERE stream_id = ?", log.waiting)
    assert log.differences() != []
    log.engine.suppress("c03", level="channel", channel="email")
    log.engine.suppress("c03", level="regulatory")
    log.engine.grant_consent("c01", "voice", purpose="sales")
    log.engine.revoke_consent("c01", "voice")
    log.engine.pause_run(log.waiting, "it would sleep for ever")
    log.engine.resume_run(log.waiting)
    assert log.differences() == []


def test_who_has_archived_runs_alone_has_a_key_all_the_same(log: Log, tmp_path: Path) -> None:
    """Their entries have left the log, and nothing in it tells of the contact any more."""
    engine = log.engine
    runs = [
        engine.execute(outreach("gone"), {"id": f"g{n}", "email": "g@x.example"}) for n in (1, 2)
    ]
    for run in runs:
        engine.cancel_run(run.id, "moved away")
    engine.run_until(engine.now().tick + DAY)
    engine.audit.archive(engine.now().now, place=str(tmp_path / "archives"))
    assert engine._parts.store.read_streams([run.id for run in runs]) == {}
    assert set(engine._parts.store.contact_keys(["g1", "g2"])) == {"g1", "g2"}
    assert log.differences() == []
