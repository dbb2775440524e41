"""Counters: exact limits under the append lock, whoever else is counting."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from dee_es.errors import ConcurrencyConflict
from dee_es.ports import Committed, Conflict, CounterUse, EventStore, Lease, Suppression
from tests.support.counts import count
from tests.support.storage.backends import Backend, Kind, open_at
from tests.support.storage.events import committed_at, consent, index_unit, run, unit, use
from tests.support.storage.writers import in_threads

FULL = Conflict("limit", "mail")
MAIL = ("mail", 1)


# --- counting -------------------------------------------------------------------------------------


def test_counters_begin_at_nothing(store: EventStore) -> None:
    assert store.counters([MAIL]) == {}
    assert store.counters([]) == {}


def test_uses_add_up_by_key_and_slot(store: EventStore) -> None:
    store.commit([unit(run(1), counters=(use("mail"), use("mail", slot=2), use("call", add=4)))])
    store.commit([unit(run(2), counters=(use("mail", add=2),)), unit(run(3))])
    assert store.counters([("call", 1), MAIL, ("mail", 2), ("call", 2), MAIL]) == {
        ("call", 1): 4,
        MAIL: 3,
        ("mail", 2): 1,
    }
    assert store.counters([("call", 2)]) == {}, "neither of two that were asked for together"


def test_keys_and_numbers_of_any_shape(store: EventStore) -> None:
    keys = ["a'b", '"', "%_", "ü", "\\x", "{},", "budget:day:EUR", "domain:example.com", ""]
    uses = [use(key, 2**53, add=2**52, slot=slot) for key in keys for slot in (-3, 0, 2**40)]
    store.commit([index_unit(counters=tuple(uses))])
    wanted = [(each.key, each.slot) for each in uses]
    assert store.counters(wanted) == dict.fromkeys(wanted, 2**52)


@pytest.mark.parametrize("limit", [1, 2, 10])
def test_all_counters_are_gone_through_in_order(store: EventStore, limit: int) -> None:
    given = [("mail", -3), ("A", 0), ("a", 0), ("b", 0), ("é", 0), ("A", 1), ("mail", 2**40)]
    uses = [use(key, slot=slot) for key, slot in reversed(given)]
    store.commit([index_unit(counters=tuple(uses))])
    found, last = [], ("", -(2**62))
    while page := store.counter_page(last, limit):
        assert len(page) <= limit
        found += page
        last = page[-1]
    assert found == given
    assert store.counter_page(("a", 0), 2) == given[3:5]
    assert store.counter_page(("", 1), 1) == [("A", 1)]


def test_adding_nothing_leaves_nothing(store: EventStore) -> None:
    assert store.commit([index_unit(counters=(use("mail", 0, add=0),))]) == [committed_at(0)]
    assert store.counters([MAIL]) == {}


def test_only_what_has_no_limit_is_given_back(store: EventStore) -> None:
    with pytest.raises(ValueError, match="negative"):
        use("mail", limit=5, add=-1)
    assert isinstance(store.commit([index_unit(counters=(use("mail", 5, add=5),))])[0], Committed)
    back = index_unit(counters=(CounterUse("mail", 1, -2, None),))
    assert isinstance(store.commit([back])[0], Committed)
    assert store.counters([MAIL]) == {MAIL: 3}
    # In one commit, what was given back before is free for who comes after.
    results = store.commit([index_unit(counters=(use("mail", 5, add=4),)), back,
                            index_unit(counters=(use("mail", 5, add=4),))])  # fmt: skip
    assert [type(each) for each in results] == [Conflict, Committed, Committed]
    assert store.counters([MAIL]) == {MAIL: 5}


def test_many_counters_at_once(store: EventStore) -> None:
    uses = [use(f"contact:{number}", 2) for number in range(1_500)]
    for _ in range(2):
        outcomes = store.commit([index_unit(counters=(each, use("mail"))) for each in uses])
        assert outcomes == [committed_at(0)] * 1_500
    store.commit([index_unit(counters=(use("contact:7", slot=2),))])
    outcomes = store.commit([index_unit(counters=(each, use("mail"))) for each in uses])
    assert outcomes == [Conflict("limit", each.key) for each in uses]
    found = store.counters([(each.key, 1) for each in uses])
    assert (len(found), set(found.values())) == (1_500, {2})
    assert store.counters([MAIL]) == {MAIL: 3_000}


# --- limits ---------------------------------------------------------------------------------------


def test_a_limit_is_reached_and_not_passed(store: EventStore) -> None:
    outcomes = [store.commit([unit(run(n), counters=(use("mail", 3),))])[0] for n in range(5)]
    assert outcomes == [committed_at(1), committed_at(2), committed_at(3), FULL, FULL]
    assert store.counters([MAIL]) == {MAIL: 3}
    assert store.heads([run(3), run(4)]) == {}


def test_a_step_that_does_not_fit_leaves_room_for_a_smaller_one(store: EventStore) -> None:
    paid = [use("mail", 10, add=cost) for cost in (4, 4, 4, 2, 1)]
    outcomes = store.commit([index_unit(counters=(each,)) for each in paid])
    assert outcomes == [committed_at(0), committed_at(0), FULL, committed_at(0), FULL]
    assert store.counters([MAIL]) == {MAIL: 10}


def test_units_of_one_commit_see_what_those_before_added(store: EventStore) -> None:
    store.commit([index_unit(counters=(use("mail", add=3),))])
    outcomes = store.commit([unit(run(n), counters=(use("mail", 5),)) for n in range(4)])
    assert outcomes == [committed_at(1), committed_at(2), FULL, FULL]


def test_each_unit_brings_its_own_limit(store: EventStore) -> None:
    limits: list[int | None] = [0, None, 1, 2, None, 2, 4]
    outcomes = store.commit([index_unit(counters=(use("mail", limit),)) for limit in limits])
    done = committed_at(0)
    assert outcomes == [FULL, done, FULL, done, done, FULL, done]
    assert store.counters([MAIL]) == {MAIL: 4}
    raised = store.commit([index_unit(counters=(use("mail", 5),))])
    lowered = store.commit([index_unit(counters=(use("mail", 2),))])
    assert (raised, lowered) == ([done], [FULL])


def test_a_counter_named_twice_is_counted_whole(store: EventStore) -> None:
    twice = index_unit(counters=(use("mail", 3, add=2), use("mail", add=2)))
    assert store.commit([twice]) == [FULL]
    assert store.counters([MAIL]) == {}
    twice = index_unit(counters=(use("mail", 4, add=2), use("mail", 9, add=2)))
    assert store.commit([twice, twice]) == [committed_at(0), FULL]
    assert store.counters([MAIL]) == {MAIL: 4}


def test_slots_and_keys_have_limits_of_their_own(store: EventStore) -> None:
    uses = [use("mail", 1), use("mail", 1, slot=2), use("call", 1), use("call", 1, slot=2)]
    assert store.commit([index_unit(counters=(each,)) for each in uses]) == [committed_at(0)] * 4
    assert store.commit([index_unit(counters=tuple(uses[::-1]))]) == [Conflict("limit", "call")]


# --- all or nothing -------------------------------------------------------------------------------


def test_a_unit_refused_for_a_limit_leaves_no_trace(store: EventStore) -> None:
    store.commit([index_unit(counters=(use("mail"),))])
    refused = unit(
        run(1),
        tick=50,
        due_tick=1,
        counters=(use("call", 9), use("mail", 1)),
        contact_keys=(("jane", b"k" * 16),),
        event_ids=("event",),
        consents=(consent("jane"),),
        suppress=(Suppression("id:jane", "global", "", "jane"),),
    )
    assert store.commit([refused, unit(run(2))]) == [FULL, committed_at(1)]
    assert store.counters([MAIL, ("call", 1)]) == {MAIL: 1}
    assert store.heads([run(1)]) == {}
    assert (store.next_due(), store.log_head().tick) == (None, 0)
    assert store.contact_keys(["jane"]) == {}
    assert store.known_event_ids(["event"]) == set()
    assert (store.consents(["jane"]), store.suppressions(["id:jane"])) == ([], [])
    assert store.log_head().suppression_epoch == 0


def test_a_unit_refused_for_anything_else_counts_nothing(store: EventStore) -> None:
    store.commit([unit(run(1), event_ids=("event",))])
    outcomes = store.commit(
        [
            unit(run(1), counters=(use("mail", 1),)),
            unit(run(2), event_ids=("event",), counters=(use("mail", 0),)),
            unit(run(2), counters=(use("mail", 1),)),
        ]
    )
    assert outcomes == [Conflict("version", run(1)), Conflict("event_id", "event"), committed_at(2)]
    assert store.counters([MAIL]) == {MAIL: 1}


def test_what_fails_as_a_whole_counts_nothing(store: EventStore) -> None:
    def boom(*_: object) -> None:
        raise RuntimeError("inline")

    counting = unit(run(), counters=(use("mail", 1), use("call")), consents=(consent("jane"),))
    with pytest.raises(RuntimeError, match="inline"):
        store.commit([counting], inline=boom)
    with pytest.raises(ConcurrencyConflict):
        store.commit([counting], lease=Lease((0, 1), "nobody", 1))
    assert store.counters([MAIL, ("call", 1)]) == {}
    assert store.consents(["jane"]) == []
    assert store.log_head().suppression_epoch == 0
    assert store.commit([counting]) == [committed_at(1)]


# --- pruning --------------------------------------------------------------------------------------


def test_old_slots_are_pruned(store: EventStore) -> None:
    store.commit([index_unit(counters=tuple(use("mail", slot=day) for day in range(10, 16)))])
    assert store.prune_counters(13) == 3
    assert store.prune_counters(13) == 0
    left = store.counters([("mail", day) for day in range(10, 16)])
    assert [day for _, day in left] == [13, 14, 15]
    assert store.prune_counters(99) == 3


def test_what_counts_for_all_time_is_not_pruned(store: EventStore) -> None:
    total = use("budget:total:EUR", 5, add=5, slot=0)
    store.commit([index_unit(counters=(total, use("mail", slot=-4), use("mail", slot=4)))])
    assert store.prune_counters(9) == 2
    assert store.commit([index_unit(counters=(total,))]) == [Conflict("limit", total.key)]


def test_more_is_pruned_than_fits_one_transaction(store: EventStore) -> None:
    uses = [use(f"contact:{number}", slot=1 + number % 2) for number in range(10_400)]
    store.commit([index_unit(counters=tuple(uses))])
    assert store.prune_counters(2) == 5_200
    assert store.prune_counters(3) == 5_200


# --- many at once ---------------------------------------------------------------------------------

TRIES = count(25, 250)
LIMIT = 2 * TRIES + 10
"""More than one writer alone can use up, less than two can."""


def use_much(store: EventStore, writer: int) -> int:
    """Commit pairs of units against one limit; returns how many were accepted."""
    accepted = 0
    for number in range(TRIES):
        units = [
            unit(
                run(number * 2 + k, f"writer_{writer}"),
                counters=(use(f"writer:{writer}"), use("mail", LIMIT)),
            )
            for k in range(2)
        ]
        outcomes = store.commit(units)
        assert all(isinstance(each, Committed) or each == FULL for each in outcomes)
        accepted += sum(isinstance(each, Committed) for each in outcomes)
    return accepted


def check_exact(store: EventStore, accepted: list[int]) -> None:
    """Everything up to the limit was accepted, nothing beyond, and all of it was counted."""
    assert sum(accepted) == LIMIT == store.log_head().position
    assert store.counters([MAIL]) == {MAIL: LIMIT}
    own = store.counters([(f"writer:{writer}", 1) for writer in range(len(accepted))])
    assert own == {(f"writer:{n}", 1): done for n, done in enumerate(accepted) if done}


def test_the_limit_is_exact_under_four_threads(store: EventStore) -> None:
    check_exact(store, in_threads(lambda writer: use_much(store, writer), range(4)))


def test_the_limit_is_exact_under_several_stores(disk_backend: Backend) -> None:
    stores = [disk_backend.open()[0] for _ in range(4)]
    check_exact(stores[0], in_threads(lambda writer: use_much(stores[writer], writer), range(4)))


def _in_process(kind: Kind, address: str, writer: int) -> int:
    store, _ = open_at(kind, address)
    try:
        return use_much(store, writer)
    finally:
        store.close()


def test_the_limit_is_exact_under_two_processes(disk_backend: Backend) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        kind, address = disk_backend.kind, disk_backend.address
        futures = [pool.submit(_in_process, kind, address, writer) for writer in range(2)]
        accepted = [future.result(120) for future in futures]
    check_exact(disk_backend.open()[0], accepted)
    assert min(accepted) > 0, "both took part"
