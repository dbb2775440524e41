"""What the served version lacks is folded in pieces, between which writers get their turn."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from dee_es import Engine
from dee_es.engine.projecting import pace, projector
from dee_es.engine.projecting.models import RebuildProgress
from tests.support.engines import outreach
from tests.support.runs.busy import person
from tests.support.versions.code import views_of
from tests.support.versions.rebuilding import Place


@pytest.mark.parametrize("work", ["rebuild", "verify"])
@pytest.mark.parametrize("throttle", [1.0, 0.9])
def test_what_the_served_version_lacks_is_folded_in_pieces_that_are_told(
    place: Place, engine: Engine, work: str, throttle: float
) -> None:
    """Nobody may have read it for a long time, and each piece holds up those who write."""
    head = engine.health().position
    told: list[RebuildProgress] = []
    act = getattr(engine.projections, work)
    act("audit_trail", page=100, throttle=throttle, on_progress=told.append)
    pieces = [each.done for each in told if each.phase == "catching up"]
    assert len(pieces) >= head // 100
    assert pieces == sorted(pieces)
    assert (pieces[0], pieces[-1]) == (100 if throttle == 1 else pieces[0], head)
    assert {each.total for each in told if each.phase == "catching up"} == {head}


def test_writers_get_their_turn_while_what_is_served_catches_up(
    place: Place, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a rebuild that rests nowhere else: SQLite gives a lock to whoever happens to ask.
    PostgreSQL keeps a queue."""
    rests: dict[str, int] = {}
    phase = "reading"

    def rest(seconds: float) -> None:
        rests[phase] = rests.get(phase, 0) + 1

    def tell(progress: RebuildProgress) -> None:
        nonlocal phase
        phase = progress.phase

    monkeypatch.setattr(pace, "time", SimpleNamespace(perf_counter=time.perf_counter, sleep=rest))
    engine.projections.rebuild("audit_trail", page=100, on_progress=tell)
    turns = engine.health().position // 100 - 1
    assert (rests.get("catching up", 0) >= turns) == (not views_of(engine).queues)


def test_writers_get_their_turn_while_a_query_catches_up(
    place: Place, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody may have asked for a long time; who asks often waits for nobody."""
    rests: list[float] = []
    clock = SimpleNamespace(perf_counter=time.perf_counter, sleep=rests.append)
    monkeypatch.setattr(pace, "time", clock)
    pieces = -(-engine.health().position // projector.PIECE)
    assert pieces > 1
    engine.audit.query(limit=1)
    assert len(rests) == (0 if views_of(engine).queues else pieces - 1)
    rests.clear()
    engine.execute(outreach(), contact=person(10**8))
    engine.audit.query(limit=1)
    assert not rests
