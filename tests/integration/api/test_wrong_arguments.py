"""What is given to a call is checked before anything is read or written: each wrong value of each
argument is refused by the argument's name, and the log stays as it was."""

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
NUMBER = [*ANY, True, "3", {}, float("inf"), 2**63, 10**30]
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
        ("bulk_retry", {"per_tick": [*NUMBER, 0]}),
    ]
]
EXPORTED = {
    "reason": TEXT,
    "actor": TEXT,
    "personal_data": FLAG,
    "output": [Odd(), 1.5, b"x", ["a"], 7, ""],
    "replace": FLAG,
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
        {**EXPORTED, "run_id": ID, "target": TEXT},
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
    ("audit.export", RUN, {**EXPORTED, "run_id": ID, "format": WORD, "replace": FLAG}),
    ("audit.export", {"contact_id": "a"}, {"contact_id": ID}),
    ("audit.export", PERIOD, {"since": TIME, "until": TIME}),
    ("audit.bundle", RUN, {**EXPORTED, "run_id": ID, "replace": FLAG}),
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
            "replace": FLAG,
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
FILTERS = {"plan_id": TEXT, "contact_id": TEXT, "started_after": TIME, "started_before": TIME}
LISTS = {"status": WORD, **FILTERS}
OF_A_RUN = """
audit.get_by_run audit.verify_run debug explain get_events get_logs get_run get_timeline
verify_audit_chain
"""
READING: list[Call] = [
    ("audit.consistency", {"old": 1, "new": 2}, {"old": NUMBER, "new": [*NUMBER, 0]}),
    *[(method, RUN, {"run_id": ID}) for method in OF_A_RUN.split()],
    (
        "audit.get_context_at",
        {**RUN, "step_id": "intro"},
        {"run_id": ID, "step_id": ID, "visit": [*NUMBER, 0]},
    ),
    (
        "audit.prove",
        {"stream_id": "x", "entry": 1},
        {"stream_id": [*TEXT, ""], "entry": [*NUMBER, 0, None]},
    ),
    ("audit.check_export", RUN, {"run_id": ID}),
    ("audit.check_export", {"contact_id": "a"}, {"contact_id": ID}),
    ("audit.check_export", PERIOD, {"since": TIME, "until": TIME}),
    ("audit.verify_archives", {}, {"place": [*TEXT, ""]}),
    ("audit.verify_log", {}, {"workers": [*NUMBER, 0]}),
    ("verify_log", {}, {"workers": [*NUMBER, 0]}),
    (
        "compliance.check",
        PERIOD,
        {
            "since": TIME,
            "until": TIME,
            "include": TEXT,
            "zone": [*TEXT, ""],
            "through": [*NUMBER, 0],
        },
    ),
    ("compliance.render", {"report": None}, {"format": WORD}),
    ("contact_at", {"contact_id": "a"}, {"contact_id": ID, "time": TIME, "tick": NUMBER}),
    ("contact_id_for", {}, {"email": TEXT, "phone": TEXT}),
    ("count_runs", {}, FILTERS),
    ("list_runs", {}, {**LISTS, "limit": [*NUMBER, 0], "offset": NUMBER, "cursor": [*TEXT, ""]}),
    ("replay_all", {}, {**LISTS, "workers": [*NUMBER, 0]}),
    ("replay_page", {"run_ids": []}, {"run_ids": MANY}),
    (
        "diff_run",
        {**RUN, "from_version": 1, "to_version": 2},
        {"run_id": ID, "from_version": [*NUMBER, 0, None], "to_version": [*NUMBER, 0, None]},
    ),
    ("event_id_for", {}, {"event": TEXT}),
    ("explain_contact", {"contact_id": "a"}, {"contact_id": ID, "plan_id": ID}),
    ("get_contact_logs", {}, {"contact_id": ID}),
    (
        "get_definition",
        {"kind": "template", "id": "intro"},
        {"kind": WORD, "id": ID, "version": NUMBER},
    ),
    ("get_plan", {"plan_id": PLAN.id}, {"plan_id": ID, "version": [*NUMBER, 0]}),
    ("step_funnel", {"plan_id": PLAN.id}, {"plan_id": ID, "version": [*NUMBER, 0]}),
    ("list_definitions", {}, {"kind": WORD}),
    ("projections.estimate", {}, {"name": WORD}),
    ("projections.parked", {}, {"name": WORD}),
    ("projections.status", {}, {"count": FLAG}),
    (
        "projections.verify",
        {"name": "run_list"},
        {
            "name": WORD,
            "page": [*NUMBER, 0],
            "throttle": [Odd(), b"x", "1", True, float("nan"), 0, 2],
        },
    ),
    (
        "render_template",
        {"id": "intro", "attributes": {}},
        {"id": ID, "variables": MAP, "subject": TEXT, "version": [*NUMBER, 0]},
    ),
    ("render_template", {"id": "intro"}, {"contact_id": ID, "attributes": MAP}),
    ("run_at", RUN, {"run_id": ID, "version": [*NUMBER, 0], "tick": NUMBER, "time": TIME}),
]
WRONG = [
    pytest.param(method, given, name, values, id=f"{method}-{name}")
    for method, given, wrong in [*CALLS, *READING]
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


@pytest.mark.parametrize("version", [*NUMBER, None])
def test_a_debugger_goes_to_no_version_that_is_none(engine: Engine, version: Any) -> None:
    (run,) = engine.list_runs().runs
    session = engine.debug(run.id)
    with pytest.raises(InvalidInput, match="version: must be a whole number, 0 to 1"):
        session.goto(version)
    assert session.version == 0


def test_after_all_that_everything_can_still_be_read(engine: Engine) -> None:
    (run,) = engine.list_runs().runs
    assert engine.get_logs(run.id)
    assert engine.verify_log().valid


ASKED = """
audit.archives audit.size audit.verify_indexes health holds list_plans metrics now
plan_ids projections.advice projections.lag
"""
"""What takes no arguments."""
ELSEWHERE = "bulk_execute enrolling"
"""Many contacts at once: what is wrong with those is counted, and tried where that is told."""
UNASKED = "close run_until_idle tick worker projections.catch_up projections.keep_level"
"""What does what is due, or no more than a reader would."""
DEFINED = frozenset({"variables", "definition", "plan_version", "plan", "templates", "report"})
"""Arguments of which the parts are told: see `test_bad_input.py`, and the tests of policies."""


def test_every_call_is_tried_with_every_argument(engine: Engine) -> None:
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
    for method, _, wrong in [*CALLS, *READING]:
        tried.setdefault(method, set()).update(wrong)
    untried = f"{ASKED} {ELSEWHERE} {UNASKED}".split()
    assert set(there) == set(tried) | set(untried)
    for method, arguments in tried.items():
        wanted = {
            name
            for name in inspect.signature(there[method]).parameters
            if not name.startswith("on_") and name != "keywords"
        }
        assert wanted - arguments <= DEFINED, method
