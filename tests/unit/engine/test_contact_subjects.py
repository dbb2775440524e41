"""What a contact is looked up by, and what its sends are counted under."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dee_es.adapters.keys.cipher import Digests
from dee_es.core.contact import mailbox_counted, normalize_phone
from dee_es.engine.contacts.identity import Identities

digest = Digests(b"a secret of this test").of
keys: Any = SimpleNamespace(digest=digest)
identities = Identities(keys)


@pytest.mark.parametrize(
    "email",
    [
        None,
        "Ada@One.example",
        "ada@one.example.",
        "ada@bücher.example",
        "ada@XN--BCHER-KVA.example",
        "ada@xn--bücher.example",
        "adä@bücher.example.",
    ],
)
@pytest.mark.parametrize(
    "phone", [None, "5550100", "+49 (0)30 1234", "0049301234", "+1 (055) 50100", "+39 06 123456"]
)
def test_sends_are_counted_once_for_each_address(email: str | None, phone: str | None) -> None:
    known = identities.known_as("c1", email, phone)
    assert known.subjects == identities.subjects("c1", email, phone)
    counted = []
    if email:
        counted.append(f"email:{digest('email', mailbox_counted(email))[:32]}")
    if phone:
        counted.append(f"phone:{digest('phone', normalize_phone(phone))[:32]}")
    assert list(known.addresses) == counted
