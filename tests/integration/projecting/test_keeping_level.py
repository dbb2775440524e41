"""Projections that are caught up for a while, and kept level in the background."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dee_es import Engine
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.engine.projecting import keeping
from dee_es.errors import DeeError, InvalidInput, ProjectionUnavailable
from tests.support.engines import BACKENDS, database_url, fickle, open_engine
from tests.support.runs.busy import keep_busy, prepare
from tests.support.versions.code import views_of
from tests.support.waiting import eventually

LAZY = ("audit_trail", "contact_history", "step_funnel")


@pytest.fixture(params=BACKENDS)
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> Iterator[Engine]:
    """An engine whose lazy projections have folded nothing yet."""
    url = database_url(request.param, tmp_path, fresh_postgres)
    with open_engine(url, channel=MemoryChannel(fickle)) as engine:
        prepare(engine)
        keep_busy(engine, 600, seed=21)
        yield engine


@contextmanager
def kept(
    engine: Engine, on_trouble: Callable[[str, DeeError], object] | None = None, **how: float
) -> Iterator[None]:
    """Projections kept level in another thread, which has to end soon when it is told to."""
    stop = threading.Event()
    told = {"every_s": 0.02, **how}
    keeper = threading.Thread(
        target=lambda: engine.projections.keep_level(stop, on_trouble=on_trouble, **told)
    )
    keeper.start()
    try:
        yield
    finally:
        stop.set()
        keeper.join(60)
    assert not keeper.is_alive()


def level(engine: Engine, *names: str) -> bool:
    lag = engine.projections.lag()
    return not any(lag[name] for name in names or LAZY)


def test_catching_up_for_a_while_says_how_far_it_is(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "PIECE", 50)
    head = engine.health().position
    for name in LAZY:
        found = engine.projections.catch_up(name, within_s=0)
        assert (found.name, found.position, found.head, found.level) == (name, 0, head, False)
        before = 0
        while not found.level:
            found = engine.projections.catch_up(name, within_s=0.001)
            assert found.position in (before, *range(before + 50, head, 50), head)
            before = found.position
        assert found.position == head
        assert engine.projections.catch_up(name, within_s=0).level
        assert engine.projections.verify(name).ok


def test_without_a_limit_it_ends_level(engine: Engine) -> None:
    for name in LAZY:
        assert engine.projections.catch_up(name).level
        assert engine.projections.verify(name).ok
    assert level(engine)


def test_what_is_not_there_or_makes_no_sense_is_refused(engine: Engine) -> None:
    with pytest.raises(InvalidInput, match="no projection 'nothing'"):
        engine.projections.catch_up("nothing")
    wrong: Any
    for wrong in (-1, float("nan"), "1", True):
        with pytest.raises(InvalidInput, match="within_s"):
            engine.projections.catch_up("audit_trail", within_s=wrong)
    for wrong in (0, -1, float("nan"), float("inf"), "1", None):
        with pytest.raises(InvalidInput, match="every_s"):
            engine.projections.keep_level(threading.Event(), every_s=wrong)
    with pytest.raises(InvalidInput, match="throttle"):
        engine.projections.keep_level(threading.Event(), throttle=0)


def test_projections_are_kept_level_while_others_write(engine: Engine) -> None:
    with kept(engine, throttle=0.9):
        eventually(lambda: level(engine))
        keep_busy(engine, 300, seed=22, first=10_000)
        eventually(lambda: level(engine))
    for name in LAZY:
        assert engine.projections.verify(name).ok


def test_readers_see_everything_while_it_works(engine: Engine) -> None:
    with kept(engine):
        found = engine.audit.query(run_id=engine.list_runs(limit=1).runs[0].id)
        assert found.total == len(found.entries) > 0
        total = engine.audit.query(limit=1).total
    assert total == engine.health().position - 1, "all but the record of the query itself"


def test_it_ends_soon_even_at_rest(engine: Engine) -> None:
    with kept(engine, throttle=0.001, every_s=3_600):
        eventually(lambda: engine.projections.lag()["audit_trail"] < engine.health().position)


def test_one_that_cannot_be_read_keeps_none_of_the_others_back(engine: Engine) -> None:
    told: list[tuple[str, str]] = []
    views = views_of(engine)
    (row,) = [each for each in views.standing().builds if each.name == "audit_trail"]

    def replaced(old: object, new: object) -> None:
        with views.transaction() as tx:
            tx.remove_build(old.key)  # type: ignore[attr-defined]
            tx.save_build(new)  # type: ignore[arg-type]

    newer = msgspec.structs.replace(row, version=99)
    replaced(row, newer)
    with kept(engine, lambda name, error: told.append((name, type(error).__name__))):
        eventually(lambda: level(engine, "contact_history", "step_funnel") and bool(told))
        time.sleep(0.1)
        assert told == [("audit_trail", ProjectionUnavailable.__name__)], "told once"
        replaced(newer, row)
        eventually(lambda: level(engine))
        replaced(engine_row(engine, "audit_trail"), newer)
        eventually(lambda: len(told) == 2)


def engine_row(engine: Engine, name: str) -> object:
    return next(each for each in views_of(engine).standing().builds if each.name == name)
