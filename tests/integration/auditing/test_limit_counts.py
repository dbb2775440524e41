"""The counters of limits and budgets are what the sends of the log add up to, and whoever changes
one is found out."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest

from dee_es import Contact, Engine, ExecutionRun, create_plan, steps
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.core.gate.slots import day_of
from dee_es.core.ids import CounterKey
from dee_es.engine.auditing import indexes
from dee_es.ports import Action, ChannelResult, SendContext
from tests.support.engines import (
    BACKENDS,
    DAY,
    assert_replays,
    database_url,
    open_engine,
    outreach,
    people,
    publish_basics,
)
from tests.support.evidence.overwriting import overwrite

POLICY = {
    "budget": {"amount": 500, "currency": "EUR", "costPerSend": {"email": 2}, "per": "total"},
    "limits": {"perDay": {"contact": 3, "channel": {"email": 90}, "domain": 80, "sender": 70}},
}
DELIVERED = ChannelResult("delivered")
LATER = ChannelResult("failed", error="smtp 451", retryable=True)
REFUSED = ChannelResult("failed", error="smtp 550")
OURS = ChannelResult("failed", error="smtp 535", ours=True)
TOTAL: CounterKey = ("budget:total:EUR", 0)
ONE_MAIL = create_plan(
    id="once", name="Once", steps=[steps.send_email("mail", "intro", "Hi"), steps.end("end", "out")]
)


@dataclass
class Sending:
    """An engine, and what its channel answers next."""

    engine: Engine
    url: str
    answers: list[ChannelResult | Callable[[Action], ChannelResult]] = field(default_factory=list)

    def answer(self, action: Action, _: SendContext) -> ChannelResult:
        """What was said, or that the message was delivered."""
        told = self.answers.pop(0) if self.answers else DELIVERED
        return told if isinstance(told, ChannelResult) else told(action)

    def send(self, who: str = "ada", **plan: Any) -> ExecutionRun:
        """Have one message go out, however often that is tried."""
        contact = Contact(id=who, email=f"{who}@example.com", firstName="N")
        run = self.engine.execute(plan.get("plan", ONE_MAIL), contact)
        self.engine.tick()
        return run

    @property
    def today(self) -> int:
        """The slot of the day."""
        return day_of(self.engine._parts.scale, self.engine.now().tick)

    def held(self, *counters: CounterKey) -> list[int | None]:
        """What these stand at."""
        found = self.engine._parts.store.counters(counters)
        return [found.get(each) for each in counters]

    def put(self, counter: CounterKey, number: int | None) -> None:
        """Change a counter past the engine; None takes it away."""
        name, slot = counter
        if self.url == ":memory:":
            counts = cast("Any", self.engine._parts.store)._database.counts
            counts.pop(counter, None)
            if number is not None:
                counts[counter] = number
            return
        self.sql("DELETE FROM counters WHERE key = ? AND slot = ?", name, slot)
        if number is not None:
            self.sql("INSERT INTO counters (slot, key, n) VALUES (?, ?, ?)", slot, name, number)

    def sql(self, statement: str, *values: object) -> None:
        """Have the database do something."""
        if self.url.startswith("sqlite:///"):
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as db, db:
                db.execute(statement, values)
        else:
            with psycopg.connect(self.url) as server:
                server.execute(statement.replace("?", "%s").encode(), values)

    def told(self) -> list[str]:
        """The differences."""
        verdict = self.engine.audit.verify_indexes()
        assert verdict.unread == ()
        return [str(each) for each in verdict.differences]


@pytest.fixture(params=BACKENDS)
def empty(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> Iterator[Sending]:
    url = database_url(request.param, tmp_path, fresh_postgres)
    channel = MemoryChannel()
    with open_engine(url, channel=channel) as engine:
        sending = Sending(engine, url)
        channel._decide = sending.answer
        yield sending


@pytest.fixture
def sending(empty: Sending) -> Sending:
    publish_basics(empty.engine)
    empty.engine.publish_policy(POLICY)
    return empty


# --- what the log tells ---------------------------------------------------------------------------


def test_whatever_becomes_of_a_message_adds_up(sending: Sending) -> None:
    engine = sending.engine

    def cancelled(action: Action) -> ChannelResult:
        engine.cancel_run(action.run_id, "changed my mind")
        return OURS

    sending.answers = [
        DELIVERED,
        LATER,
        REFUSED,
        OURS,
        ChannelResult("unknown", error="lost"),
        cancelled,
    ]
    for number in range(6):
        sending.send(f"c{number}")
        assert sending.told() == []
    engine.run_until(DAY // 2)
    assert sending.told() == []
    lost = engine.list_runs(status="failed", contact_id="c4").runs[0]
    engine.resolve_step(lost.id, "resend", reason="nothing had come")
    engine.run_until(DAY // 2 + 10)
    mail, total = ("channel:email", sending.today), TOTAL
    # Of nine attempts two failed by our own settings, of one of which the log does not say so: its
    # run was cancelled meanwhile. Two more failed, and cost nothing.
    assert sending.held(mail, total) == [7, 10]
    assert sending.told() == []
    assert_replays(engine)


@pytest.mark.parametrize("again", [[LATER, OURS, REFUSED], [OURS] * 99], ids=["theirs", "ours"])
def test_a_message_that_goes_out_again_adds_up(
    sending: Sending, again: list[ChannelResult]
) -> None:
    """As long as there is time for it."""
    engine = sending.engine
    sending.answers = [DELIVERED, *again]
    run = engine.execute(outreach(), people(1)[0])
    engine.tick()
    engine.ingest_event("email.bounced", "c00", run_id=run.id, data={"kind": "soft"})
    for hour in range(1, 30):
        engine.run_until(hour * 3_600)
        assert sending.told() == []
    failed = [each for each in engine.get_logs(run.id) if each.action == "error.occurred"]
    assert [each.data["resend"] for each in failed] == [True]


def test_what_was_sent_elsewhere_is_not_missed_here(empty: Sending) -> None:
    with open_engine(":memory:") as elsewhere:
        publish_basics(elsewhere)
        elsewhere.publish_policy(POLICY)
        run = elsewhere.execute(outreach(), people(1)[0])
        elsewhere.tick()
        empty.engine.import_run(elsewhere.export_run(run.id))
    assert empty.held(TOTAL) == [None]
    assert empty.told() == []
    empty.engine.pause_run(run.id, "it goes on here")
    empty.engine.resume_run(run.id)
    empty.engine.run_until(4 * DAY)
    assert empty.held(TOTAL) == [2]
    assert empty.told() == []


# --- what was changed is named --------------------------------------------------------------------


@pytest.mark.parametrize("page", [1, indexes.PAGE])
@pytest.mark.parametrize(
    "name, change, told",
    [
        ("channel:email", 1, "3 by the log, 4 in the table"),
        ("channel:email", -1, "3 by the log, 2 in the table"),
        ("channel:email", None, "3 by the log, none in the table"),
        ("contact:ada", 1, "2 by the log, 3 in the table"),
        ("contact:ada", -2, "2 by the log, 0 in the table"),
        ("contact:ada", None, "2 by the log, none in the table"),
        ("contact:eve", 3, "none by the log, 3 in the table"),
        ("budget:total:EUR", 400, "6 by the log, 406 in the table"),
        ("budget:total:EUR", -5, "6 by the log, 1 in the table"),
        ("budget:total:EUR", None, "6 by the log, none in the table"),
        ("budget:total:USD", 1, "none by the log, 1 in the table"),
    ],
)
def test_a_counter_that_was_changed_is_named(
    sending: Sending,
    monkeypatch: pytest.MonkeyPatch,
    page: int,
    name: str,
    change: int | None,
    told: str,
) -> None:
    monkeypatch.setattr(indexes, "PAGE", page)
    for plan in (ONE_MAIL, outreach()):
        sending.send(plan=plan)
    sending.send("ben")
    slot = 0 if name.startswith("budget") else sending.today
    (held,) = sending.held((name, slot))
    sending.put((name, slot), None if change is None else (held or 0) + change)
    when = "all time" if slot == 0 else "2026-01-01"
    assert sending.told() == [f"the log: counter {name} of {when}: {told}"]
    assert sending.engine.verify_log().valid, "no chain shows it"
    sending.put((name, slot), held)
    assert sending.told() == []


def test_a_day_to_come_is_compared_as_well(sending: Sending) -> None:
    sending.send()
    for days in (1, 400):
        sending.put(("channel:email", sending.today + days), 90)
    assert sending.told() == [
        "the log: counter channel:email of 2026-01-02: none by the log, 90 in the table",
        "the log: counter channel:email of 2027-02-05: none by the log, 90 in the table",
    ]


def test_what_is_doubtful_has_bounds(sending: Sending) -> None:
    """It is not on record whether the settings were at fault by which a message did not go out
    whose run had ended."""

    def cancelled(action: Action) -> ChannelResult:
        sending.engine.cancel_run(action.run_id, "changed my mind")
        return REFUSED

    sending.answers = [cancelled]
    sending.send()
    sending.send("ben")
    mail = ("channel:email", sending.today)
    for number, told in [(0, ["1 to 2"]), (1, []), (2, []), (3, ["1 to 2"])]:
        sending.put(mail, number)
        assert sending.told() == [
            f"the log: counter channel:email of 2026-01-01: {each} by the log, {number} in the "
            "table"
            for each in told
        ]


# --- what is forgotten, and what is not known any more --------------------------------------------


def test_days_gone_by_are_not_compared(sending: Sending) -> None:
    sending.send()
    first = sending.today
    sending.engine.run_until(DAY)
    sending.send("ben")
    sending.put(("channel:email", first), 5)
    assert len(sending.told()) == 1, "the day before still is"
    sending.engine.run_until(2 * DAY)
    assert sending.told() == []
    sending.put(("channel:email", first), None)
    assert sending.told() == []
    sending.put(("channel:email", first + 1), None)
    assert len(sending.told()) == 1


def test_days_gone_by_are_not_gone_through(
    sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many they are."""
    sending.send()
    for days in range(1, 60):
        sending.put(("channel:email", sending.today - days), days)
    store, asked = sending.engine._parts.store, []
    pages = store.counter_page

    def page(after: CounterKey, limit: int) -> list[CounterKey]:
        asked.append(after)
        return pages(after, limit)

    monkeypatch.setattr(store, "counter_page", page)
    monkeypatch.setattr(indexes, "PAGE", 5)
    assert len(sending.told()) == 1, "that of the day before"
    assert len(asked) < 6


def test_what_an_archive_forgets_is_not_missed(sending: Sending, tmp_path: Path) -> None:
    engine, first = sending.engine, sending.today
    for day in range(4):
        engine.run_until(day * DAY)
        # One whose sends stay in the log, and one whose sends leave it.
        sending.send(f"stays{day}", plan=outreach(f"p{day}"))
        sending.send(f"goes{day}")
    engine.audit.archive(engine.now().now - timedelta(days=1), place=str(tmp_path / "archives"))
    mails = [("channel:email", first + day) for day in range(4)]
    assert sending.held(*mails) == [None, 2, 2, 2]
    assert sending.told() == []
    # All of what was sent on the last day is in the log still.
    sending.put(mails[3], 4)
    assert sending.told() == [
        "the log: counter channel:email of 2026-01-04: 2 by the log, 4 in the table"
    ]
    sending.put(mails[3], None)
    assert len(sending.told()) == 1


def test_of_what_was_archived_nobody_knows_how_much_it_was(
    sending: Sending, tmp_path: Path
) -> None:
    engine = sending.engine
    for who in ("ada", "ben"):
        sending.send(who)
    sending.send("cid", plan=outreach())
    engine.run_until(3_600)
    engine.audit.archive(engine.now().now, place=str(tmp_path / "archives"))
    assert engine.list_runs().total == 1
    mail = ("channel:email", sending.today)
    assert sending.held(mail, TOTAL) == [3, 6]
    assert sending.told() == []
    sending.put(mail, 1)
    sending.put(TOTAL, 2)
    assert sending.told() == []
    sending.put(mail, 0)
    sending.put(TOTAL, 1)
    assert sorted(sending.told()) == [
        "the log: counter budget:total:EUR of all time: at least 2 by the log, 1 in the table",
        "the log: counter channel:email of 2026-01-01: at least 1 by the log, 0 in the table",
    ]


# --- what cannot be compared ----------------------------------------------------------------------


def test_nothing_is_told_where_an_entry_cannot_be_read(sending: Sending) -> None:
    run = sending.send()
    sending.put(("channel:email", sending.today), 9)
    row = sending.engine._parts.store.read_stream(run.id)[-1]
    overwrite(sending.engine, sending.url, run.id, row.version, b"\x01" + row.state[1:])
    verdict = sending.engine.audit.verify_indexes()
    assert verdict.differences == ()
    assert (
        "the counters of limits cannot be compared (not every entry of the log can be read)"
        in verdict.unread
    )


def test_what_keeps_changing_is_not_told(sending: Sending, monkeypatch: pytest.MonkeyPatch) -> None:
    sending.send()
    sending.put(("channel:email", sending.today), 9)
    store = sending.engine._parts.store
    counters = store.counters

    def changed(wanted: Any) -> Any:
        sending.engine.grant_consent("ada", "email")
        sending.engine.revoke_consent("ada", "email")
        return counters(wanted)

    monkeypatch.setattr(store, "counters", changed)
    verdict = sending.engine.audit.verify_indexes()
    assert verdict.differences == ()
    assert verdict.unread == ("the counters of limits kept changing while they were looked at",)
    monkeypatch.undo()
    assert len(sending.told()) == 1


@pytest.mark.parametrize("empty", ["sqlite"], indirect=True)
def test_values_that_are_none_of_their_columns_are_named_as_well(sending: Sending) -> None:
    """SQLite keeps them."""
    sending.send()
    today = sending.today
    sending.sql("UPDATE counters SET n = 'many' WHERE key = 'channel:email'")
    sending.sql("INSERT INTO counters VALUES ('soon', 'channel:email', 1), (?, x'1b00', 1)", today)
    assert sending.told() == [
        f"the log: counter b'\\x1b\\x00' of {today}: none by the log, a row in the table",
        "the log: counter 'channel:email' of 'soon': none by the log, a row in the table",
        "the log: counter channel:email of 2026-01-01: 1 by the log, many in the table",
    ]
