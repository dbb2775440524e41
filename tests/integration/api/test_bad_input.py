"""Bad input: a clear error of the right class, naming the field, and nothing written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from dee_es import Contact, Engine, create_plan, steps
from dee_es.errors import (
    DeeError,
    EmptyFilter,
    InvalidInput,
    InvalidTransition,
    PlanNotFound,
    PlanValidationError,
    RunNotFound,
)
from tests.support.engines import BACKENDS, database_url, open_engine, outreach, publish_basics

NAIVE = datetime(2026, 1, 1)
UNKNOWN = "run_" + "a" * 26


@pytest.fixture(params=BACKENDS)
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> Iterator[Engine]:
    with open_engine(database_url(request.param, tmp_path, fresh_postgres)) as opened:
        publish_basics(opened)
        yield opened


@contextmanager
def refused(engine: Engine, error: type[DeeError], text: str) -> Iterator[None]:
    """The block raises `error` saying `text`, and the log is as long as before."""
    before = engine.health().position
    with pytest.raises(error, match=text) as caught:
        yield
    assert type(caught.value) is error
    assert engine.health().position == before


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


FILTERS = [
    ({"status": "sleeping"}, "status: 'sleeping'"),
    ({"status": ["active", "x"]}, "status: 'x'"),
    ({"status": []}, "status"),
    ({"status": 7}, "status"),
    ({"limit": -1}, "limit"),
    ({"limit": 0}, "limit"),
    ({"limit": True}, "limit"),
    ({"limit": 10.5}, "limit"),
    ({"offset": -1}, "offset"),
    ({"offset": "3"}, "offset"),
    ({"started_after": NAIVE}, "started_after: has no time zone"),
    ({"started_before": NAIVE}, "started_before: has no time zone"),
    ({"started_before": "yesterday"}, "started_before"),
    ({"plan_id": 3}, "plan_id"),
    ({"contact_id": ["a"]}, "contact_id"),
    ({"cursor": "nonsense"}, "cursor"),
    ({"cursor": "WzEsICJhYiJd", "offset": 3}, "offset"),
    ({"cursor": "WzEsICJhYiJd"}, "cursor: belongs to other filters"),
]


@pytest.mark.parametrize("filters,text", FILTERS)
def test_filters(engine: Engine, filters: dict[str, Any], text: str) -> None:
    with refused(engine, InvalidInput, text):
        engine.list_runs(**filters)


VALUES = [
    ("a\x00b", "NUL"),
    ("a\ud800b", "surrogate"),
    (float("nan"), "NaN"),
    (float("inf"), "NaN"),
    (2**53 + 1, "2\\^53"),
    ("x" * (1 << 20), "262144"),
    (deep(65), "nested deeper than 64"),
    ({"inner": "a\x00"}, "attributes.note.inner"),
    ({1: "x"}, "keys must be text"),
    (object(), "not a JSON value"),
]


@pytest.mark.parametrize("value,text", VALUES)
def test_values_that_would_poison_a_reader(engine: Engine, value: Any, text: str) -> None:
    plan = outreach()
    engine.publish_plan(plan)
    with refused(engine, InvalidInput, text):
        engine.execute(plan, {"id": "a", "note": value})
    variable = text.replace("attributes.note", "variables.note")
    with refused(engine, InvalidInput, variable):
        engine.execute(plan, {"id": "a"}, variables={"note": value})
    # In bulk such a contact is counted and named, and does not stop the others.
    result = engine.bulk_execute(plan, [{"id": "bad", "note": value}, {"id": "good"}])
    assert (result.created, result.skipped, result.errors) == (1, 0, 1)
    assert result.refusals[0].contact_id == "bad"


def test_a_payload_of_many_small_values_is_refused_whole(engine: Engine) -> None:
    plan = outreach()
    engine.publish_plan(plan)
    with refused(engine, InvalidInput, "payload"):
        engine.execute(plan, {"id": "a", **{f"k{n}": "x" * 1000 for n in range(300)}})


CONTACTS: list[tuple[Any, str]] = [
    ({"id": "with space"}, "contact.id"),
    ({"id": ""}, "contact.id"),
    ({"id": "x" * 129}, "contact.id"),
    ({"id": 7}, "contact.id"),
    ({}, "contact.id"),
    ({"id": "a", "email": "no address"}, "contact.email"),
    ({"id": "a", "email": "a@example.com, b@example.com"}, "contact.email"),
    ({"id": "a", "email": "a@example.com\r\nBcc: b@example.com"}, "contact.email"),
    ({"id": "a", "phone": "call me"}, "contact.phone"),
    ("a", "contact"),
    (None, "contact"),
]


@pytest.mark.parametrize("contact,text", CONTACTS)
def test_contacts(engine: Engine, contact: Any, text: str) -> None:
    plan = outreach()
    engine.publish_plan(plan)
    with refused(engine, InvalidInput, text) as _:
        engine.execute(plan, contact)


def test_errors_do_not_repeat_personal_data() -> None:
    with pytest.raises(InvalidInput) as caught:
        Contact(id="a", email="jane doe@example.com")
    assert "jane" not in str(caught.value)
    assert "jane" not in repr(Contact(id="a", email="jane@example.com"))


def test_unknown_runs_and_plans(engine: Engine) -> None:
    acts: list[Callable[[], Any]] = [
        lambda: engine.get_run(UNKNOWN),
        lambda: engine.pause_run(UNKNOWN),
        lambda: engine.resume_run(UNKNOWN),
        lambda: engine.cancel_run(UNKNOWN, "why"),
        lambda: engine.retry_run(UNKNOWN, "why"),
        lambda: engine.resolve_step(UNKNOWN, "failed", reason="why"),
        lambda: engine.get_timeline(UNKNOWN),
        lambda: engine.verify_audit_chain(UNKNOWN),
        lambda: engine.ingest_event("email.replied", "a", run_id=UNKNOWN),
    ]
    for act in acts:
        with refused(engine, RunNotFound, UNKNOWN):
            act()
    with refused(engine, PlanNotFound, "nowhere"):
        engine.get_plan("nowhere")


def test_commands_that_the_status_does_not_allow(engine: Engine) -> None:
    run = engine.execute(outreach(), {"id": "a", "email": "a@example.com", "firstName": "A"})
    with refused(engine, InvalidTransition, f"{run.id} cannot go from active to active"):
        engine.resume_run(run.id)
    with refused(engine, InvalidTransition, "from active to active"):
        engine.retry_run(run.id, "why")
    engine.pause_run(run.id)
    with refused(engine, InvalidTransition, "from paused to paused"):
        engine.pause_run(run.id)
    engine.resume_run(run.id)
    engine.run_until_idle()
    for act in (
        lambda: engine.cancel_run(run.id, "too late"),
        lambda: engine.pause_run(run.id),
        lambda: engine.retry_run(run.id, "why"),
    ):
        with refused(engine, InvalidTransition, f"run {run.id} cannot go from completed to"):
            act()


@pytest.mark.parametrize("reason", ["", "   ", "\t\n", None, 7, "a\x00"])
def test_reasons(engine: Engine, reason: Any) -> None:
    run = engine.execute(outreach(), {"id": "a"})
    for act in (
        lambda: engine.cancel_run(run.id, reason),
        lambda: engine.retry_run(run.id, reason),
        lambda: engine.bulk_cancel({"status": "active"}, reason),
    ):
        with refused(engine, InvalidInput, "reason"):
            act()


def test_bulk_filters(engine: Engine) -> None:
    engine.execute(outreach(), {"id": "a"})
    for filters in ({}, None, {"status": None}):
        with refused(engine, EmptyFilter, "at least one filter"):
            engine.bulk_cancel(filters, "why")
    with refused(engine, InvalidInput, "filters.colour"):
        engine.bulk_cancel({"colour": "red"}, "why")
    with refused(engine, InvalidInput, "status"):
        engine.bulk_cancel({"status": "sleeping"}, "why")


def test_the_rest(engine: Engine) -> None:
    plan = outreach()
    run = engine.execute(plan, {"id": "a"})
    with refused(
        engine, InvalidInput, "start_at: 2025-01-01 00:00 UTC has passed; in this log it is 20"
    ):
        engine.execute(plan, {"id": "b"}, start_at=datetime.fromisoformat("2025-01-01T00:00Z"))
    with refused(engine, InvalidInput, "start_at: has no time zone"):
        engine.execute(plan, {"id": "b"}, start_at=NAIVE)
    with refused(engine, InvalidInput, "plan"):
        engine.execute("outreach", {"id": "b"})  # type: ignore[arg-type]
    with refused(engine, InvalidInput, "batch_size"):
        engine.bulk_execute(plan, [], batch_size=0)
    with refused(engine, InvalidInput, "contacts"):
        engine.bulk_execute(plan, {"id": "b"})  # type: ignore[arg-type]
    for flag in ({"dry_run": "no"}, {"bundled": 1}):
        with refused(engine, InvalidInput, "must be true or false"):
            engine.bulk_execute(plan, [], **flag)  # type: ignore[arg-type]
    with refused(engine, InvalidInput, "keep"):
        engine.pause_run(run.id, keep="nothing")  # type: ignore[arg-type]
    with refused(engine, InvalidInput, "type"):
        engine.ingest_event("email.eaten", "a")
    with refused(engine, InvalidInput, "level"):
        engine.suppress("a", level="planet")  # type: ignore[arg-type]
    with refused(engine, InvalidInput, "contact_id"):
        engine.suppress()
    with refused(engine, InvalidInput, "tick: .* has passed"):
        engine.run_until(-1)
    for purpose in ("product news", "x" * 129):
        with refused(engine, InvalidInput, "purpose: must be 1 to 128 characters"):
            engine.publish_policy({"consent": {"required": ["email"], "purpose": purpose}})
        with refused(engine, InvalidInput, "purpose: must be 1 to 128 characters"):
            engine.grant_consent("a", "email", purpose=purpose)
    for until in (engine.now().now, engine.now().now - timedelta(days=1)):
        with refused(engine, InvalidInput, "expires_at: has passed"):
            engine.grant_consent("a", "email", expires_at=until)
    unpublished = create_plan(
        id="p", name="P", steps=[steps.send_email("s", "no-such-template", "Hi")]
    )
    with refused(engine, PlanValidationError, "no-such-template"):
        engine.execute(unpublished, {"id": "b"})


@pytest.mark.parametrize("workers", ["2", 0, -1, 1.5, None, True])
def test_workers_are_a_number(engine: Engine, workers: Any) -> None:
    for act in (
        lambda: engine.bulk_execute(outreach(), [], workers=workers),
        lambda: engine.bulk_execute(outreach(), [], workers=workers, dry_run=True),
        lambda: engine.replay_all(workers=workers),
        lambda: engine.verify_log(workers=workers),
    ):
        with refused(engine, InvalidInput, "workers: must be a whole number, 1 or more"):
            act()


class Text(str):
    """Text as some libraries have it; so are the columns of a table that was read by them."""


def test_values_that_are_no_plain_types_are_kept_as_such(engine: Engine) -> None:
    contacts: list[Any] = [Contact(id=f"c{n}", attributes={"tier": Text("gold")}) for n in range(3)]
    contacts.append({"id": Text("c3"), "timezone": Text("Europe/Berlin"), "tier": Text("gold")})
    plan = create_plan(
        id="tier",
        name="Tier",
        steps=[
            steps.branch(
                "b",
                [
                    {"when": 'contact.attributes.tier == "gold"', "goto": "yes"},
                    {"when": "default", "goto": "no"},
                ],
            ),
            steps.end("yes", "gold"),
            steps.end("no", "other"),
        ],
    )
    result = engine.bulk_execute(plan, contacts, variables={"at": MappingProxyType({"x": 1})})
    assert (result.created, result.skipped, result.errors) == (4, 0, 0)
    engine.run_until_idle()
    assert {run.outcome for run in engine.list_runs().runs} == {"gold"}
    assert engine.replay(engine.list_runs().runs[0].id).identical


def test_what_is_said_of_a_command_is_kept_as_plain_text(engine: Engine) -> None:
    publish_basics(engine)
    contact = {"id": "c1", "email": "ada@one.example", "firstName": "Ada"}
    run = engine.execute(outreach(), contact, command_id=Text("enroll-1"), actor=Text("ada"))
    engine.pause_run(run.id, reason=Text("she asked"), command_id=Text("pause-1"))
    engine.grant_consent(Text("c1"), "email", source=Text("a form"), reason=Text("she said so"))
    engine.suppress(Text("c1"), reason=Text("she asked again"))
    reasons = {entry.reason for entry in engine.audit.query().entries}
    assert {"she asked", "she said so", "she asked again"} <= reasons
