"""`dee worker`: the scheduler, until it is stopped."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Final

import click

from dee_es.cli.output import say
from dee_es.cli.progress import Progress
from dee_es.cli.report import report_line
from dee_es.cli.session import Session, pass_session
from dee_es.cli.times import iso

if TYPE_CHECKING:
    from dee_es.bootstrap import Engine
    from dee_es.engine.models import TickReport

_SILENCE_S: Final = 10.0
"""After so many seconds without the end of a tick, people are told."""


@click.command()
@click.option(
    "--partition",
    metavar="I/N",
    help="Work on one share of the contacts, counted from 0; every share needs a worker of its"
    " own.  [DEE_PARTITION; default 0/1, all of them]",
)
@pass_session
def worker(session: Session, partition: str | None) -> None:
    """Do what becomes due, until SIGTERM or Ctrl-C; the tick under way is finished first.

    Of several workers on one share of a database one is at work, the others stand by. Prints a line
    when it begins or stops being busy, not for every look.
    """
    with session.engine(partition=partition) as engine:
        stop = threading.Event()
        with _stopping(stop), _Watch(engine, stop) as watch:
            total = engine.worker(stop, watch.on_tick)
            # Before the watch ends: its thread may still be about to say something.
            watch.finish(total)


@contextmanager
def _stopping(stop: threading.Event) -> Iterator[None]:
    """Let both signals set `stop`; a second one ends the program the usual way."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        signal.signal(number, before[signal.Signals(number)])
        stop.set()

    before = {
        number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Watch:
    """Tells when the worker's state changes: at work, busy, idle, silent, stopped."""

    def __init__(self, engine: Engine, stop: threading.Event) -> None:
        self._engine = engine
        self._stop = stop
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True, name="dee-watch")
        self._progress = Progress("Events")
        self._heard = time.monotonic()
        self._state = "starting"
        self._before: TickReport | None = None
        self._busy_since: TickReport | None = None

    def __enter__(self) -> _Watch:
        health = self._engine.health()
        self._tell(f"worker: started on {health.backend}, tick {health.tick:,}")
        if health.clock == "manual":
            self._tell(
                "worker: this database has a manual clock, which a worker does not move; "
                "use `dee run-until`"
            )
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()
        self._progress.clear()

    def on_tick(self, total: TickReport) -> None:
        """Take note of a tick that has ended."""
        with self._lock:
            self._heard = time.monotonic()
            busy = total.events > (self._before.events if self._before is not None else 0)
            if busy and self._state != "busy":
                self._busy_since = self._before
                self._tell(f"worker: busy from {self._time(total.tick)}")
            elif not busy and self._state == "busy":
                done = _since(total, self._busy_since)
                self._tell(f"worker: idle from {self._time(total.tick)}: {report_line(done)}")
            elif self._state in ("starting", "silent"):
                self._tell(f"worker: at work, tick {total.tick:,}")
            self._state = "busy" if busy else "idle"
            self._before = total
            if busy:
                self._progress.update(total.events)

    def finish(self, total: TickReport) -> None:
        """Say what was done in all."""
        with self._lock:
            self._state = "stopped"
            self._tell(f"worker: stopped; {report_line(total)}")

    def _listen(self) -> None:
        while not self._ended.wait(1.0):
            with self._lock:
                quiet = time.monotonic() - self._heard >= _SILENCE_S
                if quiet and self._state in ("starting", "idle") and not self._stop.is_set():
                    self._state = "silent"
                    self._tell(
                        "worker: standing by: another worker is at work, the database does not "
                        "answer, or a tick takes long"
                    )

    def _tell(self, line: str) -> None:
        self._progress.clear()
        say(line)
        # A log file is to have each line when it happens.
        sys.stdout.flush()

    def _time(self, tick: int) -> str:
        return iso(self._engine.clock.time(tick))


def _since(total: TickReport, before: TickReport | None) -> TickReport:
    """What was done after `before`."""
    from dataclasses import fields, replace

    if before is None:
        return total
    names = [field.name for field in fields(total) if field.name != "tick"]
    return replace(total, **{n: getattr(total, n) - getattr(before, n) for n in names})
