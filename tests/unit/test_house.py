"""The house as it was drawn: tools find nothing, core is pure, every folder is a known room."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

ROOMS = {
    ".": {"dee_es", "projections", "scripts", "tests"},
    "dee_es": {
        "adapters",
        "bootstrap",
        "cli",
        "client",
        "core",
        "doors",
        "engine",
        "ports",
        "verifier",
        "web",
    },
    "dee_es/core": {
        "builders",
        "compliance",
        "conditions",
        "events",
        "evidence",
        "gate",
        "messages",
        "past",
        "plans",
        "runs",
        "steps",
    },
    "dee_es/web": {"api", "hooks", "pages", "security"},
    "dee_es/adapters": {"anchors", "channels", "documents", "keys", "storage"},
    "tests": {"contract", "e2e", "golden", "integration", "property", "support", "unit"},
    "tests/support": {
        "by_hand",
        "channels",
        "cli",
        "evidence",
        "processes",
        "runs",
        "storage",
        "twins",
        "versions",
        "web",
    },
}
# What tools leave behind; none of it is committed.
NO_ROOMS = {"__pycache__", "build", "dist", "outbox"}

# Whatever gives another answer on another machine or another day.
IMPURE_MODULES = {
    "asyncio", "concurrent", "getpass", "glob", "http", "io", "locale", "logging",
    "multiprocessing", "os", "pathlib", "platform", "queue", "random", "secrets", "select",
    "shutil", "signal", "smtplib", "socket", "sqlite3", "ssl", "subprocess", "sys", "tempfile",
    "threading", "time", "urllib", "uuid", "warnings", "zoneinfo",
    "click", "cryptography", "eventsourcing", "psycopg", "psycopg_pool", "yaml",
}  # fmt: skip
# On any object: `now` of a datetime, `today` of a date, `fromtimestamp` in the machine's zone.
IMPURE_METHODS = {"now", "utcnow", "today", "fromtimestamp", "astimezone"}
IMPURE_BUILTINS = {
    "open",
    "print",
    "input",
    "eval",
    "exec",
    "__import__",
    "breakpoint",
    "id",
    "hash",
}


@pytest.mark.parametrize("part", ["format", "lint", "types", "imports"])
def test_scripts_check_passes(part: str) -> None:
    done = subprocess.run(
        ["bash", str(ROOT / "scripts" / "check"), part],
        # This interpreter has the tools; without it the script would make an environment first.
        env={**os.environ, "DEE_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(done.stdout + done.stderr, pytrace=False)


def impurities(source: str) -> Iterator[str]:
    """What in a module of core would make it depend on anything but its arguments."""
    tree = ast.parse(source)
    # A text's hash differs from process to process; only in __hash__ does nobody keep it.
    hashing = {
        call
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and function.name == "__hash__"
        for call in ast.walk(function)
    }
    for node in ast.walk(tree):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        for module in modules:
            if module.partition(".")[0] in IMPURE_MODULES:
                yield f"line {node.lineno}: imports {module}"
        if isinstance(node, ast.Call) and node not in hashing and (name := impure_call(node)):
            yield f"line {node.lineno}: calls {name}()"


def impure_call(call: ast.Call) -> str | None:
    """The name of what is called, if the answer depends on the machine or the moment."""
    called = call.func
    if isinstance(called, ast.Name):
        return called.id if called.id in IMPURE_BUILTINS else None
    if not isinstance(called, ast.Attribute):
        return None
    given = len(call.args) + len(call.keywords)
    # Told the zone, these say the same everywhere.
    told_zone = given >= {"fromtimestamp": 2, "astimezone": 1}.get(called.attr, given + 1)
    return f".{called.attr}" if called.attr in IMPURE_METHODS and not told_zone else None


def test_core_is_pure() -> None:
    found = [
        f"{path.relative_to(ROOT)}, {what}"
        for path in sorted((ROOT / "dee_es" / "core").rglob("*.py"))
        for what in impurities(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import os.path",
        "from uuid import uuid4",
        "def f():\n    import random",
        "import datetime as d\nd.datetime.now()",
        "from datetime import datetime\ndatetime.now(UTC)",
        "date.today()",
        "datetime.fromtimestamp(0)",
        "moment.astimezone()",
        "hash(contact_id)",
        "open('x')",
    ],
)
def test_impurities_are_seen(source: str) -> None:
    assert list(impurities(source))


@pytest.mark.parametrize(
    "source",
    [
        "from datetime import UTC, datetime, timedelta\ndatetime(2020, 1, 1, tzinfo=UTC)",
        "datetime.fromtimestamp(0, UTC)",
        "datetime.fromtimestamp(0, tz=UTC)",
        "moment.astimezone(UTC)",
        "def __hash__(self):\n    return hash(self.key)",
        "import hashlib\nhashlib.sha256(b'')",
    ],
)
def test_what_is_pure_is_let_be(source: str) -> None:
    assert list(impurities(source)) == []


@pytest.mark.parametrize("place", ROOMS)
def test_every_folder_is_a_known_room(place: str) -> None:
    folders = {
        entry.name
        for entry in (ROOT / place).iterdir()
        if entry.is_dir()
        and not entry.name.startswith(".")
        and not entry.name.endswith(".egg-info")
        and entry.name not in NO_ROOMS
    }
    assert folders - ROOMS[place] == set()


def test_every_room_says_what_it_is_to_python() -> None:
    """A package without `__init__.py` works from the checkout and is missed by some tools."""
    for top in ("dee_es", "projections"):
        for path in (ROOT / top).rglob("*.py"):
            assert (path.parent / "__init__.py").exists(), path.parent
