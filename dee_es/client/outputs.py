"""Files that come from the server, written on this machine: whole or not at all."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from dee_es.core.values import check_text
from dee_es.engine.exporting.delivery import Output, check_output
from dee_es.errors import AnchorUnavailable, InvalidInput, OutputExists

Fill = Callable[[IO[bytes]], object]
"""Asks the server for a file, and writes it into this one."""
_PIECE: Final = 1 << 20


def check_here(output: Output) -> None:
    """Raise `InvalidInput` for what nothing on this machine can be written to."""
    check_output(output)
    if isinstance(output, str | os.PathLike):
        here("output", os.fspath(output))


def here(field: str, path: str) -> Path:
    """A path of this machine; raises `InvalidInput` for a URL."""
    if "://" in check_text(field, path, blank=False):
        raise InvalidInput(field, "must be a path or a file; a client writes to no URL")
    return Path(path).absolute()


def deliver(output: Output, fill: Fill, *, replace: bool = True) -> bytes | None:
    """Have a file filled and put it where it is wanted; returns its content if that is nowhere.

    Raises `AnchorUnavailable` for what cannot be written and, without `replace`, `OutputExists` if
    the file is there: the server is asked for nothing then.
    """
    check_here(output)
    if output is None:
        content = io.BytesIO()
        fill(content)
        return content.getvalue()
    if isinstance(output, str | os.PathLike):
        _write(Path(output).absolute(), fill, replace)
        return None
    # A stream shows what it is given at once, so that all of it has to be there before.
    with tempfile.TemporaryFile() as aside:
        fill(aside)
        aside.seek(0)
        while piece := aside.read(_PIECE):
            output.write(piece)
    return None


def _write(path: Path, fill: Fill, replace: bool) -> None:
    """Fill a file aside and rename it, for its owner only."""
    try:
        with suppress(FileExistsError):
            path.parent.mkdir(parents=True)
        descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=".")
        try:
            with open(descriptor, "w+b") as file:
                if not replace and os.path.lexists(path):
                    raise FileExistsError
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            # Unlike a renaming, a link fails if somebody has made the file in the meantime.
            (os.replace if replace else os.link)(aside, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(aside)
    except FileExistsError:
        raise OutputExists(f"{path}: is there already") from None
    except OSError as error:
        said = error.strerror or type(error).__name__
        raise AnchorUnavailable(f"{path.parent}: {said}") from error
