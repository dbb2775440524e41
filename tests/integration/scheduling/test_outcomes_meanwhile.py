"""Somebody changes a run while its message is under way: what came of that is recorded all the
same, behind whatever happened to the run meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dee_es.engine.log.settling import ATTEMPTS
from dee_es.errors import ConcurrencyConflict
from tests.support.engines import assert_replays, outreach, people
from tests.support.meanwhile import Two


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    with ExitStack() as stack:
        yield Two(tmp_path, stack)


def change_before_each(two: Two, run_id: str, times: int) -> None:
    """Have the other one pause the run, and resume it again, just before each of the first commits
    of outcomes."""
    store: Any = two.mine._parts.store
    left = [times]

    def behind_a_change(real: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*given: Any, **more: Any) -> Any:
            if more.get("lease") is None and left[0] > 0:
                left[0] -= 1
                if two.other.get_run(run_id).status == "paused":
                    two.other.resume_run(run_id)
                else:
                    two.other.pause_run(run_id)
            return real(*given, **more)

        return asked

    store.commit, store.decide = behind_a_change(store.commit), behind_a_change(store.decide)


def test_an_outcome_is_recorded_at_the_last_attempt(two: Two) -> None:
    run = two.mine.execute(outreach(), people(1)[0])
    change_before_each(two, run.id, ATTEMPTS - 1)
    two.mine.tick()
    assert "StepCompleted" in two.names(run.id)
    assert two.sent(run.id) == 1
    assert_replays(two.mine)


def test_one_that_cannot_be_recorded_yet_is_recorded_in_the_next_tick(two: Two) -> None:
    run = two.mine.execute(outreach(), people(1)[0])
    # It is tried again as the tick is broken off.
    change_before_each(two, run.id, 2 * ATTEMPTS)
    with pytest.raises(ConcurrencyConflict, match="1 outcomes could not be recorded yet"):
        two.mine.tick()
    assert "StepCompleted" not in two.names(run.id)
    two.mine.tick()
    assert "StepCompleted" in two.names(run.id)
    assert two.sent(run.id) == 1
    assert_replays(two.mine)
