"""The worker's log lines: what is in them, and what is not."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from dee_es.cli.logs import JsonFormatter, TextFormatter, logging_to_stderr


def record(**extra: object) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"name": "dee_es.x", "levelname": "WARNING", "msg": "went_wrong", "created": 0.5, **extra}
    )


def test_a_record_is_one_object_on_one_line() -> None:
    line = JsonFormatter().format(record(run="run_1", partition=(0, 2), why="a\nb\u202e", n=None))
    assert "\n" not in line
    assert "\u202e" not in line
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.500Z",
        "level": "warning",
        "event": "went_wrong",
        "logger": "dee_es.x",
        "run": "run_1",
        "partition": [0, 2],
        "why": "a\nb\u202e",
        "n": None,
    }


def test_of_an_exception_only_its_class_is_told() -> None:
    try:
        raise ValueError("ada@example.com")
    except ValueError:
        made = record(exc_info=sys.exc_info(), held=ValueError("ada@example.com"))
    for formatter in (JsonFormatter(), TextFormatter()):
        line = formatter.format(made)
        assert "ada@" not in line
        assert "ValueError" in line


def test_text() -> None:
    line = TextFormatter().format(record(run="run_1", step="hello"))
    assert line == "1970-01-01T00:00:00.500Z warning went_wrong run=run_1 step=hello"


def test_the_loggers_are_left_as_they_were(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("dee_es")
    before = (logger.level, logger.propagate, list(logger.handlers))
    with logging_to_stderr(True):
        logging.getLogger("dee_es.worker").info("began", extra={"tick": 4})
    assert (logger.level, logger.propagate, list(logger.handlers)) == before
    assert json.loads(capsys.readouterr().err)["tick"] == 4
    with logging_to_stderr(False):
        logging.getLogger("dee_es.worker").info("quiet")
    assert capsys.readouterr().err == ""
