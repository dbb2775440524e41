"""Identities that are computed, never drawn: the same facts always give the same id."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Final

SLICES: Final = 1024
"""Number of slices contacts are spread over; one scheduler writes a slice."""

_PREFIXES: Final = ("contact", "plan", "template", "script", "sender", "policy")
SYSTEM_STREAM: Final = "system"
"""The stream of the database's own events: its clock, checkpoints, exports, holds."""

CounterKey = tuple[str, int]
"""One of the policy's counters in one slot, by name and slot.

A slot is a number that grows with time, such as a UTC day; slot 0 stands for all time.
"""


_LENGTH: Final = struct.Struct(">I").pack
_BASE32: Final = "abcdefghijklmnopqrstuvwxyz234567"
# Ten bits at a time: enrolment makes a run id for every contact, and the library's encoder goes
# through each group of five bytes in Python.
_PAIRS: Final = tuple(first + second for first in _BASE32 for second in _BASE32)
_ID_BITS: Final = struct.Struct(">QQB").unpack_from
"""The bytes that the 130 bits of a run's id are in."""


def length_prefixed(parts: Sequence[bytes]) -> bytes:
    """Join `parts`, each behind its 32-bit big-endian length, so that no two lists look alike."""
    return b"".join([len(part).to_bytes(4, "big") + part for part in parts])


def _digest(one: str, two: str, three: str) -> bytes:
    # SHA-256 of what `length_prefixed` joins, written out: every run and every send has one.
    first, second, third = one.encode(), two.encode(), three.encode()
    lengths = _LENGTH(len(first)), _LENGTH(len(second)), _LENGTH(len(third))
    parts = (lengths[0], first, lengths[1], second, lengths[2], third)
    return hashlib.sha256(b"".join(parts)).digest()


def run_id(plan_id: str, contact_id: str, enrollment: int) -> str:
    """The id of a contact's `enrollment`-th run of a plan: `run_` and 26 base32 characters."""
    first, second, third = _ID_BITS(_digest(plan_id, contact_id, str(enrollment)))
    return (
        f"run_{_PAIRS[first >> 54]}{_PAIRS[first >> 44 & 1023]}{_PAIRS[first >> 34 & 1023]}"
        f"{_PAIRS[first >> 24 & 1023]}{_PAIRS[first >> 14 & 1023]}{_PAIRS[first >> 4 & 1023]}"
        f"{_PAIRS[(first & 15) << 6 | second >> 58]}{_PAIRS[second >> 48 & 1023]}"
        f"{_PAIRS[second >> 38 & 1023]}{_PAIRS[second >> 28 & 1023]}{_PAIRS[second >> 18 & 1023]}"
        f"{_PAIRS[second >> 8 & 1023]}{_PAIRS[(second & 255) << 2 | third >> 6]}"
    )


def idempotency_key(run: str, step_id: str, tick: int) -> str:
    """The key of a send, as 64 hex digits; `tick` is the one at which its step was entered, or a
    later one if an earlier visit of that tick has sent already.

    Every attempt of one visit of a step has the same key; entering the step again makes a new one.
    """
    return _digest(run, step_id, str(tick)).hex()


def outcome_id(key: str, attempt: int) -> str:
    """The command id under which it is recorded what became of an attempt with this key."""
    return f"{key[:32]}.{attempt}"


def slice_of(contact_id: str) -> int:
    """The slice, 0 to 1023, in which all runs of this contact live."""
    return int.from_bytes(hashlib.sha256(contact_id.encode()).digest()[:4], "big") % SLICES


def is_run(stream_id: str) -> bool:
    """Whether the stream is a run's (a run's id is its stream's id)."""
    return stream_id.startswith("run_")


def contact_stream(contact_id: str) -> str:
    """The stream of a contact's suppressions, consent, erasure and channel events."""
    return f"contact:{contact_id}"


def definition_stream(kind: str, definition_id: str) -> str:
    """The stream of versions of a plan, template, script, sender or policy."""
    if kind not in _PREFIXES:
        raise ValueError(f"no such kind of definition: {kind}")
    return f"{kind}:{definition_id}"


_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid(time_ms: int, digest: bytes) -> str:
    """A ULID out of a time (ms since 1970 UTC) and the first 80 bits of a digest.

    Ids sort by time, to the millisecond. Times before 1970 count as 1970.
    """
    number = max(0, time_ms) % 2**48 << 80 | int.from_bytes(digest[:10], "big")
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))
