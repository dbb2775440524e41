"""A log with runs and checkpoints that is made once and tampered with many times."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dee_es import Engine, EngineConfig
from dee_es.cli import main
from dee_es.engine.auditing.verdicts import LogVerdict
from tests.support.engines import EPOCH, outreach, publish_basics
from tests.support.evidence.owner import Kind, Owner

_numbers = itertools.count(1)
_SAVE = """
CREATE SCHEMA saved;
CREATE TABLE saved.stored_events AS SELECT * FROM public.stored_events;
CREATE TABLE saved.heads AS SELECT * FROM public.heads;
CREATE TABLE saved.log_head AS SELECT * FROM public.log_head;
"""
_RESTORE = """
DROP INDEX IF EXISTS stored_events_notification_id_idx;
ALTER TABLE stored_events DROP CONSTRAINT IF EXISTS stored_events_pkey;
ALTER TABLE stored_events DISABLE TRIGGER USER;
TRUNCATE stored_events, heads, log_head;
INSERT INTO stored_events SELECT * FROM saved.stored_events;
INSERT INTO heads SELECT * FROM saved.heads;
INSERT INTO log_head SELECT * FROM saved.log_head;
ALTER TABLE stored_events ADD PRIMARY KEY (originator_id, originator_version);
CREATE UNIQUE INDEX stored_events_notification_id_idx ON stored_events (notification_id);
ALTER TABLE stored_events ENABLE ALWAYS TRIGGER stored_events_append_only;
ALTER TABLE stored_events ENABLE ALWAYS TRIGGER stored_events_archived_only;
"""


@dataclass
class OwnedLog:
    """A log, its keys and the two places of its checkpoints, in a folder.

    `reset` puts all of it back to what `prepare` had made of it.
    """

    kind: Kind
    root: Path
    server: str
    """URL of the PostgreSQL server, for administration."""
    _database: str = ""
    _template: str = ""
    _made: list[str] = field(default_factory=list)
    _grown: bool = False

    @property
    def folder(self) -> Path:
        """Where everything is at work."""
        return self.root / "work"

    @property
    def url(self) -> str:
        """The database."""
        if self.kind == "sqlite":
            return f"sqlite:///{self.folder / 'dee.db'}"
        return self.server.replace("/postgres?", f"/{self._database}?")

    @property
    def config(self) -> EngineConfig:
        """The settings of an engine on it."""
        return EngineConfig(
            self.url,
            keys=f"sqlite:///{self.folder / 'keys.db'}",
            clock="manual",
            epoch=EPOCH,
            checkpoints=f"{self.folder / 'places'} git:{self.folder / 'repository'}",
            audit_key_file=str(self.folder / "audit.key"),
            outbox=str(self.folder / "outbox"),
        )

    @property
    def owner(self) -> Owner:
        """The log in other hands."""
        places = self.folder / "places", self.folder / "repository"
        return Owner(self.kind, self.url, *places, self.folder / "audit.key")

    def prepare(self, *, signed: bool) -> None:
        """Runs before and after each of two checkpoints; without `signed`, no checkpoints."""
        self.folder.mkdir()
        if self.kind == "postgres":
            self._database = self._template = self._create("template0")
        with Engine(self.config) as engine:
            publish_basics(engine)
            for number in range(3):
                enroll(engine, 10 * number, 5)
                engine.tick()
                if signed and number < 2:
                    engine.audit.checkpoint()
        shutil.rmtree(self.folder / "repository" / ".git" / "hooks", ignore_errors=True)
        shutil.copytree(self.folder, self.root / "template")
        self._grown = True

    def reset(self) -> None:
        """Start over."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.root / "template", self.folder)
        if self.kind == "sqlite":
            return
        if self._grown:
            self._drop([name for name in self._made if name != self._template])
            self._database = self._create(self._template)
            with psycopg.connect(self.url) as owner:
                owner.execute(_SAVE)
        else:
            # A new database takes too long to be made for each case.
            with psycopg.connect(self.url) as owner:
                owner.execute(_RESTORE)
        self._grown = False

    def remove(self) -> None:
        """Leave nothing on the server."""
        self._drop(self._made)

    def _create(self, template: str) -> str:
        name = f"owned{next(_numbers)}_{self.root.name}".lower().replace("-", "_")[:60]
        with psycopg.connect(self.server, autocommit=True) as admin:
            admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
        self._made.append(name)
        return name

    def _drop(self, names: list[str]) -> None:
        for name in names:
            with psycopg.connect(self.server, autocommit=True) as admin:
                admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())
            self._made.remove(name)

    # --- verifying --------------------------------------------------------------------------------

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """An engine on the log as it is, to go on with."""
        self._grown = True
        with self.reading() as engine:
            yield engine

    @contextmanager
    def reading(self) -> Iterator[Engine]:
        """An engine that writes nothing."""
        with Engine(self.config) as engine:
            yield engine

    def verdict(self, workers: int = 1) -> LogVerdict:
        """What an engine says of the log."""
        with self.reading() as engine:
            return engine.verify_log(workers=workers)

    def dee(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code and both outputs of `dee`, in this process."""
        config = self.config
        with pytest.MonkeyPatch.context() as patch:
            for name in ("database", "keys", "checkpoints", "audit_key_file", "outbox"):
                patch.setenv(f"DEE_{name.upper()}", str(getattr(config, name)))
            out, err = StringIO(), StringIO()
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            with pytest.raises(SystemExit) as ended:
                main(arguments)
        return int(ended.value.code or 0), out.getvalue(), err.getvalue()

    def verified(self) -> tuple[int, list[str]]:
        """Exit code and problems of `dee audit verify`; a log that cannot even be opened has what
        is said of that."""
        code, out, err = self.dee("audit", "verify", "--json")
        return code, json.loads(out)["problems"] if out else [err]


def enroll(engine: Engine, first: int, count: int) -> None:
    """Start runs for new contacts."""
    people: list[dict[str, Any]] = [
        {"id": f"c{n}", "email": f"c{n}@example.com", "firstName": "N"}
        for n in range(first, first + count)
    ]
    assert engine.bulk_execute(outreach(), people).created == count


def git_log(repository: Path) -> str:
    """The subjects of a repository's commits."""
    command = ["git", "-C", str(repository), "log", "--format=%s"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
