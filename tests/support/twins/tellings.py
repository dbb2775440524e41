"""Parts of the scenario that an engine and a client of its twin are told: rules, lists, holds, run
files, and runs decided again."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any, Final

from dee_es import SuppressionEntry
from tests.support.engines import EPOCH
from tests.support.twins.told import Told, plain

NEXT: Final = EPOCH + timedelta(days=1)


def rules(told: Told) -> None:
    """Call scripts, the sender, the policy."""
    ask = told.ask
    asked = {"type": "gather", "name": "wish", "prompt": "Press 1."}
    for given in (
        {"greeting": "Hello {{contact.firstName}}", "steps": [asked]},
        {"greeting": "Hello {{contact.firstName}}", "steps": (asked,)},
        {"greeting": "Hello", "steps": [{"type": "branch", "on": "none", "cases": {"1": []}}]},
        {"greeting": "Hello {{contact."},
        {"greeting": 5},
        {"greeting": "Hello", "steps": [{"type": "sing"}]},
    ):
        ask("publish_script", "call", **given)
    ask("publish_script", "a b", greeting="Hello")
    ask("publish_sender", address="team@example.com", name="Team", tracking={"clicks": False})
    ask("publish_sender", address="team@example.com", postal_address="1 Main Street",
        unsubscribe_url="https://example.com/u", tracking=True)  # fmt: skip
    for fault in ({"address": "nobody"}, {"name": "a\nb"}, {"unsubscribe_url": "ftp://x"},
                  {"postal_address": " "}, {"tracking": {"opened": True}},
                  {"tracking": 1}):  # fmt: skip
        ask("publish_sender", **{"address": "team@example.com", **fault})
    window = {"weekdays": ["mon"], "start": "08:00", "onUnknownZone": "Etc/Nowhere"}
    ask("publish_policy", {"limits": {"perDay": {"contact": 50}}})
    ask("publish_policy", {"limits": {"perDay": {"contact": 50}}})
    for bad in ({"limit": {}}, {"limits": {"perDay": {"contact": 0}}}, 5,
                {"windows": {"channels": {"voice": window}}},
                {"windows": {"channels": {"email": window}}}):  # fmt: skip
        ask("publish_policy", bad)
    for kind in ("template", "script", "sender", "policy"):
        ask("list_definitions", kind)
        ask("get_definition", kind, "default")
    for version in (None, 1, 9):
        ask("get_definition", "script", "call", version)


def stepping(told: Told, run: str) -> None:
    """A run's events, and the run stepped through."""
    told.ask("get_events", run)
    told.ask("get_events", "run_none")
    told.ask("debug", "run_none")
    session = told.api.debug(run)
    told.answers.append(("session", (session.run_id, session.last_version, session.has_next())))
    for what in ("step_back", "at", "context", "what_next", "peek"):
        told.ask_of(session, what)
    while session.has_next():
        for what in ("peek", "step_forward", "at", "context", "what_next"):
            told.ask_of(session, what)
        told.answers.append(("version", session.version))
    for what in ("peek", "step_forward", "step_back", "step_back"):
        told.ask_of(session, what)
    for version in (-1, 99, 4):
        told.ask_of(session, "goto", version)
    told.ask_of(session, "what_if_event", "email.replied", {"text": "yes"}, "intro")
    told.ask_of(session, "what_if_event", "email.replied")
    told.ask_of(session, "what_if_event", "email.read")
    told.ask_of(session, "what_if_event", "email.replied", {"x": float("nan")})
    told.ask_of(session, "what_if_variable", "offer", None)
    told.ask_of(session, "what_if_variable", "offer", {1: 2})
    session.goto(0)
    told.ask_of(session, "what_if_variable", "offer", 2)


def lists(told: Told) -> None:
    """Suppression lists, and ids for addresses."""
    ask = told.ask
    entries: list[Any] = [
        SuppressionEntry(email=" Ada.L@Example.com "),
        SuppressionEntry(email="ada.l@example.com"),
        SuppressionEntry("l1", "ada.l@example.com", "+1 555 0199"),
        SuppressionEntry(phone="0015550199", level="channel", scope="voice", reason="by letter"),
        SuppressionEntry("l2", level="plan", scope="a"),
        SuppressionEntry("l1"),
        SuppressionEntry("l 3"),
        SuppressionEntry("l3", level="channel"),
        SuppressionEntry("l3", level="everything"),
        SuppressionEntry("l3", scope="voice"),
        SuppressionEntry("l3", reason="\0"),
        SuppressionEntry(email="nobody"),
        SuppressionEntry(phone="x"),
        SuppressionEntry(),
        "l3",
        *(SuppressionEntry(f"m{number}") for number in range(20)),
    ]
    for dry_run in (True, False, False):
        faults: list[tuple[int, str, str]] = []
        sums: list[Any] = []
        ask(
            "import_suppressions",
            iter(entries),
            reason="national list",
            on_progress=lambda so_far, sums=sums: sums.append(plain(so_far)),
            on_error=lambda n, error, faults=faults: faults.append(
                (n, type(error).__name__, str(error))
            ),
            dry_run=dry_run,
            batch_size=4,
        )
        told.answers.append(("faults", faults))
        told.answers.append(("sums", sums))
    ask("import_suppressions", entries, "channel", "email", batch_size=10_000)
    ask("import_suppressions", [], "all")
    ask("import_suppressions", entries, batch_size=0)
    ask("import_suppressions", entries, reason="\0")
    ask("get_contact_logs", "l1")
    for given in ({"email": "Ada.L@example.com"}, {"phone": "+15550199"}, {"email": "nobody"},
                  {"phone": "x"}, {},
                  {"email": "ada.l@example.com", "phone": "+15550100"}):  # fmt: skip
        ask("contact_id_for", **given)


def holds(told: Told, run: str) -> None:
    """Legal holds."""
    ask = told.ask
    ask("place_hold", run_id=run, reason="court order")
    ask("place_hold", contact_id="c1", reason="letter of a lawyer")
    for fault in ({}, {"run_id": run, "contact_id": "c1"}, {"run_id": "run_none"},
                  {"run_id": "a b"}, {"contact_id": "nobody"}, {"contact_id": "a b"}):  # fmt: skip
        ask("place_hold", reason="court order", **fault)
    ask("place_hold", contact_id="c1", reason=" ")
    ask("holds")
    ask("erase_contact", "c1", "asked")
    ask("lift_hold", "hold_1", "it is over")
    for hold, reason in (("hold_1", "again"), ("hold_2", " "), ("hold 2", "over")):
        ask("lift_hold", hold, reason)
    ask("holds")


def fleet(told: Told) -> None:
    """All runs decided again."""
    for given in ({}, {"status": "completed"}, {"plan_id": "a", "started_before": NEXT},
                  {"plan_id": "none"}, {"workers": 2}, {"workers": 0}, {"status": "gone"},
                  {"started_after": datetime(2026, 1, 1)}):  # fmt: skip
        sums: list[int] = []
        told.ask("replay_all", on_progress=lambda total, sums=sums: sums.append(total.runs),
                 on_divergence=told.answers.append, **given)  # fmt: skip
        told.answers.append(("replayed in the end", sums[-1:]))


def files(told: Told, run: str) -> None:
    """A run as a file."""
    ask, api = told.ask, told.api
    content = api.export_run(run, reason="ticket 77", target="a colleague")
    document = json.loads(content)
    names = [[each["name"] for each in stream["events"]] for stream in document["streams"]]
    told.answers.append(("file", (document["runId"], document["clock"], names)))
    public = json.loads(api.export_run(run, personal_data=False))
    told.answers.append(("keys", list(public["keys"].values())))
    ask("export_run", "run_none")
    ask("export_run", "a b")
    ask("export_run", run, output=5)
    ask("export_run", run, target="\0")
    ask("import_run", content)
    odd = {**document, "clock": {"epochMs": 0, "resolutionMs": 1_000}}
    shorter = {**document, "streams": document["streams"][:-1]}
    nobody = {**document, "runId": 5}
    for bad in (odd, shorter, nobody, {**document, "keys": {}}):
        ask("import_run", json.dumps(bad).encode())
    for cut in (content[:-99], b"{}", b""):
        ask("import_run", cut)
