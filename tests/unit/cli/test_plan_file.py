"""Plan files: YAML by version 1.2, JSON, and the bundle beside the plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from dee_es.cli.documents import read_document
from dee_es.cli.plan_file import read_plan_file, split_reference
from dee_es.errors import InvalidInput, PlanValidationError
from tests.support.cli.commands import PLAN


def read(tmp_path: Path, text: str | bytes, name: str = "file.yaml") -> Any:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_document(str(path))


@pytest.mark.parametrize(
    "text, value",
    [
        ("on: wish", {"on": "wish"}),
        ("a: no", {"a": "no"}),
        ("a: true", {"a": True}),
        ("a: 12:30", {"a": "12:30"}),
        ("a: 2025-03-01", {"a": "2025-03-01"}),
        ("a: 007", {"a": 7}),
        ("a: 0o17", {"a": 15}),
        ("a: 0xff", {"a": 255}),
        ("a: -1.5e3", {"a": -1500.0}),
        ("a: 1e3", {"a": 1000.0}),
        ("a: 1_000", {"a": "1_000"}),
        ("a: ~", {"a": None}),
        ("a:", {"a": None}),
        ('"1": x', {"1": "x"}),
        ("base: &b {x: 1}\na: {<<: *b, y: 2}", {"base": {"x": 1}, "a": {"x": 1, "y": 2}}),
        ("{a: 1}", {"a": 1}),
        ('{"a": [1, "x", null, true]}', {"a": [1, "x", None, True]}),
        ("\ufeffa: 1", {"a": 1}),
    ],
)
def test_values(tmp_path: Path, text: str, value: object) -> None:
    assert read(tmp_path, text) == value


@pytest.mark.parametrize(
    "text, name, where, why",
    [
        ("a: [1\nb: 2", "f.yaml", "f.yaml:2:", "expected"),
        ("a: 1\na: 2", "f.yaml", "f.yaml:2:1", "twice"),
        ("a: {b: 1, b: 2}", "f.yaml", "f.yaml:1:11", "twice"),
        ("a: !!python/object:os.system x", "f.yaml", "f.yaml:1:4", "could not determine"),
        ("a: \x07", "f.yaml", "f.yaml:1:4", "character"),
        ("---\na: 1\n---\nb: 1\n", "f.yaml", "f.yaml:3:1", "single document"),
        (b"\xff\xfe", "f.yaml", "f.yaml", "UTF-8"),
        ("a: 1", "f.json", "f.json:1:1", "Expecting"),
        ('{"a": 1, "a": 2}', "f.json", "f.json", "twice"),
        ('{"a": Infinity}', "f.json", "f.json", "Infinity"),
        ("[" * 100_000, "f.json", "f.json", "deeply"),
        ("[" * 100_000, "f.yaml", "f.yaml", "deeply"),
    ],
)
def test_what_cannot_be_read(
    tmp_path: Path, text: str | bytes, name: str, where: str, why: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(tmp_path, text, name)
    assert Path(caught.value.field).name.startswith(where)
    assert why in caught.value.problem


def plan_file(tmp_path: Path, text: str) -> str:
    path = tmp_path / "plan.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_bundle(tmp_path: Path) -> None:
    file = read_plan_file(plan_file(tmp_path, PLAN))
    assert (file.plan.id, file.plan.version) == ("welcome", 0)
    assert list(file.templates) == ["hello"]
    assert file.sender is not None
    assert file.sender["postal_address"] == "1 Example Row"
    assert file.missing() == []


def test_a_plan_alone(tmp_path: Path) -> None:
    file = read_plan_file(plan_file(tmp_path, PLAN[: PLAN.index("templates:")]))
    assert (file.templates, file.scripts, file.sender) == ({}, {}, None)
    assert [fault.step_id for fault in file.missing()] == ["hello"]


@pytest.mark.parametrize(
    "change, problem",
    [
        ("templates: 5", "templates must be a mapping"),
        ("templates: {hello: {text: '{{oops'}}", "templates.hello: template.text"),
        ("templates: {hello: {txt: x}}", "templates.hello: template.txt"),
        ("templates: {1: {text: x}}", "templates.1"),
        ("scripts: {call: {greeting: hi, steps: [{type: jump}]}}", "scripts.call: script.steps[0]"),
        ("sender: x", "sender must be a mapping"),
        ("sender: {address: a@example.com, street: x}", "sender.street"),
        ("sender: {name: x}", "sender has no address"),
        ("sender: {address: a@example.com, tracking: 5}", "sender.tracking"),
        ("sender: {address: a@example.com, tracking: {open: true}}", "sender.tracking.open"),
        ("sender: {address: 5}", "sender.address must be text"),
    ],
)
def test_faults_of_a_bundle_are_told_with_those_of_the_plan(
    tmp_path: Path, change: str, problem: str
) -> None:
    text = PLAN[: PLAN.index("templates:")].replace("type: wait", "type: sleep") + change
    with pytest.raises(PlanValidationError) as caught:
        read_plan_file(plan_file(tmp_path, text))
    faults = caught.value.faults
    assert any(fault.step_id == "pause" for fault in faults)
    assert any(problem in fault.problem for fault in faults), faults


def test_references() -> None:
    assert split_reference("welcome") == ("welcome", None)
    assert split_reference("a.b:c@12") == ("a.b:c", 12)
    for wrong in ("", "a b", "a@", "a@0", "a@x", "@1"):
        with pytest.raises(click.UsageError):
            split_reference(wrong)


def bomb(levels: int, merged: bool) -> str:
    """Ten times the level before, level after level, in as many short lines."""
    first, many = ("{x: 1}", "{{<<: [{}]}}") if merged else ("[x]", "[{}]")
    more = [
        f"l{level}: &l{level} " + many.format(", ".join([f"*l{level - 1}"] * 10))
        for level in range(1, levels + 1)
    ]
    return "\n".join([f"l0: &l0 {first}", *more])


@pytest.mark.parametrize(
    "text",
    [bomb(6, False), bomb(6, True), "a: &a [*a]", "a: &a {b: *a}", "a: &a {<<: *a}"],
    ids=["lists", "merges", "within itself", "as its own value", "as its own base"],
)
def test_a_small_file_that_stands_for_a_huge_one_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidInput, match="aliases"):
        read(tmp_path, text)


def test_aliases_are_followed_as_far_as_anybody_writes_them(tmp_path: Path) -> None:
    assert read(tmp_path, bomb(3, False))["l3"][9][9][9] == ["x"]
    assert read(tmp_path, bomb(3, True))["l3"] == {"x": 1}


@pytest.mark.parametrize(
    "value",
    [
        "!!timestamp x",
        "!!bool x",
        '!!float ""',
        "!!map [a]",
        "!!int x",
        "!!set [a]",
        "!!omap {a: 1}",
    ],
)
def test_a_tag_that_does_not_fit_its_value_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(InvalidInput):
        read(tmp_path, f"a: {value}")
