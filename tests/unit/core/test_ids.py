"""Identities are computed from facts; their values are stored, so they must never change."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter

import pytest

from dee_es.core import ids


def digest(*parts: str) -> bytes:
    """SHA-256 of the parts, each behind its length in bytes as 32 bits."""
    joined = b"".join(len(p.encode()).to_bytes(4, "big") + p.encode() for p in parts)
    return hashlib.sha256(joined).digest()


def test_a_run_id_is_derived_from_plan_contact_and_enrolment() -> None:
    expected = base64.b32encode(digest("plan", "contact", "3")).decode()[:26].lower()
    assert ids.run_id("plan", "contact", 3) == f"run_{expected}"


def test_a_run_id_is_what_it_always_was() -> None:
    assert ids.run_id("welcome", "contact_123", 1) == "run_hg6w7oqa4xfplhs54mj7qr36af"


@pytest.mark.parametrize("contact", ["c", "a" * 128, "A.b_c:d-9"])
def test_the_form_of_a_run_id(contact: str) -> None:
    run = ids.run_id("plan", contact, 1)
    assert re.fullmatch(r"run_[a-z2-7]{26}", run)
    assert ids.is_run(run)


def test_each_enrolment_has_an_id_of_its_own() -> None:
    facts = [(p, c, n) for p in ("a", "ab") for c in ("c", "bc") for n in (1, 2, 11)]
    assert len({ids.run_id(*fact) for fact in facts}) == len(facts)


def test_a_key_is_derived_from_run_step_and_the_tick_of_entry() -> None:
    assert ids.idempotency_key("run_x", "intro", 42) == digest("run_x", "intro", "42").hex()


def test_a_key_is_what_it_always_was() -> None:
    expected = "554aaabdd9802fd827071ae269a15fc6dbaa84f24b0ab1c143675883bf645275"
    assert ids.idempotency_key("run_x", "intro", 0) == expected


def test_keys_differ_by_run_step_and_visit() -> None:
    facts = [(r, s, t) for r in ("r", "r1") for s in ("s", "1s") for t in (1, 2, 12)]
    assert len({ids.idempotency_key(*fact) for fact in facts}) == len(facts)


def test_parts_cannot_run_into_each_other() -> None:
    assert ids.length_prefixed([b"a", b"bc"]) == b"\0\0\0\x01a\0\0\0\x02bc"
    assert ids.length_prefixed([b"ab", b"c"]) != ids.length_prefixed([b"a", b"bc"])
    assert ids.length_prefixed([b"a", b""]) != ids.length_prefixed([b"a"])


def test_a_contact_is_always_in_the_same_slice() -> None:
    expected = int.from_bytes(hashlib.sha256(b"contact_123").digest()[:4], "big") % 1024
    assert ids.slice_of("contact_123") == expected == 499


def test_contacts_spread_evenly_over_all_slices() -> None:
    counts = Counter(ids.slice_of(f"contact_{n}") for n in range(50_000))
    assert set(counts) == set(range(1024))
    assert max(counts.values()) < 100


@pytest.mark.parametrize("kind", ["plan", "template", "script", "sender", "policy"])
def test_definitions_and_contacts_have_streams_that_are_no_runs(kind: str) -> None:
    assert ids.definition_stream(kind, "run_x") == f"{kind}:run_x"
    assert ids.contact_stream("run_x") == "contact:run_x"
    streams = (ids.definition_stream(kind, "run_x"), ids.contact_stream("run_x"), "system")
    assert not any(map(ids.is_run, streams))


def test_there_are_no_other_definitions() -> None:
    with pytest.raises(ValueError, match="campaign"):
        ids.definition_stream("campaign", "x")
