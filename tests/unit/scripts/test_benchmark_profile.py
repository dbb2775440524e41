"""What a profile makes of the stacks that were seen."""

from __future__ import annotations

from collections import Counter

from scripts.benchmarks.profiling import DRIVER, WAITING, WORKS, figures_of, parts

_ENTRY = "run_until_idle (dee_es/engine/api/clock.py:40)"
_STEP = "ClockApi.run_until_idle (dee_es/engine/api/clock.py:41);Passes.tick (dee_es/engine/x.py:9)"
_BESIDE = "Begun._run (dee_es/ports/beside.py:82);commit (dee_es/adapters/storage/y/store.py:7)"


def _seen(*lines: str) -> dict[str, int]:
    return dict(parts(lines, WORKS["run"].entry))


def test_time_counts_for_the_room_of_the_innermost_function_of_ours() -> None:
    assert _seen(
        f"{_STEP};evolve (dee_es/core/runs/fold.py:31) 7",
        f"{_STEP};fold (projections/run_list.py:57) 2",
        f"{_STEP};render (dee_es/core/messages/template.py:69);inner (contextlib.py:81) 3",
        f"{_STEP};decide (dee_es/core/runs/run.py:5) 1",
    ) == {"dee_es/core/runs": 8, "projections/run_list": 2, "dee_es/core/messages": 3}


def test_what_goes_on_beside_is_part_of_the_work() -> None:
    assert _seen(f"{_BESIDE} 4", f"<module> (scripts/x.py:1);{_BESIDE} 1") == {
        "dee_es/adapters/storage": 5
    }


def test_the_driver_and_waits_are_told_apart() -> None:
    assert _seen(
        f"{_BESIDE};Copy.write_row (psycopg/_copy.py:137) 5",
        f"{_BESIDE};Connection.wait (psycopg/connection.py:495);"
        "_in_turns (dee_es/adapters/postgres_waits.py:74);"
        "_Watch.ready (dee_es/ports/beside.py:63) 6",
        f"{_STEP};Cursor.execute (psycopg/cursor.py:113);"
        "Connection.wait (psycopg/connection.py:495) 3",
        f"{_STEP};Connection.wait (psycopg/connection.py:495);"
        "_looking (dee_es/adapters/postgres_waits.py:99);"
        "_soon (dee_es/adapters/postgres_waits.py:113) 2",
    ) == {DRIVER: 5, WAITING: 11}


def test_what_is_not_of_the_work_does_not_count() -> None:
    assert (
        _seen(
            "<module> (scripts/benchmarks/profiling.py:9);__init__ (dee_es/engine/facade.py:30) 50",
            "_bootstrap (threading.py:1002);wait (threading.py:331) 900",
            "",
        )
        == {}
    )
    assert _seen(f"{_ENTRY};tick (dee_es/engine/scheduling/passes.py:93) 1") == {
        "dee_es/engine/scheduling": 1
    }


def test_parts_come_to_the_time_of_an_item_and_small_ones_are_told_together() -> None:
    found = Counter({"dee_es/core/runs": 600, "psycopg": 390, "a": 6, "b": 4})
    whole, *each = figures_of(WORKS["run"], found, 400.0)
    assert whole.value == 400.0
    assert [(figure.work.strip(), round(figure.value, 6)) for figure in each] == [
        ("dee_es/core/runs", 240.0),
        ("psycopg", 156.0),
        ("others", 4.0),
    ]
    assert len({figure.of("profile", 1).name for figure in each}) == 3
    assert not any(figure.is_ratio for figure in each)


def test_nothing_seen_is_no_part() -> None:
    assert len(list(figures_of(WORKS["enroll"], Counter(), 30.0))) == 1
