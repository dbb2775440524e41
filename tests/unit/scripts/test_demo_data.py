"""The demo's data: made by its generator, as messy as promised, and nobody in it is real."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from dee_es.core.contact import normalize_email
from dee_es.core.plans.model import ExecutionPlan
from dee_es.core.plans.plan import load_plan, missing_references
from dee_es.doors.contacts_csv import CsvContact, CsvRefusal, read_contacts

DATA = Path(__file__).parents[3] / "scripts" / "demo_data"
BUNDLED = ("templates", "scripts", "sender")


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_generate", DATA / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name while they are made.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bundle() -> dict[str, Any]:
    loaded = yaml.safe_load((DATA / "plan.yaml").read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


@pytest.fixture(scope="module")
def plan(bundle: dict[str, Any]) -> ExecutionPlan:
    return load_plan({key: value for key, value in bundle.items() if key not in BUNDLED})


@pytest.fixture(scope="module")
def contacts() -> list[CsvContact]:
    return [row for row in read_contacts(DATA / "contacts.csv") if isinstance(row, CsvContact)]


@pytest.fixture(scope="module")
def events() -> list[dict[str, Any]]:
    text = (DATA / "events.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("name", ["contacts.csv", "events.jsonl"])
def test_the_files_are_what_the_generator_makes(generator: ModuleType, name: str) -> None:
    make = {"contacts.csv": generator.contacts_csv, "events.jsonl": generator.events_jsonl}[name]
    assert (DATA / name).read_bytes() == make()


def test_plan_is_valid_and_refers_to_what_stands_beside_it(
    plan: ExecutionPlan, bundle: dict[str, Any]
) -> None:
    assert missing_references(plan, bundle["templates"], bundle["scripts"]) == []
    assert set(bundle["sender"]) >= {"address", "name", "postalAddress"}


def test_contacts_are_many_and_messy(contacts: list[CsvContact]) -> None:
    rows = list(read_contacts(DATA / "contacts.csv"))
    refused = [row for row in rows if isinstance(row, CsvRefusal)]
    addresses = Counter(normalize_email(row.email) for row in contacts if row.email)
    assert len(rows) >= 1_200
    assert len(refused) == 10
    assert sum(1 for count in addresses.values() if count > 1) == 25
    assert "suppressed@example.com" in addresses
    assert any("\r\n" in row.attributes.get("notes", "") for row in contacts)


def test_only_addresses_and_numbers_that_belong_to_nobody(contacts: list[CsvContact]) -> None:
    for row in contacts:
        if row.email:
            assert re.search(r"(@example\.(com|org|net)|\.example)$", row.email, re.IGNORECASE)
    digits = [re.sub(r"\D", "", row.phone) for row in contacts if row.phone]
    fiction = re.compile(
        r"1\d{3}55501\d\d|44207946\d{4}|441134960\d{3}|447700900\d{3}"
        r"|3319900\d{4}|3326191\d{4}|493023125\d{3}|492214710\d{3}|61[28]5550\d{4}"
    )
    assert [number for number in digits if not fiction.fullmatch(number)] == []


def test_events_fit_the_plan_and_the_contacts(
    events: list[dict[str, Any]], contacts: list[CsvContact], plan: ExecutionPlan
) -> None:
    known = {normalize_email(row.email): row for row in contacts if row.email}
    steps = {step.id for step in plan.steps}
    assert 280 <= len(events) <= 340
    assert len({event["eventId"] for event in events}) == len(events)
    assert [_seconds(event["at"]) for event in events] == sorted(
        _seconds(event["at"]) for event in events
    )
    for event in events:
        assert event["email"] in known
        assert event["stepId"] in steps
        if event["stepId"] == "call":
            assert known[event["email"]].phone
    assert {event["type"] for event in events} >= {
        "email.opened", "email.clicked", "email.replied", "email.bounced", "email.unsubscribed",
        "email.complained", "call.answered", "call.voicemail", "call.completed",
    }  # fmt: skip


def _seconds(at: str) -> int:
    found = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", at)
    assert found is not None, at
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
