"""Twilio's signature: what it covers, and what it does not let through."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from dee_es.adapters.channels.twilio.signature import is_signed, sign

URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
FORM = [
    ("Digits", "1234"),
    ("CallSid", "CA1234567890ABCDE"),
    ("To", "+18005551212"),
    ("Caller", "+12349013030"),
    ("From", "+12349013030"),
]
KNOWN = "0/KCTR6DLpKmkAf8muzZqo1nDgQ="
"""The signature that Twilio's own documentation gives for this request under the token 12345."""


def test_the_documented_example() -> None:
    assert sign("12345", URL, FORM) == KNOWN
    assert is_signed("12345", URL, FORM, b"", KNOWN)


@pytest.mark.parametrize(
    "changes",
    [
        {"auth_token": "12346"},
        {"url": URL + "3"},
        {"url": URL.replace("https", "http")},
        {"form": FORM[1:]},
        {"form": [*FORM, ("Extra", "")]},
        {"form": [("Digits", "1235"), *FORM[1:]]},
        {"signature": ""},
        {"signature": KNOWN[:-1]},
        {"signature": KNOWN.lower()},
        {"signature": "ü\udcff".encode("utf-8", "replace").decode()},
    ],
)
def test_a_change_anywhere_is_noticed(changes: dict[str, Any]) -> None:
    given = {"auth_token": "12345", "url": URL, "form": FORM, "body": b"", "signature": KNOWN}
    assert not is_signed(**{**given, **changes})


@pytest.mark.parametrize(
    "ours, theirs",
    [
        ("https://a.example/x", "https://a.example:443/x"),
        ("https://a.example:443/x", "https://a.example/x"),
        ("http://[::1]/x", "http://[::1]:80/x"),
        ("https://a.example/x?y=%20", "https://a.example:443/x?y=%20"),
        ("https://a.example/x", "https://a.example/x#rc=4"),
    ],
)
def test_spellings_of_one_url(ours: str, theirs: str) -> None:
    assert is_signed("12345", ours, [], b"", sign("12345", theirs), "#rc=4")


@pytest.mark.parametrize("url", ["https://a.example:8443/x", "http://a.example:443/x"])
def test_another_port_is_another_url(url: str) -> None:
    assert is_signed("t", url, [], b"", sign("t", url))
    bare = url.replace(":8443", "").replace(":443", "")
    assert not is_signed("t", url, [], b"", sign("t", bare))
    assert not is_signed("t", bare, [], b"", sign("t", url))


def test_a_name_that_twilio_was_given_in_capitals_stays_so() -> None:
    assert is_signed("t", "https://A.example/x", [], b"", sign("t", "https://A.example/x"))


def test_a_name_given_twice_counts_once_for_each_value() -> None:
    twice = [("a", "2"), ("a", "1"), ("a", "2")]
    assert sign("t", URL, twice) == sign("t", URL + "a1a2")


def test_a_body_that_is_no_form_is_covered_by_its_digest() -> None:
    body = b'{"a": 1}'
    digest = hashlib.sha256(body).hexdigest()
    for written in (digest, digest.upper()):
        url = f"https://a.example/x?bodySHA256={written}"
        assert is_signed("t", url, [("ignored", "x")], body, sign("t", url))
        assert not is_signed("t", url, [], body + b" ", sign("t", url))
        assert not is_signed("t", url, [], body, sign("t", "https://a.example/x"))
