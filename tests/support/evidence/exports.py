"""A log with runs, checkpoints and exports, a shell on its database, and the offline verifier."""

from __future__ import annotations

import atexit
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

from dee_es import Engine, EngineConfig
from dee_es.adapters.keys import open_memory_keys
from dee_es.core.evidence import chain
from dee_es.ports import StoredRow
from tests.support.engines import DAY, EPOCH, database_url, outreach, publish_basics

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "scripts" / "verify_export.py"
_ALONE = """\
import contextlib, io, json, runpy, sys
_, bare, script, paths, *options = sys.argv
sys.path.append(bare)
found = []
for path in json.loads(paths):
    sys.argv = [script, path, *options]
    said, code = io.StringIO(), None
    with contextlib.redirect_stdout(said):
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as error:
            code = error.code
    found.append((code, said.getvalue()))
ours = [name for name in sys.modules if name.split(".")[0] in ("dee_es", "projections")]
assert not ours, ours
print(json.dumps(found))
"""
Shell = tuple[str, tuple[object, ...]]


@cache
def _bare() -> Path:
    """A folder with the package `cryptography`, what it needs, and nothing else."""
    folder = Path(tempfile.mkdtemp(prefix="dee-bare-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in ("cryptography", "cffi", "_cffi_backend"):
        found = find_spec(name)
        assert found is not None
        assert found.origin is not None
        path = Path(found.origin)
        path = path.parent if path.name == "__init__.py" else path
        (folder / path.name).symlink_to(path)
    return folder


def verify_all(
    paths: Sequence[Path], *options: str | Path, script: Path = SCRIPT
) -> list[tuple[int, str]]:
    """What the offline verifier says of files, run by an interpreter that has nothing of ours."""
    done = subprocess.run(
        [
            sys.executable, "-I", "-S", "-c", _ALONE, str(_bare()), str(script),
            json.dumps([str(path) for path in paths]), *map(str, options),
        ],
        cwd=tempfile.gettempdir(),
        env={},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return [(code, said) for code, said in json.loads(done.stdout)]


def verify(path: Path, *options: str | Path, script: Path = SCRIPT) -> tuple[int, str]:
    """What it says of one file."""
    (found,) = verify_all([path], *options, script=script)
    return found


@dataclass
class Log:
    """A log of ten runs under two checkpoints, with a tail that no checkpoint covers."""

    url: str
    folder: Path
    engine: Engine

    @property
    def key(self) -> str:
        """The public key."""
        return (self.folder / "audit.key.pub").read_text().strip()

    def run(self, contact: str = "c3") -> str:
        """A run's id."""
        return self.engine.list_runs(contact_id=contact).runs[0].id

    def rows(self, stream: str) -> list[StoredRow]:
        """A stream as stored."""
        return self.engine._parts.store.read_stream(stream)

    def exported(self, name: str, **asked: Any) -> Path:
        """An export in a file."""
        path = self.folder / name
        self.engine.audit.export(format=path.suffix[1:], output=path, **asked)
        return path

    def shell(self, *statements: Shell) -> None:
        """Run SQL as somebody who owns the database, with its protections switched off."""
        if self.url.startswith("sqlite"):
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as raw, raw:
                triggers = raw.execute(
                    "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
                ).fetchall()
                for name, _ in triggers:
                    raw.execute(f"DROP TRIGGER {name}")
                for statement, values in statements:
                    raw.execute(statement, values)
                for _, sql in triggers:
                    raw.execute(sql)
        else:
            with psycopg.connect(self.url) as raw:
                raw.execute("ALTER TABLE stored_events DISABLE TRIGGER USER")
                for statement, values in statements:
                    raw.execute(statement.replace("?", "%s"), values)

    def recomputed(self, stream: str, change: Callable[[bytes], bytes]) -> list[Shell]:
        """A stream whose payloads were changed and whose chain was made anew, head included."""
        previous, statements = chain.GENESIS, list[Shell]()
        for row in self.rows(stream):
            payload = change(chain.unseal(row.state, "").payload)
            previous, state = chain.seal(stream, row.version, row.name, previous, payload)
            statements.append((_SET_STATE, (state, stream, row.version)))
        return [
            *statements,
            ("UPDATE heads SET checksum = ? WHERE stream_id = ?", (previous, stream)),
        ]


_SET_STATE = "UPDATE stored_events SET state = ? WHERE originator_id = ? AND originator_version = ?"


@contextmanager
def made_log(
    kind: str, folder: Path, fresh_postgres: Callable[[], str], *, signed: bool = True
) -> Iterator[Log]:
    """The log on a database of this kind, in a folder."""
    url = database_url(kind, folder, fresh_postgres)
    config = EngineConfig(
        url,
        clock="manual",
        epoch=EPOCH,
        checkpoints=str(folder / "places"),
        audit_key_file=str(folder / "audit.key"),
        certificates=str(folder / "certificates"),
        outbox=str(folder / "outbox"),
    )
    with Engine(config, keys=open_memory_keys()) as engine:
        publish_basics(engine)
        people = [
            {"id": f"c{n}", "email": f"c{n}@example.com", "firstName": f"Né{n}"} for n in range(10)
        ]
        assert engine.bulk_execute(outreach(), people).created == len(people)
        engine.grant_consent("c3", "email", purpose="news", source="form")
        engine.tick()
        for days in (2, 3):
            if signed:
                engine.audit.checkpoint("ann")
            engine.run_until(days * DAY)
            engine.grant_consent("c4", "email", purpose=f"day-{days}")
        if signed:
            engine.audit.checkpoint("ann")
        engine.suppress(contact_id="c3", reason="=asked us to stop")
        engine.run_until_idle()
        yield Log(url, folder, engine)


def lines(path: Path) -> list[dict[str, Any]]:
    """The records of an export in JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_lines(path: Path, records: list[dict[str, Any]]) -> Path:
    """Records as an export in JSON lines."""
    text = "".join(
        json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n" for record in records
    )
    path.write_text(text, encoding="utf-8")
    return path
