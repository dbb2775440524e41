"""How calls are counted: the same work, the same number, whoever else is at work."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from dee_es.adapters import postgres_waits
from dee_es.core.runs import fold
from projections import run_list
from scripts.benchmarks import counting


@pytest.mark.parametrize(
    "file, whose",
    [
        (fold.__file__, "this project"),
        (run_list.__file__, "this project"),
        (psycopg.connection.__file__, "the driver"),
        (postgres_waits.__file__, "waiting"),
        (__file__, "others"),
        ("<string>", "others"),
    ],
)
def test_a_function_is_of_the_package_that_it_lies_in(file: str, whose: str) -> None:
    assert counting._whose(file) == whose


def test_the_same_work_is_counted_alike(tmp_path: Path) -> None:
    counts = []
    for turn in ("first", "second"):
        folder = tmp_path / turn
        folder.mkdir()
        found = list(counting.measure("sqlite", folder, 100, 1))
        assert {each.unit for each in found} == {"calls"}
        counts.append({each.work: each.value for each in found})
    assert counts[0] == pytest.approx(counts[1], rel=0.01)
    assert len(counts[0]) == 5
    assert counts[0]["execute: functions of this project for a run"] > 100
