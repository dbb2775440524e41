"""What the scheduler did, in a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dee_es.cli.text import counted

if TYPE_CHECKING:
    from dee_es.engine.models import TickReport


def tick_line(report: TickReport) -> str:
    """Events, how often runs went on by them, and sends by outcome."""
    if not report.events:
        return "nothing was due"
    sends = [
        f"{count:,} {name}"
        for name, count in (
            ("delivered", report.delivered),
            ("pending", report.pending),
            ("failed", report.failed),
            ("of unknown outcome", report.unknown),
        )
        if count
    ]
    sent = f"; sends: {', '.join(sends)}" if sends else ""
    # A run counts once for each pass that it goes on in: of several ticks it is no number of runs.
    went_on = f"runs advanced {counted(report.runs, 'time')}"
    return f"{went_on}, {counted(report.events, 'event')}{sent}"
