"""The same enrolment again, by its command id: nobody is enrolled twice, whatever came between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dee_es import Engine
from dee_es.errors import InvalidInput
from tests.support.engines import (
    BACKENDS,
    DAY,
    EPOCH,
    database_url,
    open_engine,
    outreach,
    publish_basics,
)

JANE: dict[str, Any] = {"id": "jane", "email": "jane@example.com", "firstName": "Jane"}
PEOPLE = [{"id": f"c{n}", "email": f"c{n}@example.com", "firstName": "N"} for n in range(6)]


@pytest.fixture(params=BACKENDS)
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> Iterator[Engine]:
    """An engine on each backend."""
    with open_engine(database_url(request.param, tmp_path, fresh_postgres)) as engine:
        publish_basics(engine)
        yield engine


def test_a_run_that_has_ended_meanwhile_is_given_again(engine: Engine) -> None:
    first = engine.execute(outreach(), JANE, command_id="order-1")
    engine.cancel_run(first.id, "over")
    again = engine.execute(outreach(), JANE, command_id="order-1")
    assert (again.id, again.status) == (first.id, "cancelled")
    assert engine.list_runs().total == 1


def test_a_run_that_others_have_followed_is_given_again(engine: Engine) -> None:
    first = engine.execute(outreach(), JANE, command_id="order-1")
    engine.cancel_run(first.id, "over")
    second = engine.execute(outreach(), JANE, command_id="order-2")
    assert engine.execute(outreach(), JANE, command_id="order-1").id == first.id
    engine.cancel_run(second.id, "over")
    assert engine.execute(outreach(), JANE, command_id="order-1").id == first.id
    assert engine.execute(outreach(), JANE, command_id="order-2").id == second.id
    assert engine.list_runs().total == 2


def test_a_run_is_given_again_although_its_contact_is_suppressed_now(engine: Engine) -> None:
    first = engine.execute(outreach(), JANE, command_id="order-1")
    engine.cancel_run(first.id, "over")
    engine.suppress("jane", reason="asked us to stop")
    assert engine.execute(outreach(), JANE, command_id="order-1").id == first.id


def test_a_run_is_given_again_although_its_start_has_passed(engine: Engine) -> None:
    start = EPOCH + timedelta(days=1)
    first = engine.execute(outreach(), JANE, start_at=start, command_id="order-1")
    engine.run_until(2 * DAY)
    again = engine.execute(outreach(), JANE, start_at=start, command_id="order-1")
    assert again.id == first.id
    for command_id, who in (("order-1", "joan"), ("order-2", "jane")):
        with pytest.raises(InvalidInput, match="start_at"):
            engine.execute(outreach(), {"id": who}, start_at=start, command_id=command_id)


def test_another_command_enrolls_anew(engine: Engine) -> None:
    first = engine.execute(outreach(), JANE, command_id="order-1")
    engine.cancel_run(first.id, "over")
    assert engine.execute(outreach(), JANE, command_id="order-2").id != first.id


def test_many_are_enrolled_once_although_some_runs_have_ended(engine: Engine) -> None:
    once = engine.bulk_execute(outreach(), PEOPLE[:4], batch_size=2, command_id="call-1")
    engine.bulk_cancel({"contact_id": "c1"}, "over")
    again = engine.bulk_execute(outreach(), PEOPLE, batch_size=2, command_id="call-1")
    assert (once.created, again.created, again.skipped) == (4, 6, 0)
    assert engine.list_runs().total == 6
    assert engine.bulk_execute(outreach(), PEOPLE, command_id="call-2").created == 1


def test_counts_add_up_when_a_call_is_repeated_with_contacts_given_twice(engine: Engine) -> None:
    given = [PEOPLE[0], PEOPLE[0], PEOPLE[1], PEOPLE[0]]
    engine.bulk_execute(outreach(), given, command_id="call-1")
    again = engine.bulk_execute(outreach(), given, command_id="call-1")
    assert (again.created, again.skipped, again.errors) == (2, 2, 0)
    assert engine.list_runs().total == 2


def test_whoever_is_given_twice_and_has_ended_is_still_one(engine: Engine) -> None:
    given = [PEOPLE[0], PEOPLE[1], PEOPLE[0]]
    engine.bulk_execute(outreach(), given, command_id="call-1")
    engine.bulk_cancel({"contact_id": "c0"}, "over")
    again = engine.bulk_execute(outreach(), given, command_id="call-1")
    assert (again.created, again.skipped, again.errors) == (2, 1, 0)
    assert [refusal.contact_id for refusal in again.refusals] == ["c0"]
    assert engine.list_runs().total == 2
