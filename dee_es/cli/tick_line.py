"""What the scheduler did, in a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dee_es.cli.text import counted

if TYPE_CHECKING:
    from dee_es.engine.models import TickReport


def tick_line(report: TickReport) -> str:
    """Events, the runs they advanced, and sends by outcome."""
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
    return f"{counted(report.runs, 'run')} advanced, {counted(report.events, 'event')}{sent}"
