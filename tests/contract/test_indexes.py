"""The small indexes written with the log: contact keys, suppressions and their guard, event ids."""

from __future__ import annotations

import random
from collections.abc import Sequence
from importlib import import_module
from typing import TypeVar

import pytest
from msgspec.structs import replace

from dee_es.adapters.storage.memory import open_memory
from dee_es.ports import Conflict, EventStore, Suppression, SuppressionGuard, Unit
from tests.support.counts import count
from tests.support.storage.backends import Backend
from tests.support.storage.events import committed_at, consent, index_unit, run, unit, use

T = TypeVar("T")

KEY, OTHER_KEY = b"\x00\xff" * 8, b"b" * 16
JANE = Suppression("id:jane", "global", "", "jane")
JANE_MAIL = Suppression("email:" + "a" * 64, "channel", "email", "jane")
JANE_PLAN = Suppression("id:jane", "plan", "welcome", "jane")


def suppressed(store: EventStore, *subjects: str) -> set[tuple[str, str, str, str]]:
    """What the store says about these subjects, as plain values."""
    rows = store.suppressions(subjects)
    assert len(rows) == len(set(rows))
    return {(r.subject, r.level, r.scope, r.contact_id) for r in rows}


def values(*rows: Suppression) -> set[tuple[str, str, str, str]]:
    return {(r.subject, r.level, r.scope, r.contact_id) for r in rows}


# --- keys ---------------------------------------------------------------------------------------


def test_a_contact_keeps_its_first_key(store: EventStore) -> None:
    assert store.contact_keys(["jane"]) == {}
    assert store.commit([unit(run(1), contact_keys=(("jane", KEY),))]) == [committed_at(1)]
    assert store.commit([unit(run(2), contact_keys=(("jane", KEY),))]) == [committed_at(2)]
    assert store.commit([unit(run(3), contact_keys=(("jane", OTHER_KEY),))]) == [
        Conflict("key", "jane")
    ]
    assert store.contact_keys(["jane", "john"]) == {"jane": KEY}
    assert store.contact_keys([]) == {}
    assert store.contact_key_page("", 10) == [("jane", KEY)]
    assert store.heads([run(3)]) == {}


def test_of_two_new_keys_in_one_commit_the_first_wins(store: EventStore) -> None:
    outcomes = store.commit(
        [
            unit(run(1), contact_keys=(("jane", KEY), ("john", KEY))),
            unit(run(2), contact_keys=(("joan", KEY), ("jane", OTHER_KEY))),
            unit(run(3), contact_keys=(("jane", KEY),)),
        ]
    )
    assert outcomes == [committed_at(1), Conflict("key", "jane"), committed_at(2)]
    assert store.contact_keys(["jane", "john", "joan"]) == {"jane": KEY, "john": KEY}
    assert store.contact_key_page("", 1) == [("jane", KEY)]
    assert store.contact_key_page("jane", 10) == [("john", KEY)]
    assert store.contact_key_page("john", 10) == []


def test_one_unit_cannot_bring_two_keys_for_one_contact(store: EventStore) -> None:
    torn = unit(run(1), contact_keys=(("jane", KEY), ("jane", OTHER_KEY)))
    assert store.commit([torn]) == [Conflict("key", "jane")]
    assert store.contact_keys(["jane"]) == {}


# --- suppressions -------------------------------------------------------------------------------


def test_suppressions_are_kept_by_subject_level_and_scope(store: EventStore) -> None:
    store.commit([unit("contact:jane", suppress=(JANE, JANE_MAIL, JANE_PLAN))])
    assert suppressed(store, "id:jane") == values(JANE, JANE_PLAN)
    assert suppressed(store, "id:jane", "id:john", JANE_MAIL.subject) == values(
        JANE, JANE_MAIL, JANE_PLAN
    )
    assert store.suppressions(["id:john"]) == []
    assert store.suppressions([]) == []


def test_each_contact_is_on_the_list_on_its_own_account(store: EventStore) -> None:
    """One address that two contacts were suppressed with: lifting the one leaves the other."""
    store.commit([unit("contact:jane", suppress=(JANE_MAIL,))])
    store.commit([unit("contact:jane", 1, suppress=(JANE_MAIL,))])
    other = replace(JANE_MAIL, contact_id="duplicate")
    store.commit([unit("contact:duplicate", suppress=(other,))])
    assert suppressed(store, JANE_MAIL.subject) == values(JANE_MAIL, other)
    guard = SuppressionGuard((JANE_MAIL.subject,), 2)
    store.commit([unit("contact:jane", 2, unsuppress=(JANE_MAIL,))])
    assert suppressed(store, JANE_MAIL.subject) == values(other)
    assert store.commit([unit(run(), guard=guard)]) == [Conflict("suppression", JANE_MAIL.subject)]
    outcomes = store.commit(
        [
            unit("contact:jane", 3, suppress=(JANE_MAIL,)),
            unit("contact:duplicate", 1, unsuppress=(other,)),
            unit(run(), guard=replace(guard, epoch=4)),
        ]
    )
    assert outcomes[-1] == Conflict("suppression", JANE_MAIL.subject)
    assert suppressed(store, JANE_MAIL.subject) == values(JANE_MAIL)


def test_only_the_suppression_that_is_named_is_lifted(store: EventStore) -> None:
    """Each of the others differs from it in one thing."""
    others = (
        replace(JANE, subject="id:duplicate"),
        replace(JANE, level="regulatory"),
        replace(JANE, scope="other"),
        replace(JANE, contact_id="duplicate"),
    )
    store.commit([unit("contact:jane", suppress=(JANE, *others))])
    subjects = ("id:jane", "id:duplicate")
    assert suppressed(store, *subjects) == values(JANE, *others)
    store.commit([unit("contact:jane", 1, unsuppress=(JANE,))])
    assert suppressed(store, *subjects) == values(*others)


@pytest.mark.parametrize("limit", [1, 2, 10])
def test_the_whole_list_is_gone_through_in_order(store: EventStore, limit: int) -> None:
    others = [replace(JANE, contact_id="john"), replace(JANE, subject="id:Zoe")]
    given = [JANE, JANE_MAIL, JANE_PLAN, *others]
    store.commit([index_unit(suppress=tuple(given))])
    found: list[Suppression] = []
    while page := store.suppression_page(found[-1] if found else None, limit):
        assert len(page) <= limit
        found += page
    assert found == [JANE_MAIL, others[1], JANE, others[0], JANE_PLAN]


def test_a_list_from_before_keeps_what_is_on_it(
    bare_backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    opener = import_module(f"dee_es.adapters.storage.{bare_backend.kind}.store")
    with monkeypatch.context() as before:
        before.setattr(opener, "MIGRATIONS", opener.MIGRATIONS[:6])
        bare_backend.open()[0].close()
    bare_backend.raw(
        "INSERT INTO suppressions (subject, level, scope, contact_id, epoch) "
        f"VALUES ('{JANE_MAIL.subject}', 'channel', 'email', 'jane', 1)"
    )
    store, _ = bare_backend.open()
    other = replace(JANE_MAIL, contact_id="duplicate")
    store.commit([unit("contact:duplicate", suppress=(other,))])
    assert suppressed(store, JANE_MAIL.subject) == values(JANE_MAIL, other)


def test_only_the_suppression_named_is_lifted(store: EventStore) -> None:
    store.commit([unit("contact:jane", suppress=(JANE, JANE_PLAN))])
    store.commit([unit("contact:jane", 1, unsuppress=(JANE, JANE_MAIL))])
    assert suppressed(store, "id:jane", JANE_MAIL.subject) == values(JANE_PLAN)
    store.commit([unit("contact:jane", 2, suppress=(JANE,))])
    assert suppressed(store, "id:jane") == values(JANE, JANE_PLAN)


def test_units_of_one_commit_suppress_and_lift_in_order(store: EventStore) -> None:
    store.commit(
        [
            index_unit(suppress=(JANE,)),
            index_unit(unsuppress=(JANE,)),
            index_unit(suppress=(JANE_PLAN,)),
            index_unit(unsuppress=(JANE_PLAN,)),
            index_unit(suppress=(JANE_PLAN,)),
        ]
    )
    assert suppressed(store, "id:jane") == values(JANE_PLAN)
    assert store.log_head().suppression_epoch == 5


def test_the_epoch_grows_by_one_with_each_unit_that_changes_any(store: EventStore) -> None:
    store.commit([unit(run())])
    assert store.log_head().suppression_epoch == 0
    store.commit([index_unit(suppress=(JANE, JANE_MAIL, JANE_PLAN))])
    assert store.log_head().suppression_epoch == 1
    store.commit([index_unit(suppress=(JANE,)), unit(run(2)), index_unit(unsuppress=(JANE,))])
    assert store.log_head().suppression_epoch == 3
    store.commit([unit(run(), suppress=(JANE,))])
    assert store.log_head().suppression_epoch == 3, "a refused unit raises nothing"
    assert store.suppressions(["id:jane"]) == store.suppressions(["id:jane"])


# --- the guard ----------------------------------------------------------------------------------


def test_a_decision_from_before_a_suppression_is_refused(store: EventStore) -> None:
    before = store.log_head().suppression_epoch
    store.commit([index_unit(suppress=(JANE,))])
    guard = SuppressionGuard(("id:john", "id:jane"), before)
    assert store.commit([unit(run(), guard=guard)]) == [Conflict("suppression", "id:jane")]
    assert store.heads([run()]) == {}


def test_a_guard_is_only_about_its_own_subjects(store: EventStore) -> None:
    store.commit([index_unit(suppress=(JANE,))])
    guard = SuppressionGuard(("id:john", "phone:" + "0" * 64), 0)
    assert store.commit([unit(run(), guard=guard)]) == [committed_at(1)]
    assert store.commit([unit(run(2), guard=SuppressionGuard((), 0))]) == [committed_at(2)]


def test_a_decision_that_knew_of_the_suppression_stands(store: EventStore) -> None:
    store.commit([index_unit(suppress=(JANE,))])
    known = store.log_head().suppression_epoch
    store.commit([index_unit(suppress=(JANE_MAIL,))])
    guard = SuppressionGuard(("id:jane",), known)
    assert store.commit([unit(run(), guard=guard)]) == [committed_at(1)]


def test_suppressing_again_renews_the_epoch_of_the_subject(store: EventStore) -> None:
    store.commit([index_unit(suppress=(JANE,))])
    known = store.log_head().suppression_epoch
    store.commit([index_unit(suppress=(JANE_PLAN,))])
    guard = SuppressionGuard(("id:jane",), known)
    assert store.commit([unit(run(), guard=guard)]) == [Conflict("suppression", "id:jane")]


def test_a_lifted_suppression_refuses_nobody(store: EventStore) -> None:
    store.commit([index_unit(suppress=(JANE,))])
    store.commit([index_unit(unsuppress=(JANE,))])
    assert store.commit([unit(run(), guard=SuppressionGuard(("id:jane",), 0))]) == [committed_at(1)]


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_guard_sees_suppressions_of_the_same_commit(store: EventStore, epoch: int) -> None:
    if epoch:
        store.commit([index_unit(suppress=(JANE_MAIL,))])
    guard = SuppressionGuard(("id:jane",), epoch)
    outcomes = store.commit(
        [unit(run(1), guard=guard), index_unit(suppress=(JANE,)), unit(run(2), guard=guard)]
    )
    assert outcomes == [committed_at(1), committed_at(0), Conflict("suppression", "id:jane")]


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_guard_does_not_see_what_the_same_commit_lifted(store: EventStore, epoch: int) -> None:
    """Neither what was stored before nor what came and went within the commit."""
    if epoch:
        store.commit([index_unit(suppress=(JANE_MAIL,))])
    guard = SuppressionGuard((JANE_MAIL.subject, "id:jane"), 0)
    outcomes = store.commit(
        [
            index_unit(unsuppress=(JANE_MAIL,)),
            unit(run(1), guard=guard),
            index_unit(suppress=(JANE, JANE_PLAN)),
            index_unit(unsuppress=(JANE,)),
            unit(run(2), guard=guard),
            index_unit(unsuppress=(JANE_PLAN,)),
            unit(run(2), guard=guard),
        ]
    )
    assert [outcomes[n] for n in (1, 4, 6)] == [
        committed_at(1),
        Conflict("suppression", "id:jane"),
        committed_at(2),
    ]


def test_a_refused_unit_lifts_nothing_for_later_guards(store: EventStore) -> None:
    store.commit([unit(run(1)), index_unit(suppress=(JANE,))])
    guard = SuppressionGuard(("id:jane",), 0)
    outcomes = store.commit([unit(run(1), unsuppress=(JANE,)), unit(run(2), guard=guard)])
    assert outcomes == [Conflict("version", run(1)), Conflict("suppression", "id:jane")]


# --- event ids ----------------------------------------------------------------------------------


def test_an_event_id_is_accepted_once(store: EventStore) -> None:
    assert store.commit([unit(run(1), event_ids=("e1", "e2"))]) == [committed_at(1)]
    assert store.commit([unit(run(2), event_ids=("e3", "e2"))]) == [Conflict("event_id", "e2")]
    assert store.known_event_ids(["e1", "e2", "e3", "e4"]) == {"e1", "e2"}
    assert store.known_event_ids([]) == set()
    assert store.commit([unit(run(2), event_ids=("e3",))]) == [committed_at(2)]


@pytest.mark.parametrize("limit", [1, 2, 10])
def test_all_event_ids_are_gone_through_in_order(store: EventStore, limit: int) -> None:
    given = ["A", "a", "b", "é"]
    store.commit([unit(run(1), event_ids=tuple(reversed(given)))])
    found, last = [], ""
    while page := store.event_id_page(last, limit):
        assert len(page) <= limit
        found += page
        last = page[-1]
    assert found == given


def test_of_two_units_with_one_event_id_the_first_wins(store: EventStore) -> None:
    outcomes = store.commit([unit(run(1), event_ids=("e",)), unit(run(2), event_ids=("e",))])
    assert outcomes == [committed_at(1), Conflict("event_id", "e")]


# --- all of them together -------------------------------------------------------------------------

SUBJECTS = ("id:jane", "id:joan", JANE_MAIL.subject)


def some_unit(chance: random.Random, number: int, epoch: int) -> Unit:
    """A unit that changes, guards and counts this and that, about few subjects and counters."""
    rows = [JANE, JANE_MAIL, JANE_PLAN, Suppression("id:joan", "global", "", "joan")]
    given = [
        consent(name, channel, chance.choice(["granted", "revoked"]), number)
        for name in ("jane", "joan")
        for channel in ("email", "voice")
    ]
    counters = [use(f"k{chance.randrange(3)}", chance.choice([None, 3, 9])) for _ in range(2)]
    guard = SuppressionGuard(tuple(chance.sample(SUBJECTS, 2)), chance.randrange(epoch + 2))

    def maybe(values: Sequence[T], likely: float) -> tuple[T, ...]:
        return tuple(chance.sample(values, 1 + chance.randrange(2)) * (chance.random() < likely))

    return index_unit(
        suppress=maybe(rows, 0.3),
        unsuppress=maybe(rows, 0.3),
        consents=maybe(given, 0.2),
        counters=maybe(counters, 0.4),
        event_ids=maybe([f"e{chance.randrange(60)}", f"f{number}"], 0.3),
        guard=guard if chance.random() < 0.5 else None,
    )


@pytest.mark.parametrize("seed", range(count(4, 60)))
def test_every_database_decides_as_memory_does(disk_backend: Backend, seed: int) -> None:
    chance = random.Random(seed)
    store, model = disk_backend.open()[0], open_memory()[0]
    for number in range(25):
        epoch = model.log_head().suppression_epoch
        units = [some_unit(chance, number, epoch) for _ in range(chance.randrange(1, 7))]
        assert store.commit(units) == model.commit(units)
    assert store.log_head() == model.log_head()
    assert suppressed(store, *SUBJECTS) == suppressed(model, *SUBJECTS)
    assert store.consents(["jane", "joan"]) == model.consents(["jane", "joan"])
    wanted = [(f"k{number}", 1) for number in range(3)]
    assert store.counters(wanted) == model.counters(wanted)
