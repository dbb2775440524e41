"""Requests that may be repeated: one attempt at a time, one answer, and an end to what is kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from dee_es.adapters.keys import PlainKeys
from dee_es.ports import EventStore, KnownRequest
from tests.support.storage.backends import Backend
from tests.support.storage.keys import KeyPlace
from tests.support.system import SeededKeySource

LONG, SHORT, DAY = 600_000, 40, 86_400_000
ONE, TWO = b"1" * 32, b"2" * 32


def test_a_request_is_taken_up_once_and_its_answer_is_kept(store: EventStore) -> None:
    assert store.begin_request("c", ONE, "a", LONG, DAY) is None
    assert store.begin_request("c", ONE, "b", LONG, DAY) == KnownRequest(ONE, None)
    assert store.end_request("c", "a", b"\0done") is True
    assert store.begin_request("c", ONE, "b", LONG, DAY) == KnownRequest(ONE, b"\0done")
    assert store.begin_request("c", TWO, "b", LONG, DAY) == KnownRequest(ONE, b"\0done")
    assert store.begin_request("d", TWO, "b", LONG, DAY) is None


def test_an_empty_answer_is_an_answer(store: EventStore) -> None:
    store.begin_request("c", ONE, "a", LONG, DAY)
    store.end_request("c", "a", b"")
    assert store.begin_request("c", ONE, "b", LONG, DAY) == KnownRequest(ONE, b"")


def test_a_dead_attempt_is_followed_by_one_at_the_same_request_only(
    backend: Backend, store: EventStore
) -> None:
    store.begin_request("c", ONE, "a", SHORT, DAY)
    backend.wait(3 * SHORT)
    assert store.begin_request("c", TWO, "b", LONG, DAY) == KnownRequest(ONE, None)
    assert store.begin_request("c", ONE, "b", LONG, DAY) is None
    # The one that was thought dead has lost it, whatever it does now.
    assert store.renew_request("c", "a", LONG) is False
    assert store.end_request("c", "a", b"late") is False
    store.drop_request("c", "a")
    assert store.begin_request("c", ONE, "c", LONG, DAY) == KnownRequest(ONE, None)
    assert store.end_request("c", "b", b"in time") is True
    assert store.end_request("c", "b", b"twice") is False


def test_an_attempt_that_is_renewed_is_alive(backend: Backend, store: EventStore) -> None:
    store.begin_request("c", ONE, "a", SHORT, DAY)
    assert store.renew_request("c", "a", LONG) is True
    backend.wait(3 * SHORT)
    assert store.begin_request("c", ONE, "b", LONG, DAY) == KnownRequest(ONE, None)


def test_what_did_nothing_is_forgotten_and_what_might_have_is_not(store: EventStore) -> None:
    store.begin_request("c", ONE, "a", LONG, DAY)
    store.drop_request("c", "a")
    assert store.begin_request("c", TWO, "b", LONG, DAY) is None
    assert store.end_request("c", "b", None) is True
    assert store.begin_request("c", ONE, "c", LONG, DAY) == KnownRequest(TWO, None)
    assert store.begin_request("c", TWO, "c", LONG, DAY) is None


def test_answers_are_let_go_and_their_requests_stay_known(store: EventStore) -> None:
    for name in "cd":
        store.begin_request(name, ONE, "a", LONG, DAY)
        store.end_request(name, "a", b"x")
    store.begin_request("e", ONE, "a", LONG, DAY)
    assert store.forget_answers() == 2
    assert store.forget_answers() == 0
    assert store.begin_request("c", TWO, "b", LONG, DAY) == KnownRequest(ONE, None)
    assert store.begin_request("c", ONE, "b", LONG, DAY) is None
    assert store.begin_request("e", ONE, "b", LONG, DAY) == KnownRequest(ONE, None), "under way"


def test_what_is_old_is_another_request_and_is_cleaned_up(
    backend: Backend, store: EventStore
) -> None:
    for number in range(5):
        store.begin_request(f"old{number}", ONE, "a", LONG, SHORT)
        store.end_request(f"old{number}", "a", b"x")
    store.begin_request("new", ONE, "a", LONG, DAY)
    backend.wait(3 * SHORT)
    assert store.begin_request("old0", TWO, "b", LONG, DAY) is None
    assert [store.prune_requests(3), store.prune_requests(3)] == [3, 1]
    assert store.begin_request("new", ONE, "b", LONG, DAY) == KnownRequest(ONE, None)


def test_of_many_attempts_at_once_one_has_the_request(store: EventStore) -> None:
    def begin(number: int) -> bool:
        return store.begin_request("c", ONE, f"a{number}", LONG, DAY) is None

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(begin, range(40))) == 1


def test_requests_outlive_the_process(disk_backend: Backend) -> None:
    store, _ = disk_backend.open()
    store.begin_request("c", ONE, "a", LONG, DAY)
    store.end_request("c", "a", b"x")
    store.close()
    store, _ = disk_backend.open()
    assert store.begin_request("c", ONE, "b", LONG, DAY) == KnownRequest(ONE, b"x")


# --- sealing --------------------------------------------------------------------------------------


def test_what_is_sealed_is_opened_by_its_name_and_its_store_alone(place: KeyPlace) -> None:
    keys = place.open()
    sealed = keys.seal("name", b"jane@example.com")
    assert b"jane" not in sealed
    assert keys.unseal("name", sealed) == b"jane@example.com"
    assert keys.unseal("another", sealed) is None
    assert keys.unseal("name", sealed[:-1] + bytes([sealed[-1] ^ 1])) is None
    assert keys.unseal("name", b"") is None
    other = KeyPlace(Backend("memory", ""))
    assert other.open(SeededKeySource(99)).unseal("name", sealed) is None
    other.close()


def test_what_is_sealed_outlives_the_process(disk_place: KeyPlace) -> None:
    sealed = disk_place.open().seal("name", b"text")
    assert disk_place.open().unseal("name", sealed) == b"text"


def test_plain_is_sealed_as_it_is(place: KeyPlace) -> None:
    plain = PlainKeys(place.open())
    assert (plain.seal("n", b"x"), plain.unseal("n", b"x")) == (b"x", b"x")
