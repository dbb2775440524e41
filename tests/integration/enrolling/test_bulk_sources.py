"""Where the contacts of a bulk enrolment come from may take its time, fail, or use the engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dee_es import Engine
from dee_es.ports import beside
from tests.support.engines import (
    BACKENDS,
    assert_replays,
    database_url,
    open_engine,
    outreach,
    publish_basics,
)

BATCH = 3
COUNT = 14


@pytest.fixture(params=BACKENDS)
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> Iterator[Engine]:
    with open_engine(database_url(request.param, tmp_path, fresh_postgres)) as made:
        publish_basics(made)
        yield made


def person(number: int) -> dict[str, str]:
    return {"id": f"c{number:02}", "email": f"c{number:02}@example.com", "firstName": "N"}


def test_nothing_is_under_way_while_the_next_contact_is_asked_for(engine: Engine) -> None:
    """Whoever gives them may do anything meanwhile, with this engine, too."""

    def people() -> Iterator[dict[str, str]]:
        for number in range(COUNT):
            assert not beside.takes_turns()
            engine.suppress(email=f"other{number}@example.com")
            yield person(number)

    result = engine.bulk_execute(outreach(), people(), batch_size=BATCH)
    assert (result.created, result.skipped, result.errors) == (COUNT, 0, 0)
    assert_replays(engine)


def test_contacts_that_come_slowly_need_not_wait_for_the_next(engine: Engine) -> None:
    seen: list[tuple[int, int]] = []

    def people() -> Iterator[dict[str, str]]:
        for number in range(COUNT):
            if number % BATCH == 0:
                seen.append((number, engine.list_runs(limit=1).total))
                time.sleep(0.06)
            yield person(number)

    told: list[int] = []
    engine.bulk_execute(
        outreach(), people(), batch_size=BATCH, on_progress=lambda done: told.append(done.created)
    )
    assert seen == [(number, number) for number in range(0, COUNT, BATCH)]
    assert told == [3, 6, 9, 12, 14]


def test_what_was_given_before_the_source_failed_is_enrolled(engine: Engine) -> None:
    def people() -> Iterator[dict[str, str]]:
        yield from map(person, range(2 * BATCH + 1))
        raise LookupError("the file ends in the middle")

    with pytest.raises(LookupError, match="in the middle"):
        engine.bulk_execute(outreach(), people(), batch_size=BATCH)
    assert engine.list_runs(limit=1).total == 2 * BATCH


def test_progress_is_told_of_every_part(engine: Engine) -> None:
    told: list[int] = []
    engine.bulk_execute(
        outreach(),
        map(person, range(COUNT)),
        batch_size=BATCH,
        on_progress=lambda done: told.append(done.created),
    )
    assert told == [3, 6, 9, 12, 14]
