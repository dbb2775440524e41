"""Times and durations as people write them, and as they read them; the same behind every door."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

_UNITS: Final = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:[0-9]{1,9}[wdhms])+", re.ASCII)
_PART = re.compile(r"([0-9]+)([wdhms])", re.ASCII)
# As the engine's sentences have it, and as a policy says when a window or a limit opens again.
_IN_TEXT: Final = re.compile(
    r"\b([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{3})?)?)(?:Z| UTC)\b"
)
_LONGEST: Final = timedelta(days=36_525)


def parse_duration(text: str) -> timedelta | None:
    """`24h`, `7d` or `1d12h` as a duration; None for what is none. Raises `ValueError`."""
    if not _DURATION.fullmatch(text):
        return None
    seconds = sum(int(count) * _UNITS[unit] for count, unit in _PART.findall(text))
    if seconds > _LONGEST.total_seconds():
        raise ValueError("is longer than a hundred years")
    return timedelta(seconds=seconds)


def parse_time(text: str, otherwise: str | None = None) -> datetime:
    """An ISO 8601 time that says its zone. Raises `ValueError` with what is wrong; `otherwise` is
    what else could have been given."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        time = "time such as 2025-03-01T09:00Z"
        what = f"is no {time}" if otherwise is None else f"is neither a {time} nor {otherwise}"
        raise ValueError(what) from None
    raise ValueError("has no time zone; write Z for UTC or an offset such as +02:00")


def iso(moment: datetime) -> str:
    """The time in UTC by ISO 8601, with milliseconds only where there are any."""
    precision = "milliseconds" if moment.microsecond else "seconds"
    return moment.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def span(seconds: float) -> str:
    """A duration in its two largest units: 3d2h, 2h, 5m10s."""
    left = int(seconds)
    parts: list[str] = []
    for unit in ("d", "h", "m", "s"):
        count, left = divmod(left, _UNITS[unit])
        if count and len(parts) < 2:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def distance(moment: datetime, now: datetime) -> str:
    """How far a time is from now, in its largest unit: `3d ago`, `in 2h`, `now`."""
    seconds = int((moment - now).total_seconds())
    if seconds == 0:
        return "now"
    return f"in {rough(seconds)}" if seconds > 0 else f"{rough(-seconds)} ago"


def rough(seconds: float) -> str:
    """A duration in its largest unit: 3d, 2h, 5m, 8s."""
    for unit in ("d", "h", "m"):
        if seconds >= _UNITS[unit]:
            return f"{int(seconds // _UNITS[unit])}{unit}"
    return f"{int(seconds)}s"


def changed(kind: str, value: Any, write: Callable[[datetime], str]) -> Any:
    """A value of a run's change, of this kind, with its times as `write` has them."""
    if not isinstance(value, str) or kind == "value":
        return value
    return write(parse_time(value)) if kind == "time" else with_times(value, write)


def with_times(text: str, write: Callable[[datetime], str]) -> str:
    """A text of the engine's with each time in it, which is UTC, as `write` has it."""
    return _IN_TEXT.sub(lambda found: write(datetime.fromisoformat(f"{found[1]}Z")), text)
