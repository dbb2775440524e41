"""What the worker logs on stderr: lines for people, or one JSON object a line for programs.

Only names and numbers are written: what happened, to which run and step. The text of an exception
may hold anything, so only its class is.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from dee_es.cli.text import one_line, printable
from dee_es.cli.times import iso

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; the rest came as `extra`."""


@contextmanager
def logging_to_stderr(as_json: bool) -> Iterator[None]:
    """Write what the loggers of dee_es say: with JSON all of it, else only warnings."""
    logger = logging.getLogger("dee_es")
    before = logger.level, logger.propagate
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if as_json else logging.WARNING)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Time, level and event of a record, then its extra fields."""
    known: dict[str, Any] = {
        "time": iso(datetime.fromtimestamp(record.created, UTC)),
        "level": record.levelname.lower(),
        "event": record.getMessage(),
        "logger": record.name,
    }
    for name, value in vars(record).items():
        if name not in _OWN and name not in known:
            known[name] = _plain(value)
    if record.exc_info and record.exc_info[0] is not None:
        known["error"] = record.exc_info[0].__name__
    return known


class JsonFormatter(logging.Formatter):
    """A record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return printable(json.dumps(fields_of(record), ensure_ascii=False))


class TextFormatter(logging.Formatter):
    """A record as a line for people."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        fields = fields_of(record)
        head = [fields.pop(name) for name in ("time", "level", "event")]
        fields.pop("logger")
        rest = [f"{name}={value}" for name, value in fields.items()]
        return one_line(" ".join([*head, *rest]))


def _plain(value: object) -> Any:
    """What JSON has as it is, lists of it, and of anything else only its kind."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return type(value).__name__
