"""The command line: parses, calls the engine, prints."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 failed or not valid, 2 called wrongly."""
    # Imported late: whoever needs one module of this package does not pay for the parser.
    from dee_es.cli.root import run

    run(arguments)
