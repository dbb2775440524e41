"""What tests of rebuilds share: a database for engines of several versions, and what breaks in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dee_es import Engine
from dee_es.adapters.channels.memory import MemoryChannel
from tests.support.cli.commands import ROOT
from tests.support.engines import fickle
from tests.support.versions.code import engine_with, views_of

NAMES = ("run_list", "audit_trail", "contact_history", "step_funnel")
DISK = ("sqlite", "postgres")


class Place:
    """An empty database that several engines, of several versions of the code, may open."""

    def __init__(self, kind: str, url: str, folder: Path) -> None:
        self.kind = kind
        self.url = url
        self.folder = folder
        self.keys = folder / "keys.db"
        self._opened: list[Engine] = []

    def open(self, **given: Any) -> Engine:
        """An engine on it; closed when the test ends."""
        given.setdefault("channel", MemoryChannel(fickle))
        engine = engine_with(self.url, self.keys, **given)
        self._opened.append(engine)
        return engine

    def close(self) -> None:
        """Close all that were opened."""
        while self._opened:
            self._opened.pop().close()


class Killed(BaseException):
    """What ends a rebuild here as kill -9 would: nothing after it is done."""


@contextmanager
def killed_at(engine: Engine, turn: int, *, committed: bool) -> Iterator[None]:
    """Break off in the transaction of this number, right before or right after its commit."""
    views: Any = views_of(engine)
    seen = 0

    def broken(original: Callable[[], Any]) -> Callable[[], Any]:
        @contextmanager
        def turned() -> Iterator[Any]:
            nonlocal seen
            seen += 1
            mine = seen
            with original() as tx:
                yield tx
                if mine == turn and not committed:
                    raise Killed
            if mine == turn and committed:
                raise Killed

        return turned

    patched = pytest.MonkeyPatch()
    with patched.context() as patch:
        for name in ("building", "transaction"):
            patch.setattr(views, name, broken(getattr(views, name)))
        yield


CHILD = """
import sys
from pathlib import Path
from tests.support.versions.code import engine_with, WiderRunList
with engine_with(sys.argv[1], Path(sys.argv[2]), run_list=WiderRunList()) as engine:
    print("ready", flush=True)
    done = engine.projections.rebuild("run_list", page=5, throttle=float(sys.argv[3]),
        on_progress=lambda p: print(p.phase, p.done, flush=True))
    print("done", done.resumed_at, flush=True)
"""


def child(place: Place, throttle: float = 1.0) -> subprocess.Popen[str]:
    """A process that rebuilds the run list of version 2."""
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, place.url, str(place.keys), str(throttle)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def tamper(engine: Engine, statement: str) -> None:
    """Change a projection table past the engine."""
    with views_of(engine).building() as tx:
        tx._session.ask(statement).fetchall()  # type: ignore[attr-defined]
