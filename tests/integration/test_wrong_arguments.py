"""What is given to a call that writes is checked before anything is written: each wrong value of
each argument is refused by the argument's name, and the log stays as it was."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dee_es import Engine
from dee_es.engine.models import ChannelEvent, SuppressionEntry
from dee_es.errors import InvalidInput
from tests.support.engines import open_engine, outreach, publish_basics


class Odd:
    """Of no kind that anything here could be."""


NOW = datetime(2026, 1, 2, tzinfo=UTC)
PERIOD = {"since": NOW, "until": NOW + timedelta(days=1)}
PLAN = outreach()
ANY: list[Any] = [Odd(), 1.5, float("nan"), b"x", ["a"], -3, "\x00"]
"""What next to nothing takes; each kind of argument has some of its own beside them."""
TEXT = [*ANY, 7, True, {}]
ID = [*TEXT, "", "with space"]
WORD = [*ID, "remainig"]
NUMBER = [*ANY, True, "3", {}]
FLAG = [*ANY, 0, 1, "", "no", "false"]
TIME = [*TEXT, "2026-01-01", datetime(2026, 1, 1)]
MANY: list[Any] = [Odd(), 1.5, 7, True, b"x", "abc", {}]
MAP = [each for each in TEXT if each != {}] + ["", [], 0]
BYTES: list[Any] = [each for each in TEXT if each != b"x"] + ["{}"]
BY = {"actor": TEXT, "command_id": ID}
WHY = {**BY, "reason": [*TEXT, "", "  "]}
MAYBE = {**BY, "reason": TEXT}
RUN: dict[str, Any] = {"run_id": ""}
"""Stands for the run that each world has."""

Call = tuple[str, dict[str, Any], dict[str, list[Any]]]
"""A method, arguments that it takes, and what is wrong for each of them."""
PEOPLE: dict[str, list[Any]] = {"contact_id": ID, "email": TEXT, "phone": TEXT}
KNOWN = {"contact_id": "a", "email": "a@example.com", "phone": "+15550100"}
LISTED: list[Call] = [
    (method, given, {**MAYBE, **wrong})
    for method in ("suppress", "unsuppress")
    for given, wrong in [
        (KNOWN, {**PEOPLE, "level": WORD, "channel": WORD, "plan_id": ID}),
        ({"contact_id": "a", "level": "channel", "channel": "email"}, {"channel": WORD}),
        ({"contact_id": "a", "level": "plan", "plan_id": "p"}, {"plan_id": ID}),
    ]
]
BULK: list[Call] = [
    (
        method,
        {"filters": {"plan_id": PLAN.id}, "reason": "why"},
        {**WHY, "filters": [*ANY, 7, True], "dry_run": FLAG, **wrong},
    )
    for method, wrong in [
        ("bulk_cancel", {}),
        ("bulk_pause", {"keep": WORD}),
        ("bulk_resume", {"per_tick": [*NUMBER, 0]}),
    ]
]
EXPORTED = {
    "reason": TEXT,
    "actor": TEXT,
    "personal_data": FLAG,
    "output": [Odd(), 1.5, b"x", ["a"], 7, ""],
}
CALLS: list[Call] = [
    ("publish_plan", {"plan": PLAN}, {**BY, "plan": TEXT}),
    ("publish_template", {"id": "t", "text": "x"}, {**BY, "id": ID, "text": TEXT, "html": TEXT}),
    (
        "publish_script",
        {"id": "t", "greeting": "x"},
        {**BY, "id": ID, "greeting": TEXT, "steps": [*ANY, 7, {}]},
    ),
    (
        "publish_sender",
        {"address": "a@example.com"},
        {
            **BY,
            "address": TEXT,
            "name": TEXT,
            "postal_address": TEXT,
            "unsubscribe_url": [*TEXT, "nowhere"],
            "tracking": [*ANY, "yes", {"opens": 1}],
        },
    ),
    ("publish_policy", {"definition": {}}, BY),
    (
        "execute",
        {"plan": PLAN, "contact": {"id": "b"}},
        {**BY, "plan": TEXT, "contact": TEXT, "start_at": TIME},
    ),
    (
        "check_execute",
        {"plan": PLAN, "contact": {"id": "b"}},
        {"actor": TEXT, "plan": TEXT, "contact": TEXT, "start_at": TIME},
    ),
    ("pause_run", RUN, {**MAYBE, "run_id": ID, "keep": WORD}),
    ("resume_run", RUN, {**MAYBE, "run_id": ID}),
    ("cancel_run", {**RUN, "reason": "why"}, {**WHY, "run_id": ID}),
    ("retry_run", {**RUN, "reason": "why"}, {**WHY, "run_id": ID}),
    (
        "resolve_step",
        {**RUN, "outcome": "failed", "reason": "why"},
        {**WHY, "run_id": ID, "outcome": WORD},
    ),
    *BULK,
    *LISTED,
    (
        "import_suppressions",
        {"entries": [SuppressionEntry(contact_id="z")]},
        {
            **MAYBE,
            "entries": MANY,
            "level": WORD,
            "scope": [*TEXT, "sms"],
            "dry_run": FLAG,
            "batch_size": [*NUMBER, 0],
        },
    ),
    (
        "grant_consent",
        {"contact_id": "a", "channel": "email"},
        {
            **MAYBE,
            "contact_id": ID,
            "channel": WORD,
            "purpose": ID,
            "expires_at": TIME,
            "source": [*TEXT, ""],
        },
    ),
    (
        "revoke_consent",
        {"contact_id": "a", "channel": "email"},
        {**MAYBE, "contact_id": ID, "channel": WORD, "purpose": ID},
    ),
    (
        "erase_contact",
        {"contact_id": "a", "reason": "why"},
        {**WHY, "contact_id": ID, "certificate": [*TEXT, ""]},
    ),
    ("place_hold", {**RUN, "reason": "why"}, {**WHY, "run_id": ID}),
    ("place_hold", {"contact_id": "a", "reason": "why"}, {"contact_id": ID}),
    ("lift_hold", {"hold_id": "h", "reason": "why"}, {**WHY, "hold_id": ID}),
    (
        "ingest_event",
        {"type": "email.replied", "contact_id": "a"},
        {
            **BY,
            "type": WORD,
            "contact_id": ID,
            "run_id": ID,
            "step_id": ID,
            "data": MAP,
            "occurred_at": TIME,
            "event_id": ID,
        },
    ),
    (
        "ingest_events",
        {"events": [ChannelEvent("email.replied", "a")]},
        {**BY, "events": MANY, "batch_size": [*NUMBER, 0]},
    ),
    ("run_until", {"tick": 3}, {"tick": [each for each in NUMBER if each != -3]}),
    (
        "export_run",
        RUN,
        {**EXPORTED, "run_id": ID, "replace": FLAG, "target": TEXT},
    ),
    ("import_run", {"content": b"{}"}, {**MAYBE, "content": BYTES}),
    ("replay", {**RUN, "dry_run": False}, {"actor": TEXT, "run_id": ID, "dry_run": FLAG}),
    (
        "audit.query",
        {},
        {
            "run_id": ID,
            "contact_id": ID,
            "plan_id": ID,
            "actions": [*TEXT, "run.run"],
            "actor": [*TEXT, ""],
            "since": TIME,
            "until": TIME,
            "text": [*TEXT, ""],
            "limit": [*NUMBER, 0],
            "cursor": [*TEXT, ""],
            "asked_by": TEXT,
            "purpose": TEXT,
        },
    ),
    (
        "audit.get_at",
        {"first": 1},
        {"first": [*NUMBER, 0], "last": [*NUMBER, 0], "asked_by": TEXT, "purpose": TEXT},
    ),
    ("audit.checkpoint", {}, BY),
    (
        "audit.archive",
        {"before": NOW, "place": "memory://x"},
        {**MAYBE, "before": TIME, "place": [*TEXT, ""], "dry_run": FLAG},
    ),
    ("audit.export", RUN, {**EXPORTED, "run_id": ID, "format": WORD}),
    ("audit.export", {"contact_id": "a"}, {"contact_id": ID}),
    ("audit.export", PERIOD, {"since": TIME, "until": TIME}),
    ("audit.bundle", RUN, {**EXPORTED, "run_id": ID}),
    ("audit.bundle", {"contact_id": "a"}, {"contact_id": ID}),
    ("audit.bundle", PERIOD, {"since": TIME, "until": TIME}),
    (
        "compliance.report",
        PERIOD,
        {
            **MAYBE,
            "since": TIME,
            "until": TIME,
            "include": TEXT,
            "format": WORD,
            "output": EXPORTED["output"],
            "zone": [*TEXT, ""],
            "through": [*NUMBER, 0],
        },
    ),
    (
        "projections.rebuild",
        {"name": "run_list"},
        {
            "name": WORD,
            "page": [*NUMBER, 0],
            "throttle": [Odd(), b"x", "1", True, float("nan"), 0, 2],
            "compare": FLAG,
            "accept": FLAG,
            "restart": FLAG,
        },
    ),
    ("projections.retry", {"name": "run_list"}, {"name": WORD, "stream_id": TEXT}),
    ("projections.refold", {**RUN, "name": "run_list"}, {"name": WORD, "run_id": ID}),
    ("projections.refold", {"name": "run_list", "contact_id": "a"}, {"contact_id": ID}),
    ("projections.drop", {"name": "run_list"}, {"name": WORD, "version": TEXT}),
]
WRONG = [
    pytest.param(method, given, name, values, id=f"{method}-{name}")
    for method, given, wrong in CALLS
    for name, values in wrong.items()
]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with open_engine(":memory:") as opened:
        publish_basics(opened)
        opened.execute(PLAN, {"id": "a", "email": "a@example.com", "firstName": "A"})
        yield opened


def method_of(engine: Engine, path: str) -> Callable[..., object]:
    found: Any = engine
    for name in path.split("."):
        found = getattr(found, name)
    return found  # type: ignore[no-any-return]


@pytest.mark.parametrize("method, given, name, values", WRONG)
def test_a_wrong_argument_is_refused_by_its_name_and_nothing_is_written(
    engine: Engine, method: str, given: dict[str, Any], name: str, values: list[Any]
) -> None:
    (run,) = engine.list_runs().runs
    before = engine.health().position
    for value in values:
        arguments = {**given, **({"run_id": run.id} if "run_id" in given else {}), name: value}
        with pytest.raises(InvalidInput) as caught:
            method_of(engine, method)(**arguments)
        told = caught.value.field.lower()
        assert name.replace("_", "") in told.replace("_", ""), (value, caught.value)
        assert engine.health().position == before, value


def test_after_all_that_everything_can_still_be_read(engine: Engine) -> None:
    (run,) = engine.list_runs().runs
    assert engine.get_logs(run.id)
    assert engine.verify_log().valid


READS = """
audit.archives audit.consistency audit.get_by_run audit.get_context_at audit.prove audit.size
audit.verify_archives audit.verify_indexes audit.verify_log audit.verify_run
compliance.render contact_at
contact_id_for count_runs debug diff_run event_id_for explain explain_contact get_contact_logs
get_definition get_events get_logs get_plan get_run get_timeline health holds list_definitions
list_plans list_runs metrics now projections.advice projections.estimate projections.lag
projections.parked projections.status projections.verify render_template replay_all replay_page
run_at step_funnel verify_audit_chain verify_log
"""
"""What writes nothing."""
ELSEWHERE = "bulk_execute enrolling"
"""Many contacts at once: what is wrong with those is counted, and tried where that is told."""
UNASKED = "close run_until_idle tick worker projections.catch_up projections.keep_level"
"""What does what is due, or no more than a reader would."""
DEFINED = frozenset({"variables", "definition", "plan_version", "plan", "templates"})
"""Arguments of which the parts are told: see `test_bad_input.py`, and the tests of policies."""


def test_every_call_that_writes_is_tried_with_every_argument(engine: Engine) -> None:
    places = [("", engine)] + [
        (f"{name}.", getattr(engine, name)) for name in ("audit", "compliance", "projections")
    ]
    there = {
        f"{prefix}{name}": member
        for prefix, owner in places
        for name, member in inspect.getmembers(owner, inspect.ismethod)
        if not name.startswith("_")
    }
    tried: dict[str, set[str]] = {}
    for method, _, wrong in CALLS:
        tried.setdefault(method, set()).update(wrong)
    untried = f"{READS} {ELSEWHERE} {UNASKED}".split()
    assert set(there) == set(tried) | set(untried)
    for method, arguments in tried.items():
        wanted = {
            name
            for name in inspect.signature(there[method]).parameters
            if not name.startswith("on_") and name != "keywords"
        }
        assert wanted - arguments <= DEFINED, method
