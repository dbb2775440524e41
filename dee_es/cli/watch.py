"""How a worker is told about: at work, busy, idle, silent, stopped."""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from dee_es.cli.output import say
from dee_es.cli.progress import Progress
from dee_es.cli.text import counted
from dee_es.cli.tick_line import tick_line
from dee_es.cli.times import iso

if TYPE_CHECKING:
    from dee_es.bootstrap import Engine
    from dee_es.engine.auditing.signing import SignedCheckpoint
    from dee_es.engine.models import TickReport

_log: Final = logging.getLogger("dee_es.worker")
_SILENCE_S: Final = 10.0
"""After so many seconds without the end of a tick, people are told."""
_LOOKS: Final = 2
"""After so many seconds, in which one look each is taken, a stop is told that is not done yet."""


class Watch:
    """Tells when the worker's state changes, in lines on stdout or as events of the log."""

    def __init__(self, engine: Engine, stop: threading.Event, logged: bool) -> None:
        self._logged = logged
        self._engine = engine
        self._stop = stop
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True, name="dee-watch")
        self._progress = Progress("Events")
        self._heard = time.monotonic()
        self._state = "starting"
        self._stopping = 0
        self._before: TickReport | None = None
        self._busy_since: TickReport | None = None

    def __enter__(self) -> Watch:
        health = self._engine.health()
        self.tell(
            "started",
            f"worker: started on {health.backend}, tick {health.tick:,}",
            backend=health.backend,
            tick=health.tick,
        )
        if health.clock == "manual":
            self.tell(
                "manual_clock",
                "worker: this database has a manual clock, which a worker does not move; "
                "use `dee run-until`",
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
                self.tell("busy", f"worker: busy from {self._time(total.tick)}", tick=total.tick)
            elif not busy and self._state == "busy":
                done = _since(total, self._busy_since)
                self.tell(
                    "idle",
                    f"worker: idle from {self._time(total.tick)}: {tick_line(done)}",
                    **_numbers(done),
                )
            elif self._state in ("starting", "silent"):
                self.tell("at_work", f"worker: at work, tick {total.tick:,}", tick=total.tick)
            self._state = "busy" if busy else "idle"
            self._before = total
            if busy:
                self._progress.update(total.events)

    def on_checkpoint(self, done: SignedCheckpoint) -> None:
        """Say that the log was signed; the engine logs it itself."""
        with self._lock:
            self._heard = time.monotonic()
            if not self._logged:
                places = counted(len(done.places), "place")
                signed = counted(done.size, "entry", "entries")
                self.tell("checkpoint", f"worker: signed {signed}, kept in {places}")

    def finish(self, total: TickReport) -> None:
        """Say what was done in all."""
        with self._lock:
            self._state = "stopped"
            self.tell("stopped", f"worker: stopped; {tick_line(total)}", **_numbers(total))

    def _listen(self) -> None:
        while not self._ended.wait(1.0):
            with self._lock:
                self._stopping += self._stop.is_set() and self._state != "stopped"
                # One that stops within a second has nothing to say of it.
                if self._stopping == _LOOKS:
                    self.tell("stopping", "worker: stopping, once the tick under way has ended")
                quiet = time.monotonic() - self._heard >= _SILENCE_S
                if quiet and self._state in ("starting", "idle") and not self._stop.is_set():
                    self._state = "silent"
                    self.tell(
                        "standing_by",
                        "worker: standing by: another worker is at work, the database does not "
                        "answer, or a tick or a checkpoint takes long",
                    )

    def tell(self, event: str, line: str, **fields: Any) -> None:
        """Say `line`, or log the event with its fields."""
        if self._logged:
            _log.info(event, extra=fields)
            return
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


def _numbers(report: TickReport) -> dict[str, int]:
    from dataclasses import asdict

    return asdict(report)
