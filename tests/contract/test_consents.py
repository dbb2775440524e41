"""Consents: the last word of a contact about a channel, and guards against its changing."""

from __future__ import annotations

import pytest

from dee_es.ports import Committed, Conflict, EventStore, Suppression, SuppressionGuard
from tests.support.storage.backends import Backend
from tests.support.storage.events import committed_at, consent, index_unit, run, unit

JANE = SuppressionGuard(("email:" + "a" * 64, "id:jane"), 0)
REFUSED = Conflict("suppression", "id:jane")


def test_consents_are_kept_by_contact_and_channel(store: EventStore) -> None:
    assert store.consents(["jane"]) == []
    given = (
        consent("jane", "voice", since_tick=3, expires_tick=9),
        consent("jane", "email", "revoked", 2**53),
        consent("Joan", expires_tick=2**53),
        consent("jöan", expires_tick=0),
    )
    assert store.commit([unit("contact:jane", consents=given)]) == [committed_at(1)]
    assert store.consents(["jöan", "none", "jane", "Joan", "jane"]) == [
        given[2],
        given[1],
        given[0],
        given[3],
    ]
    assert store.consents(["id:jane", ""]) == []
    assert store.consents([]) == []


def test_the_last_consent_counts(store: EventStore) -> None:
    store.commit([index_unit(consents=(consent("jane", expires_tick=5), consent("joan")))])
    revoked = consent("jane", state="revoked", since_tick=4)
    store.commit([index_unit(consents=(consent("jane", since_tick=1), revoked))])
    assert store.consents(["jane"]) == [revoked]
    again = consent("jane", since_tick=8)
    store.commit([index_unit(consents=(consent("jane"),)), index_unit(consents=(again,))])
    assert store.consents(["jane", "joan"]) == [again, consent("joan")]


@pytest.mark.parametrize("limit", [1, 2, 10])
def test_all_consents_are_gone_through_in_order(store: EventStore, limit: int) -> None:
    given = [consent("Zoe"), consent("jane"), consent("jane", "voice"), consent("jöan")]
    store.commit([index_unit(consents=tuple(reversed(given)))])
    found, place = [], ("", "")
    while page := store.consent_page(place, limit):
        assert len(page) <= limit
        found += page
        place = page[-1].contact_id, page[-1].channel
    assert found == given


def test_each_unit_with_consents_raises_the_epoch_by_one(store: EventStore) -> None:
    store.commit([index_unit(consents=(consent("jane"), consent("joan"))), unit(run())])
    assert store.log_head().suppression_epoch == 1
    both = index_unit(
        consents=(consent("jane"),), suppress=(Suppression("id:jane", "global", "", "jane"),)
    )
    store.commit([both, index_unit(consents=(consent("jane"),))])
    assert store.log_head().suppression_epoch == 3, "saying the same again is a change too"
    store.commit([unit(run(), consents=(consent("jane", state="revoked"),))])
    assert store.log_head().suppression_epoch == 3, "a refused unit raises nothing"
    assert store.consents(["jane"]) == [consent("jane")]


@pytest.mark.parametrize("state", ["granted", "revoked"])
def test_a_decision_from_before_a_consent_is_refused(store: EventStore, state: str) -> None:
    changed = index_unit(consents=(consent("jane", "voice", state),))  # type: ignore[arg-type]
    store.commit([changed])
    assert store.commit([unit(run(), guard=JANE)]) == [REFUSED]
    assert store.heads([run()]) == {}
    now = SuppressionGuard(JANE.subjects, store.log_head().suppression_epoch)
    assert store.commit([unit(run(), guard=now)]) == [committed_at(1)]
    store.commit([changed])
    assert store.commit([unit(run(2), guard=now)]) == [REFUSED]


@pytest.mark.parametrize(
    "subjects",
    [(), ("id:joan",), ("jane",), ("id:",), ("id:id:jane",), ("email:jane", "phone:jane")],
)
def test_a_guard_is_about_the_consents_of_its_contact_alone(
    store: EventStore, subjects: tuple[str, ...]
) -> None:
    store.commit([index_unit(consents=(consent("jane"),))])
    guard = SuppressionGuard(subjects, 0)
    assert store.commit([unit(run(), guard=guard)]) == [committed_at(1)]


def test_a_guard_sees_consents_of_the_same_commit(store: EventStore) -> None:
    outcomes = store.commit(
        [
            unit(run(1), guard=JANE),
            unit(run(1), consents=(consent("jane"),)),
            unit(run(2), guard=JANE),
            index_unit(consents=(consent("jane"),)),
            unit(run(3), guard=JANE),
        ]
    )
    assert [outcomes[n] for n in (0, 2, 4)] == [committed_at(1), committed_at(2), REFUSED]


def test_lifting_a_suppression_lifts_no_consent(store: EventStore) -> None:
    row = Suppression("id:jane", "channel", "email", "jane")
    store.commit([index_unit(suppress=(row,), consents=(consent("jane"),))])
    outcomes = store.commit([index_unit(unsuppress=(row,)), unit(run(), guard=JANE)])
    assert outcomes[1] == REFUSED
    assert store.commit([unit(run(), guard=JANE)]) == [REFUSED]


def test_many_consents_at_once(store: EventStore) -> None:
    names = [f"c{number:04}" for number in range(1_000)]
    store.commit([index_unit(consents=tuple(consent(name) for name in names))])
    changed = [consent(name, state="revoked", since_tick=4) for name in names[::2]]
    store.commit([index_unit(consents=(each,)) for each in changed])
    assert store.consents(names[::2]) == changed
    assert store.consents(names[1::2]) == [consent(name) for name in names[1::2]]
    guards = [unit(run(n), guard=SuppressionGuard((f"id:{c}",), 1)) for n, c in enumerate(names)]
    outcomes = store.commit(guards)
    assert [isinstance(outcome, Committed) for outcome in outcomes] == [False, True] * 500


def test_consents_are_seen_by_all_who_open_the_database(disk_backend: Backend) -> None:
    store, other = disk_backend.open()[0], disk_backend.open()[0]
    store.commit([index_unit(consents=(consent("jane"),))])
    assert other.consents(["jane"]) == [consent("jane")]
    assert other.commit([unit(run(), guard=JANE)]) == [REFUSED]
