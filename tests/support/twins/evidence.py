"""Parts of the scenario that an engine and a client of its twin are told: evidence, archives, what
projections need, and runs decided again under other plans."""

from __future__ import annotations

import io
from datetime import datetime, timedelta
from typing import Any, Final

from dee_es import create_plan, steps
from tests.support.engines import EPOCH, outreach
from tests.support.twins.tellings import NEXT
from tests.support.twins.told import Told, plain

ARCHIVES: Final = "memory://contract-archives"
"""A place that the server is told of."""


def suppositions(told: Told, run: str) -> None:
    """A run decided again under another plan and other templates, and gone on with."""
    ask = told.ask
    other = outreach("a", steps=[steps.send_email("intro", "follow", "Hi"), steps.end("e", "over")])
    ask("replay", run, plan=other)
    ask("replay", run, plan=outreach("a"))
    ask("replay", run, templates={"intro": {"text": "Good day {{contact.firstName}}"}})
    ask("replay", run, plan_version=1, templates={"intro": {"text": "Good day", "html": "<p>G"}})
    ask("replay", run, plan=other, plan_version=1)
    ask("replay", run, plan=other, dry_run=False)
    ask("replay", run, plan=5)
    ask("replay", run, plan=create_plan(id="x", name="X", steps=[steps.send_email("m", "no", "S")]))
    for bad in ({"intro": {"text": " "}}, {"intro": {"subject": "x"}}, {"intro": 5}, {"a b": {}},
                {"intro": {"text": "{{contact."}}, 5):  # fmt: skip
        ask("replay", run, templates=bad)
    ask("replay", "run_none", templates={})
    ask("replay", run, dry_run=False)
    ask("replay", "run_none", dry_run=False)
    going = ask("execute", told.api.get_plan("a"), {"id": "g1", "email": "g@example.com"}).id
    ask("replay", going, dry_run=False)
    ask("get_run", going)


def evidence(told: Told, run: str) -> None:
    """Entries by their place, proofs, exports, reports."""
    ask = told.ask
    ask("audit.size")
    for places in ((1,), (3, 9), (0,), (9, 3), (1, 1_001), (10_000_000,)):
        ask("audit.get_at", *places)
    for entry in ((run, 1), (run, 99), (run, 0), ("run_none", 1), (" ", 1)):
        ask("audit.prove", *entry)
    for sizes in ((0, 5), (4, 9), (-1, 4), (9, 4), (1, 10_000_000)):
        told.answers.append(("hashes", hashes(told, *sizes)))
    ask("audit.query", plan_id="a", limit=2, purpose="a question")
    ask("audit.verify_log", workers=2)
    ask("audit.verify_log", workers=0)
    ask("verify_log", workers=0)
    for scope in ({"run_id": run}, {"contact_id": "c1"}, {"since": EPOCH, "until": NEXT},
                  {"run_id": "run_none"}, {}, {"run_id": run, "contact_id": "c1"},
                  {"since": datetime(2026, 1, 1)}):  # fmt: skip
        for what, more in (("export", {"format": "csv"}), ("bundle", {})):
            ask(f"audit.{what}", output=io.BytesIO(), reason="asked", **scope, **more)
    ask("audit.export", run, format="jsonl", output=io.BytesIO(), personal_data=False)
    ask("audit.export", run, format="zip")
    ask("audit.export", run, output=5)
    report = ask("compliance.report", EPOCH, NEXT, reason="asked")
    ask("compliance.report", EPOCH, NEXT, ["sends"], zone="Europe/Vienna", through=20)
    ask("compliance.report", EPOCH, NEXT, "consent", format="md", output=io.BytesIO())
    for fault in ({"until": EPOCH}, {"include": ["all"]}, {"include": []}, {"format": "doc"},
                  {"zone": "Nowhere"}, {"through": 10_000_000}, {"output": 5},
                  {"since": datetime(2026, 1, 1)}):  # fmt: skip
        ask("compliance.report", **{"since": EPOCH, "until": NEXT, **fault})
    for format in ("json", "md", "html", "doc"):
        ask("compliance.render", report, format)


def hashes(told: Told, old: int, new: int) -> Any:
    """How many hashes a proof has, or why there is none: what they are depends on commands."""
    before = len(told.answers)
    found = told.ask("audit.consistency", old, new)
    (answer,) = told.answers[before:]
    del told.answers[before:]
    return answer if found is None else (type(found).__name__, [len(each) for each in found])


def projections(told: Told, run: str) -> None:
    """What those do who look after projections."""
    ask = told.ask
    told.answers.append(("names", told.api.projections.names))
    for what in ("advice", "lag", "parked"):
        ask(f"projections.{what}")
    ask("projections.parked", "run_list")
    ask("projections.estimate", "audit_trail")
    ask("projections.drop", "run_list")
    ask("projections.rebuild", "run_list", page=7)
    ask("projections.verify", "run_list", page=7)
    ask("projections.drop", "run_list", 99)
    ask("projections.drop", "run_list")
    ask("projections.catch_up", "audit_trail")
    ask("projections.catch_up", "audit_trail", within_s=5.0)
    ask("projections.catch_up", "audit_trail", within_s=-1.0)
    ask("projections.refold", "run_list", run_id=run)
    ask("projections.refold", "run_list", contact_id="c1")
    for given in ({}, {"run_id": run, "contact_id": "c1"}, {"run_id": "run_none"},
                  {"contact_id": "nobody"}, {"run_id": "a b"}):  # fmt: skip
        ask("projections.refold", "run_list", **given)
    ask("projections.rebuild", "run_list", page=0)
    ask("projections.verify", "run_list", page=100_001)
    for what in ("catch_up", "estimate", "drop", "rebuild", "verify", "retry", "refold", "parked"):
        for name in ("nothing", "Run List"):
            ask(f"projections.{what}", name)


def archives(told: Told) -> None:
    """Ended runs taken out of the log."""
    ask = told.ask
    before = EPOCH + timedelta(days=400)
    for _ in range(9):
        told.tick()
    ask("audit.archive", before)
    ask("audit.archive", datetime(2026, 1, 1), dry_run=True)
    ask("audit.archive", before, dry_run=True)
    sums: list[Any] = []
    ask("audit.archive", before, place=ARCHIVES, reason="old", on_progress=sums.append)
    told.answers.append(("archived in the end", plain(sums[-1:])))
    ask("audit.archives")
    ask("audit.verify_archives")
    ask("audit.verify_archives", ARCHIVES)
    ask("audit.archive", before, place=ARCHIVES)
