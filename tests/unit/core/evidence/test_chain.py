"""The hash chain: computed as written down, and broken by any change."""

from __future__ import annotations

import hashlib

import pytest

from dee_es.core.evidence import chain
from dee_es.errors import IntegrityViolation

STREAM, NAME = "run_x", "RunStarted"
PAYLOADS = [b"first", b"", b"third \xff\x00"]


def stored() -> list[bytes]:
    """Three events of one stream as they are stored."""
    previous, states = chain.GENESIS, []
    for version, payload in enumerate(PAYLOADS, 1):
        previous, state = chain.seal(STREAM, version, NAME, previous, payload)
        states.append(state)
    return states


def faults(states: list[bytes]) -> list[str | None]:
    """What is wrong with each of these states, read as one stream."""
    previous, found = chain.GENESIS, []
    for version, state in enumerate(states, 1):
        found.append(chain.fault(STREAM, version, NAME, previous, state))
        previous = chain.unseal(state, "x").checksum
    return found


def test_the_checksum_is_the_one_that_is_written_down() -> None:
    parts = [b"DEE1", b"run_\xc3\xa4", (2).to_bytes(8, "big"), b"RunStarted", b"p" * 32, b"payload"]
    joined = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    expected = hashlib.sha256(joined).digest()
    assert chain.checksum("run_ä", 2, "RunStarted", b"p" * 32, b"payload") == expected


def test_the_first_previous_checksum_is_64_zeros_in_hex() -> None:
    assert chain.GENESIS.hex() == "0" * 64


def test_a_state_is_tag_previous_own_and_payload() -> None:
    own, state = chain.seal(STREAM, 1, NAME, b"p" * 32, b"payload")
    assert state == b"DEE1" + b"p" * 32 + own + b"payload"
    assert chain.unseal(state, "x") == chain.SealedState(b"p" * 32, own, b"payload")


def test_an_untouched_stream_verifies() -> None:
    assert faults(stored()) == [None, None, None]


@pytest.mark.parametrize(
    "change",
    [
        {"stream_id": "run_y"},
        {"version": 2},
        {"name": "RunFailed"},
        {"payload": b"other"},
        {"previous": b"\1" * 32},
    ],
)
def test_a_change_to_anything_changes_the_checksum(change: dict[str, object]) -> None:
    fields = {
        "stream_id": STREAM,
        "version": 1,
        "name": NAME,
        "previous": chain.GENESIS,
        "payload": b"first",
    }
    changed = chain.checksum(**{**fields, **change})  # type: ignore[arg-type]
    assert changed != chain.checksum(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("place", [0, 3, 4, 20, 35, 36, 60, 67, 68, -1])
def test_any_changed_byte_shows(place: int) -> None:
    states = stored()
    changed = bytearray(states[0])
    changed[place] ^= 1
    assert chain.fault(STREAM, 1, NAME, chain.GENESIS, bytes(changed)) is not None


@pytest.mark.parametrize(
    "stream, version, name", [("run_y", 1, NAME), (STREAM, 2, NAME), (STREAM, 1, "RunFailed")]
)
def test_an_event_in_another_place_or_under_another_name_shows(
    stream: str, version: int, name: str
) -> None:
    fault = chain.fault(stream, version, name, chain.GENESIS, stored()[0])
    assert fault is not None
    assert "checksum" in fault


def test_a_removed_event_shows_in_the_one_behind_it() -> None:
    states = stored()
    assert faults([states[0], states[2]])[1] == (
        "the previous checksum is not that of the entry before it"
    )


def test_a_rewritten_event_shows_in_the_one_behind_it() -> None:
    states = stored()
    states[1] = chain.seal(STREAM, 2, NAME, chain.unseal(states[0], "x").checksum, b"forged")[1]
    assert [fault is None for fault in faults(states)] == [True, True, False]


@pytest.mark.parametrize("state", [b"", b"DEE1", b"DEE1" + bytes(63), b"DEE2" + bytes(100)])
def test_a_malformed_state_is_told_by_its_place(state: bytes) -> None:
    with pytest.raises(IntegrityViolation, match=r"run_x entry 1"):
        chain.unseal(state, "run_x entry 1")
    assert chain.fault(STREAM, 1, NAME, chain.GENESIS, state) == "the stored state is malformed"
