"""The command line: parses, calls the engine, prints."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 failed or not valid, 2 called wrongly."""
    try:
        # Imported late: whoever needs one module of this package does not pay for the parser.
        from dee_es.cli.root import run

        run(arguments)
    except KeyboardInterrupt:
        # Pressed before the parser was there to take it.
        sys.stderr.write("dee: interrupted\n")
        sys.exit(130)
