"""The audit trail as people ask for it: entries of a run, of many runs, and what a step read."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dee_es import Contact, Engine
from dee_es.adapters.storage.relational import audit as relational_audit
from dee_es.engine.auditing.entries import AuditLogEntry
from dee_es.errors import InvalidInput, RunNotFound
from tests.support.engines import (
    BACKENDS,
    EPOCH,
    database_url,
    open_engine,
    outreach,
    publish_basics,
)

NESTED = base64.urlsafe_b64encode(b"[" * 100_000).decode()
"""JSON that no reader follows to its end."""


@pytest.fixture(params=BACKENDS)
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> Iterator[Engine]:
    """Two plans, six contacts; one run was cancelled, two were paused and one of them resumed."""
    url = database_url(request.param, tmp_path, fresh_postgres)
    with open_engine(url) as engine:
        publish_basics(engine)
        for number in range(6):
            plan = outreach("even" if number % 2 == 0 else "odd")
            person = Contact(
                id=f"c{number}", email=f"c{number}@example.com", firstName=f"Name{number}"
            )
            engine.execute(plan, person, {"offer": number})
        engine.run_until(10)
        run = {each.contact_id: each.id for each in engine.list_runs().runs}
        engine.cancel_run(run["c0"], "Kundin hat ÄRGER gemeldet", "ann")
        engine.pause_run(run["c1"], "on holiday", "ann")
        engine.pause_run(run["c2"], "on holiday until May", "bob")
        engine.resume_run(run["c1"], None, "bob")
        engine.run_until_idle()
        yield engine


def everything(engine: Engine) -> list[AuditLogEntry]:
    found: list[AuditLogEntry] = []
    cursor = None
    head = engine.health().position
    while True:
        page = engine.audit.query(limit=7, cursor=cursor)
        # The question itself is recorded once its first page was answered.
        assert page.total == (head if cursor is None else head + 1)
        found += page.entries
        cursor = page.next_cursor
        if cursor is None:
            return found


def test_every_event_of_the_log_is_an_entry_once(engine: Engine) -> None:
    found = everything(engine)
    assert sorted(entry.position for entry in found) == list(range(1, len(found) + 1))
    assert [(e.tick, e.position) for e in found] == sorted((e.tick, e.position) for e in found)
    assert len({entry.id for entry in found}) == len(found)
    assert sorted(found, key=lambda entry: entry.id) == sorted(
        found, key=lambda entry: (entry.timestamp, bytes.fromhex(entry.checksum))
    )
    for entry in found:
        assert len(entry.id) == 26
        assert len(bytes.fromhex(entry.checksum)) == hashlib.sha256().digest_size


@pytest.mark.parametrize(
    "filters",
    [
        {"contact_id": "c1"},
        {"plan_id": "odd"},
        {"plan_id": "odd", "actions": ["step.executed", "run.completed"]},
        {"actions": "run.paused"},
        {"actor": "ann"},
        {"actor": "bob", "plan_id": "even"},
        {"since": EPOCH + timedelta(seconds=10), "until": EPOCH + timedelta(days=3)},
        {"contact_id": "c3", "since": EPOCH + timedelta(days=1)},
        {"contact_id": "nobody"},
    ],
)
def test_queries_agree_with_a_look_at_every_entry(
    engine: Engine, filters: dict[str, object]
) -> None:
    def wanted(entry: AuditLogEntry) -> bool:
        actions = filters.get("actions", entry.action)
        return (
            all(
                getattr(entry, name) == filters.get(name, getattr(entry, name))
                for name in ("contact_id", "plan_id", "actor")
            )
            and (entry.action == actions or (entry.action in actions))
            and entry.timestamp >= filters.get("since", entry.timestamp)
            and ("until" not in filters or entry.timestamp < filters["until"])
        )

    expected = [entry for entry in everything(engine) if wanted(entry)]
    page = engine.audit.query(**filters, limit=1000)
    assert list(page.entries) == expected
    assert page.total == len(expected)
    assert bool(expected) == (filters.get("contact_id") != "nobody")


def test_a_page_and_its_total_are_of_one_moment(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody publishes a plan between the two, and looks at the trail."""
    count = relational_audit.count

    def publish_first(*given: Any) -> Any:
        engine.publish_plan(outreach("late"))
        engine.projections.catch_up("audit_trail")
        return count(*given)

    monkeypatch.setattr(relational_audit, "count", publish_first)
    page = engine.audit.query(actions="plan.published", limit=1000)
    assert page.total == len(page.entries)


def test_text_is_looked_for_in_reasons_without_regard_to_case(engine: Engine) -> None:
    def found(text: str, **more: str) -> list[tuple[str | None, str]]:
        page = engine.audit.query(text=text, **more)
        assert page.total == len(page.entries)
        return [(entry.contact_id, entry.action) for entry in page.entries]

    assert found("ärger") == [("c0", "run.cancelled")]
    assert found("A\N{COMBINING DIAERESIS}RGER") == found("ärger")
    assert found("HOLIDAY") == [("c1", "run.paused"), ("c2", "run.paused")]
    assert found("holiday", actor="bob") == [("c2", "run.paused")]
    assert found("%") == []


def test_the_entries_of_a_run_say_what_was_read_and_what_came_of_it(engine: Engine) -> None:
    run = engine.list_runs(contact_id="c3").runs[0]
    entries = engine.audit.get_by_run(run.id)
    assert list(engine.audit.query(run_id=run.id).entries) == entries
    assert [entry.version for entry in entries] == list(range(1, len(entries) + 1))
    assert entries[0].previous_checksum == "0" * 64
    for before, after in pairwise(entries):
        assert after.previous_checksum == before.checksum
    assert entries[0].context == {}
    assert entries[0].input["personal"]["variables"] == {"offer": 3}
    sent = next(entry for entry in entries if entry.action == "step.dispatched")
    assert sent.input["personal"]["text"] == "Hello Name3"
    assert len(sent.output["digest"]) == 64
    assert sent.context["currentStep"] == "intro"
    assert sent.context["contact"]["email"] == "c3@example.com"
    branch = next(entry for entry in entries if entry.action == "step.evaluated")
    assert branch.output["goto"]
    assert branch.input["when"]
    assert {entry.plan_id for entry in entries} == {"odd"}
    assert {entry.contact_id for entry in entries} == {"c3"}


def test_what_a_step_read(engine: Engine) -> None:
    run = engine.list_runs(contact_id="c3").runs[0]
    entries = engine.audit.get_by_run(run.id)
    branch = next(entry for entry in entries if entry.action == "step.evaluated")
    seen = engine.audit.get_context_at(run.id, branch.step_id or "")
    expected = {k: v for k, v in branch.context.items() if k not in ("status", "currentStep")}
    assert seen.model_dump(mode="json", by_alias=True) == expected
    assert seen.previous_step == ("pause", "waited")
    assert engine.audit.get_context_at(run.id, "intro", visit=1).previous_step is None
    with pytest.raises(InvalidInput, match="visit: must be 1 to 1"):
        engine.audit.get_context_at(run.id, "intro", visit=2)
    with pytest.raises(InvalidInput, match="has not entered"):
        engine.audit.get_context_at(run.id, "elsewhere")


def test_bad_questions(engine: Engine) -> None:
    for call, told in [
        (lambda: engine.audit.query(actions=["run.exploded"]), "actions: 'run.exploded' is none"),
        (lambda: engine.audit.query(actions=[]), "actions"),
        (lambda: engine.audit.query(limit=0), "limit"),
        (lambda: engine.audit.query(limit=1001), "limit"),
        (lambda: engine.audit.query(text=" "), "text"),
        (lambda: engine.audit.query(cursor="x"), "cursor: is not one"),
        (lambda: engine.audit.query(cursor=NESTED), "cursor: is not one"),
        (lambda: engine.audit.query(since=EPOCH.replace(tzinfo=None)), "since"),
        (lambda: engine.audit.query(contact_id="a b"), "contact_id"),
    ]:
        with pytest.raises(InvalidInput, match=told):
            call()
    cursor = engine.audit.query(limit=1).next_cursor
    with pytest.raises(InvalidInput, match="belongs to other filters"):
        engine.audit.query(actor="ann", cursor=cursor)
    with pytest.raises(RunNotFound):
        engine.audit.get_by_run("run_" + "a" * 26)


def test_a_page_that_is_full_and_the_last_offers_no_other(engine: Engine) -> None:
    total = engine.audit.query(contact_id="c3", limit=1).total
    whole = engine.audit.query(contact_id="c3", limit=total)
    assert (len(whole.entries), whole.next_cursor) == (total, None)
    first = engine.audit.query(contact_id="c3", limit=total - 1)
    assert len(first.entries) == total - 1
    last = engine.audit.query(contact_id="c3", limit=1, cursor=first.next_cursor)
    assert last.entries == whole.entries[-1:]
    assert last.next_cursor is None


def test_nobody_else_can_make_a_cursor(engine: Engine) -> None:
    """The pages behind a cursor are not recorded: with one of their own, somebody could read all
    of the log unseen."""
    cursor = engine.audit.query(limit=1).next_cursor
    assert cursor is not None
    place = json.loads(base64.urlsafe_b64decode(cursor))
    assert engine.audit.query(limit=1, cursor=cursor).entries
    for forged in ([0, 0, *place[2:]], [*place[:3], "0" * 64], place[:3], [*place[:3], None]):
        made = base64.urlsafe_b64encode(json.dumps(forged).encode()).decode()
        with pytest.raises(InvalidInput, match="cursor: is not one that a page gave"):
            engine.audit.query(limit=1, cursor=made)


def test_entries_of_several_contacts_are_not_read_unseen(engine: Engine) -> None:
    def asked() -> list[tuple[str | None, str | None]]:
        found = engine.audit.query(actions=["log.exported"], limit=1_000)
        return [(entry.actor, entry.reason) for entry in found.entries]

    before = asked()
    entries = engine.audit.get_at(1, 1_000, asked_by="ann", purpose="a complaint")
    by_contact = {entry.contact_id: entry for entry in entries}
    assert len(by_contact) > 2
    # The question about the questions is recorded, too.
    assert ("ann", "a complaint") in (told := asked())
    assert len(told) == len(before) + 2
    for entry in by_contact.values():
        engine.audit.get_at(entry.position, asked_by="bob")
    assert "bob" not in {actor for actor, _ in asked()}


def test_an_unknown_run_or_step(engine: Engine) -> None:
    with pytest.raises(RunNotFound):
        engine.audit.get_by_run("contact:c1")
