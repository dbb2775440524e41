"""The README's snippets, run as they are written."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import yaml
from pydantic import BaseModel

from dee_es.config import EngineConfig
from dee_es.core.gate import Policy, check_policy
from dee_es.core.steps import STEP_TYPES
from dee_es.web.api import ROUTERS
from tests.support.cli.commands import PLAN

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def snippets(language: str) -> list[str]:
    """The blocks that are marked as tested, in order."""
    fence = {"python": "python", "plan": "yaml"}.get(language, "bash")
    return re.findall(rf"<!-- tested: {language} -->\n```{fence}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder as a newcomer has it: the checkout's scripts beside it."""
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    return tmp_path


def environment() -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("DEE_")}
    return {**own, "PYTHONPATH": str(ROOT)}


def test_the_python_snippets_run_one_after_the_other(folder: Path) -> None:
    found = snippets("python")
    assert len(found) >= 2
    for code in found:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder,
            env=environment(),
            text=True,
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr
    assert list((folder / "outbox").rglob("*.eml"))


def run_in_shell(folder: Path, code: str, code_in: Path = ROOT) -> None:
    dee = folder / "dee"
    dee.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dee_es.cli "$@"\n')
    dee.chmod(0o755)
    env = {**environment(), "PYTHONPATH": str(code_in)}
    env["PATH"] = f"{folder}{os.pathsep}{env['PATH']}"
    done = subprocess.run(
        ["bash", "-eu", "-c", code], cwd=folder, env=env, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr


def test_the_shell_snippets_run(folder: Path) -> None:
    (code,) = snippets("shell")
    run_in_shell(folder, code)
    assert (folder / "refused.csv").stat().st_size > 0


def test_the_plan_it_shows_is_lived_through(folder: Path) -> None:
    (sample,), (code,) = snippets("plan"), snippets("enrolling")
    (folder / "trial.yaml").write_text(sample)
    rows = ("a,a@example.com,+15550001,Ann,Crates Ltd,300", "b,b@example.com,+15550002,Bo,,12")
    header = "id,email,phone,firstName,company,employees"
    (folder / "contacts.csv").write_text("\n".join([header, *rows, ""]))
    run_in_shell(folder, f"dee init --clock manual\n{code}\ndee run-until --for 4d")
    sent = sorted(path.name.split("-")[2] for path in (folder / "outbox").rglob("*.*"))
    assert sent == ["again", "call", "first", "first"]


def test_the_policy_snippet_runs(folder: Path) -> None:
    (sample,), (code,) = snippets("plan"), snippets("policy")
    (folder / "trial.yaml").write_text(sample)
    (folder / "policy.yaml").write_text("limits: {perDay: {contact: 1}}\n")
    run_in_shell(folder, f"dee init\ndee plan publish trial.yaml\n{code}")


def test_the_policy_it_shows_is_one() -> None:
    (sample,) = re.findall(r"```yaml\n(# policy.yaml.*?)```", README, re.DOTALL)
    checked = check_policy(yaml.safe_load(sample))
    assert checked["limits"]["perDay"]["contact"] == 1


def test_the_change_of_a_projection_works_as_it_is_written(tmp_path: Path) -> None:
    """On a copy of the code, since it is changed: from the patch to the swapped table."""
    (patch,) = re.findall(r"<!-- tested: diff -->\n```diff\n(.*?)```", README, re.DOTALL)
    (code,) = snippets("rebuild")
    assert len([line for line in code.splitlines() if line]) == 5
    for room in ("dee_es", "projections"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "last-send.patch").write_text(patch, encoding="utf-8")
    (tmp_path / "plan.yaml").write_text(PLAN, encoding="utf-8")
    (tmp_path / "contacts.csv").write_text("id,email,firstName\na,a@example.com,Ann\n")
    for line in (
        "dee init --clock manual",
        "dee enroll plan.yaml contacts.csv --var place=here",
        "dee tick",
    ):
        run_in_shell(tmp_path, line, tmp_path)
    run_in_shell(tmp_path, code, tmp_path)
    with closing(sqlite3.connect(tmp_path / "dee.db")) as database:
        assert database.execute("SELECT last_send_tick FROM run_list_v2").fetchall() == [(0,)]
        tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master")}
    assert "run_list_v1" not in tables
    run_in_shell(tmp_path, "dee projections verify && dee health && dee runs list", tmp_path)


@pytest.mark.parametrize("path", re.findall(r"`((?:dee_es|projections|scripts)/[\w/.]*)`", README))
def test_the_paths_it_names_exist(path: str) -> None:
    assert (ROOT / path).exists()


def test_every_setting_is_named() -> None:
    names = [*(each.name for each in fields(EngineConfig)), "new_master_key"]
    assert [name for name in names if f"`DEE_{name.upper()}`" not in README] == []


def test_every_word_that_a_setting_takes_is_named() -> None:
    hints = get_type_hints(EngineConfig)
    few = {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Literal}
    assert len(few) >= 6
    for name, words in few.items():
        (row,) = re.findall(rf"^\|.*`DEE_{name.upper()}`.*$", README, re.MULTILINE)
        assert [word for word in words if f"`{word}`" not in row] == [], name


@pytest.mark.parametrize("name, model", STEP_TYPES.items())
def test_every_step_is_in_the_table_with_its_fields(name: str, model: type[BaseModel]) -> None:
    (row,) = re.findall(rf"^\| `{name}` \|(.*)$", README, re.MULTILINE)
    named = [each.alias or field for field, each in model.model_fields.items()]
    assert [each for each in named if each not in ("id", "type") and f"`{each}`" not in row] == []


def part_of(begin: str, end: str) -> str:
    return README[README.index(begin) : README.index(end)]


def test_every_resource_of_the_api_is_in_the_table() -> None:
    """By the last word of its path: what it stands below may be told once for several."""
    table = part_of("| under `/api/v1` |", "JSON is in camelCase, a run")
    told = " ".join(re.findall(r"`([^`]*)`", table))
    words = set(re.split(r"[ /]+", told))
    paths = [str(route.path) for router in ROUTERS for route in router.routes]  # type: ignore[attr-defined]
    assert len(paths) > 80
    last = {path: [each for each in path.split("/") if "{" not in each][-1] for path in paths}
    assert [path for path, word in last.items() if word not in words] == []


def fields_of(model: Any) -> Iterator[str]:
    """The names that the fields of a model have in JSON, those of its parts included."""
    if isinstance(model, type) and issubclass(model, BaseModel):
        for name, field in model.model_fields.items():
            yield field.alias or name
            yield from fields_of(field.annotation)
    for inner in get_args(model):
        yield from fields_of(inner)


def test_every_field_of_a_policy_is_in_the_table() -> None:
    table = part_of("A policy holds any of these", "A run keeps to the policy")
    fields = set(fields_of(Policy))
    assert {"holidays", "warmUp", "costPerSend"} <= fields
    assert [name for name in sorted(fields) if not re.search(rf"\b{name}\b", table)] == []


def test_everything_that_is_logged_is_explained() -> None:
    written = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "dee_es").rglob("*.py")
    )
    logged = set(re.findall(r'_log\.(?:warning|error|critical)\(\s*"(\w+)"', written))
    assert "run_held_up" in logged
    rest = logged - {"send_"} | {"send_failed", "send_unknown"}
    assert [name for name in sorted(rest) if f"`{name}`" not in README] == []
