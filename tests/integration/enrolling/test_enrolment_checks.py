"""What an enrolment is refused for is found out before anything is written, contact by contact, and
a dry run finds it out as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from dee_es import Contact, Engine, ExecutionPlan, create_plan, steps
from dee_es.core.values import MAX_PAYLOAD_BYTES
from dee_es.engine.models import BulkResult, Refusal
from dee_es.errors import (
    AlreadyEnrolled,
    ContactSuppressed,
    DeeError,
    InvalidInput,
    PlanValidationError,
)
from tests.support.engines import (
    BACKENDS,
    assert_replays,
    database_url,
    open_engine,
    outreach,
    publish_basics,
)

LONG = {"x": "x" * 200_000, "y": "y" * 100_000}
"""Attributes of which each could be stored."""
PASSED = datetime.fromisoformat("2020-01-01T00:00Z")


@pytest.fixture(params=BACKENDS)
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> Iterator[Engine]:
    with open_engine(database_url(request.param, tmp_path, fresh_postgres)) as opened:
        publish_basics(opened)
        yield opened


def counts(result: BulkResult) -> tuple[int, int, int]:
    return result.created, result.skipped, result.errors


def refused(result: BulkResult) -> list[tuple[str, str]]:
    return sorted((str(each.contact_id), each.reason) for each in result.refusals)


def in_bulk(
    engine: Engine, plan: ExecutionPlan, contacts: list[Any], **given: Any
) -> tuple[tuple[int, int, int], list[Refusal]]:
    """What a call comes to, which its dry run had foretold and the same call again confirms."""
    position = engine.health().position
    foretold = engine.bulk_execute(plan, contacts, dry_run=True, **given)
    assert engine.health().position == position
    done = engine.bulk_execute(plan, contacts, **given)
    assert counts(foretold) == counts(done)
    assert refused(foretold) == refused(done)
    assert sum(counts(done)) == len(contacts)
    assert engine.bulk_execute(plan, contacts, **given).created == 0
    return counts(done), done.refusals


def unchanged(engine: Engine, refused: Callable[[], object], error: type[DeeError]) -> str:
    """What is said by something that is refused and writes nothing."""
    position = engine.health().position
    with pytest.raises(error) as caught:
        refused()
    assert type(caught.value) is error
    assert engine.health().position == position
    return str(caught.value)


# --- contacts that are too large ----------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_a_contact_that_is_too_large_does_not_stop_the_others(
    engine: Engine, batch_size: int
) -> None:
    contacts = [{"id": "a1"}, {"id": "a2", **LONG}, {"id": "a3"}]
    done, (refusal,) = in_bulk(engine, outreach(), contacts, batch_size=batch_size)
    assert done == (2, 0, 1)
    assert (refusal.contact_id, refusal.reason) == ("a2", "invalid")
    assert "contact payload: 300" in refusal.detail
    assert f"more than the {MAX_PAYLOAD_BYTES} allowed" in refusal.detail
    assert {run.contact_id for run in engine.list_runs().runs} == {"a1", "a3"}
    assert_replays(engine)


def test_of_a_contact_given_twice_the_one_that_can_be_kept_counts(engine: Engine) -> None:
    """As it does in batches of their own."""
    twice = [{"id": "a", **LONG}, {"id": "a"}, {"id": "a"}, {"id": "b", **LONG}]
    for plan_id, batch_size in (("one", 1), ("all", 10)):
        done, _ = in_bulk(engine, outreach(plan_id), twice, batch_size=batch_size)
        assert done == (1, 1, 2)


def test_what_is_refused_for_other_reasons_is_not_measured(engine: Engine) -> None:
    plan = outreach()
    engine.execute(plan, {"id": "a"})
    engine.suppress("b")
    done, _ = in_bulk(engine, plan, [{"id": "a", **LONG}, {"id": "b", **LONG}, {"id": "c"}])
    assert done == (1, 2, 0)


def test_processes_that_share_an_enrolment_refuse_as_one_does(engine: Engine) -> None:
    contacts = [{"id": f"c{n}", **(LONG if n % 10 == 3 else {})} for n in range(40)]
    done = engine.bulk_execute(outreach(), contacts, batch_size=7, workers=2)
    assert counts(done) == (36, 0, 4)
    assert [each.contact_id for each in done.refusals] == ["c3", "c13", "c23", "c33"]


@pytest.mark.parametrize("length", range(261_650, 262_150, 100))
def test_whoever_has_no_room_beside_the_rest_of_the_event_leaves_no_trace(length: int) -> None:
    with open_engine(":memory:") as engine:
        publish_basics(engine)
        person = Contact(id="a", attributes={"x": "x" * length})
        (fits, _, _), _ = in_bulk(engine, outreach("other"), [person])
        assert fits == (length < 261_800)
        if fits:
            assert engine.replay(engine.execute(outreach(), person).id).identical
        else:
            said = unchanged(engine, lambda: engine.execute(outreach(), person), InvalidInput)
            assert said.startswith("contact payload: 26")


def test_variables_that_leave_nobody_room_are_refused_as_such(engine: Engine) -> None:
    large = {"a": "x" * 200_000, "b": "x" * 100_000}
    for dry_run in (False, True):
        said = unchanged(
            engine,
            lambda dry_run=dry_run: engine.bulk_execute(  # type: ignore[misc]
                outreach(), [{"id": "a"}], large, dry_run=dry_run
            ),
            InvalidInput,
        )
        assert said.startswith("variables: 300")
    assert "payload" in unchanged(
        engine, lambda: engine.execute(outreach(), {"id": "a"}, large), InvalidInput
    )
    # What leaves some room is for those whom it is enough for.
    contacts = [{"id": "a", "x": "x" * 100_000}, {"id": "b"}]
    done, (refusal,) = in_bulk(engine, outreach(), contacts, variables={"a": "x" * 200_000})
    assert (done, refusal.contact_id) == ((1, 0, 1), "a")


# --- dry runs -----------------------------------------------------------------------------------


def lost() -> ExecutionPlan:
    """A plan that refers to what nobody has published."""
    return create_plan(id="lost", name="Lost", steps=[steps.send_email("m", "nowhere", "Hi")])


def vast() -> ExecutionPlan:
    """A plan that is too large to be stored."""
    mails = [steps.send_email(f"m{n}", "intro", "x" * 400) for n in range(900)]
    return create_plan(id="vast", name="Vast", steps=mails)


@pytest.mark.parametrize(
    "plan, variables, error",
    [
        (lost(), None, PlanValidationError),
        (vast(), None, InvalidInput),
        (outreach(), {"a": float("nan")}, InvalidInput),
        (outreach(), 5, InvalidInput),
    ],
)
def test_a_dry_run_refuses_what_the_call_refuses(
    engine: Engine, plan: ExecutionPlan, variables: Any, error: type[DeeError]
) -> None:
    said = [
        unchanged(
            engine,
            lambda dry_run=dry_run: engine.bulk_execute(  # type: ignore[misc]
                plan, [{"id": "a"}], variables, dry_run=dry_run
            ),
            error,
        )
        for dry_run in (True, False)
    ]
    assert said[0] == said[1]
    unchanged(engine, lambda: engine.execute(plan, {"id": "a"}, variables), error)


# --- nothing is published for who is refused ------------------------------------------------------


def test_who_is_refused_has_no_plan_published(engine: Engine) -> None:
    engine.execute(outreach(), {"id": "a"})
    changed = outreach(name="Changed")
    engine.suppress("b")
    for contact, start, error in (
        ({"id": "c"}, PASSED, InvalidInput),
        ({"id": "c", **LONG}, None, InvalidInput),
        ({"id": "a"}, None, AlreadyEnrolled),
    ):
        unchanged(
            engine,
            lambda contact=contact, start=start: engine.execute(  # type: ignore[misc]
                changed, contact, start_at=start
            ),
            error,
        )
    position = engine.health().position
    for _ in range(2):
        with pytest.raises(ContactSuppressed):
            engine.execute(changed, {"id": "b"})
    assert engine.health().position == position + 1, "the refusal is recorded, and once"
    assert engine.get_plan("outreach").version == 1
    assert engine.execute(changed, {"id": "c"}).plan_version == 2


def test_a_start_that_has_passed_elsewhere_publishes_nothing(tmp_path: Path) -> None:
    """Whoever has not looked at the log's clock for a while does so before it publishes."""
    url, keys = f"sqlite:///{tmp_path / 'dee.db'}", tmp_path / "keys.db"
    with open_engine(url, keys=keys) as one, open_engine(url, keys=keys) as other:
        publish_basics(one)
        start = one.now().now
        other.run_until(500)
        said = unchanged(
            other,
            lambda: one.execute(outreach(), {"id": "a"}, start_at=start),
            InvalidInput,
        )
        assert said.startswith("start_at: ")


def test_an_enrolment_repeated_by_its_command_is_not_refused(engine: Engine) -> None:
    first = engine.execute(outreach(), {"id": "a"}, command_id="order-1")
    changed = outreach(name="Changed")
    assert engine.execute(changed, {"id": "a"}, command_id="order-1").id == first.id
    engine.suppress("a")
    assert engine.execute(outreach(name="3"), {"id": "a"}, command_id="order-1").id == first.id


def test_an_enrolment_can_be_checked_before_its_plan_is_complete(engine: Engine) -> None:
    """Who publishes what a plan refers to asks first; that the rest is missing is no fault yet."""
    plan = lost()
    before = engine.health().position
    engine.check_execute(plan, {"id": "a"})
    assert engine.health().position == before
    late = {"start_at": PASSED}
    for contact, given in (({"id": "a"}, late), ({"id": "a", **LONG}, {}), ({"id": "a b"}, {})):
        unchanged(
            engine,
            lambda contact=contact, given=given: engine.check_execute(  # type: ignore[misc]
                plan, contact, **given
            ),
            InvalidInput,
        )
    assert counts(engine.bulk_execute(plan, [{"id": "a"}], dry_run=True, bundled=True)) == (1, 0, 0)


# --- in which order -------------------------------------------------------------------------------


def test_within_a_batch_runs_are_in_the_order_of_their_ids(engine: Engine) -> None:
    contacts = [{"id": f"c{n}"} for n in range(30)]
    engine.bulk_execute(outreach(), contacts, batch_size=10)
    runs = sorted(engine.list_runs(limit=50).runs, key=lambda run: run.ordinal)
    for begin in range(0, 30, 10):
        batch = runs[begin : begin + 10]
        assert {run.contact_id for run in batch} == {f"c{n}" for n in range(begin, begin + 10)}
        assert [run.id for run in batch] == sorted(run.id for run in batch)
