"""The command line: parses, calls the engine, prints."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from typing import Final

_MADE: Final = 50_000
"""Objects between two looks of the garbage collector."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 failed or not valid, 2 called wrongly."""
    # What is imported stays, and is much: to look through it for garbage again and again would be
    # a tenth of the time of a short command.
    gc.set_threshold(_MADE)
    try:
        # Imported late: whoever needs one module of this package does not pay for the parser.
        from dee_es.cli.root import run

        run(arguments)
    except KeyboardInterrupt:
        # Pressed before the parser was there to take it.
        sys.stderr.write("dee: interrupted\n")
        sys.exit(130)
