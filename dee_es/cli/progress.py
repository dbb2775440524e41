"""One line on the terminal that says how far long work is; nothing at all in a pipe."""

from __future__ import annotations

import os
import shutil
import sys
import time
from types import TracebackType
from typing import Final, Self

from dee_es.cli.text import fitted

_EVERY_S: Final = 0.1


class Progress:
    """Shows done, rate and time left on stderr, rewriting one line at most ten times a second."""

    def __init__(
        self, what: str, total: int | None = None, *, start: int = 0, at_once: bool = False
    ) -> None:
        """`start` is how much was done before; with `at_once` what takes a moment is shown, too."""
        self._what = what
        self.total = total
        self._start = start
        self._on = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._began = time.monotonic()
        self._next = self._began + (0 if at_once else _EVERY_S)
        self._shown = False

    def update(self, done: int, fraction: float | None = None) -> None:
        """Tell how much is done, and which fraction of all that is if no total was given."""
        if not self._on:
            return
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _EVERY_S
        if fraction is None and self.total:
            fraction = done / self.total
        line = progress_line(self._what, done, now - self._began, fraction, self.total, self._start)
        sys.stderr.write("\r\x1b[K" + fitted(line, shutil.get_terminal_size().columns - 1))
        sys.stderr.flush()
        self._shown = True

    def clear(self) -> None:
        """Wipe the line, for something else to be printed."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.clear()


def progress_line(
    what: str,
    done: int,
    elapsed: float,
    fraction: float | None,
    total: int | None,
    start: int = 0,
) -> str:
    """The line: `Enrolling: 12,000 of 50,000 (24%), 5,400/s, 0:07 left`.

    `start` of what is done was done before, and took none of the time that has elapsed.
    """
    of = f" of {total:,}" if total else ""
    share = f" ({min(fraction, 1):.0%})" if fraction is not None else ""
    rate = f", {(done - start) / elapsed:,.0f}/s" if elapsed > 0 else ""
    left = ""
    before = start / total if total else 0.0
    if fraction is not None and before < fraction <= 1:
        seconds = int(elapsed * (1 - fraction) / (fraction - before))
        hours, rest = divmod(seconds, 3600)
        minutes, seconds = divmod(rest, 60)
        clock = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
        left = f", {clock} left"
    return f"{what}: {done:,}{of}{share}{rate}{left}"
