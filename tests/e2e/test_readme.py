"""The README's snippets, run as they are written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dee_es.core.gate import check_policy

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def snippets(language: str) -> list[str]:
    """The blocks that are marked as tested, in order."""
    fence = "python" if language == "python" else "bash"
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


def run_in_shell(folder: Path, code: str) -> None:
    dee = folder / "dee"
    dee.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dee_es.cli "$@"\n')
    dee.chmod(0o755)
    env = environment()
    env["PATH"] = f"{folder}{os.pathsep}{env['PATH']}"
    done = subprocess.run(
        ["bash", "-eu", "-c", code], cwd=folder, env=env, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr


def test_the_shell_snippets_run(folder: Path) -> None:
    (code,) = snippets("shell")
    run_in_shell(folder, code)
    assert (folder / "refused.csv").stat().st_size > 0


def test_the_policy_snippet_runs(folder: Path) -> None:
    (code,) = snippets("policy")
    (folder / "policy.yaml").write_text("limits: {perDay: {contact: 1}}\n")
    (folder / "hello.txt").write_text("Hello {{contact.firstName}}")
    run_in_shell(folder, f"dee init\ndee template publish hello --text hello.txt\n{code}")


def test_the_policy_it_shows_is_one() -> None:
    (sample,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    checked = check_policy(yaml.safe_load(sample))
    assert checked["limits"]["perDay"]["contact"] == 1


@pytest.mark.parametrize("path", re.findall(r"`((?:dee_es|projections|scripts)/[\w/.]*)`", README))
def test_the_paths_it_names_exist(path: str) -> None:
    assert (ROOT / path).exists()
