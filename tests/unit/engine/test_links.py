"""Signed links: what they say is what was signed, for the purpose it was signed for."""

from __future__ import annotations

import base64
import json
from typing import get_args

import pytest

from dee_es.bootstrap import links_of
from dee_es.config import EngineConfig
from dee_es.engine.links import Link, Links, Purpose
from dee_es.errors import InvalidInput

SECRET = "a secret of thirty-two characters".replace(" ", "-")
OTHER = "another-secret-of-32-characters-or-more"
LINKS = Links("https://mail.example.com/dee/", SECRET)
LINK = Link("contact_1", "run_abc", "intro", "msg_1", "https://example.com/a?b=c#d")


def test_a_link_says_what_was_signed() -> None:
    for purpose in get_args(Purpose):
        assert LINKS.read(purpose, LINKS.seal(purpose, LINK)) == LINK


def test_a_link_stands_under_the_public_address_and_needs_no_escaping() -> None:
    made = [
        LINKS.unsubscribe("c1", run_id="run_1", step_id="s"),
        LINKS.open("c1", run_id="run_1", message_id="msg_1"),
        LINKS.click("c1", "https://example.com/"),
    ]
    assert [url.split("/")[:6] for url in made] == [
        ["https:", "", "mail.example.com", "dee", "hooks", what]
        for what in ("unsubscribe", "open", "click")
    ]
    assert all(set('<>" ?#%&').isdisjoint(url) for url in made)
    assert made[0] == LINKS.unsubscribe("c1", run_id="run_1", step_id="s"), "a pure function"


def test_a_link_of_one_purpose_is_nothing_for_another() -> None:
    for made in get_args(Purpose):
        for asked in get_args(Purpose):
            assert (LINKS.read(asked, LINKS.seal(made, LINK)) is not None) == (asked == made)


def test_altered_links_are_nothing() -> None:
    token = LINKS.seal("click", LINK)
    body, _, mac = token.partition(".")
    for at in range(len(token)):
        other = "A" if token[at] != "A" else "B"
        assert LINKS.read("click", token[:at] + other + token[at + 1 :]) is None
    elsewhere = json.dumps(["c1", None, None, None, "https://evil.example/"]).encode()
    forged = base64.urlsafe_b64encode(elsewhere).rstrip(b"=").decode()
    texts = ["", ".", body, f"{body}.", f".{mac}", f"{forged}.{mac}", f"{token}.x", f"{token}\n"]
    texts += [f"{body}=.{mac}", f"{body}.{mac}=", "é." + mac, token * 20]
    for text in texts:
        assert LINKS.read("click", text) is None


def test_of_several_spellings_only_the_one_that_was_made_counts() -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for link in (Link("c1"), Link("c12"), Link("c123")):
        body, _, mac = LINKS.seal("open", link).partition(".")
        same = [
            f"{body[:-1]}{char}.{mac}"
            for char in alphabet
            if char != body[-1] and decoded(body[:-1] + char) == decoded(body)
        ]
        same += [
            f"{body}.{mac[:-1]}{char}"
            for char in alphabet
            if char != mac[-1] and decoded(mac[:-1] + char) == decoded(mac)
        ]
        assert len(same) >= 15
        assert [LINKS.read("open", token) for token in same] == [None] * len(same)


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_only_the_first_secret_signs_and_all_are_believed() -> None:
    both = Links("https://mail.example.com", f"{OTHER} {SECRET}")
    assert both.read("open", LINKS.seal("open", LINK)) == LINK
    assert LINKS.read("open", both.seal("open", LINK)) is None
    assert Links("https://m.example", OTHER).read("open", both.seal("open", LINK)) == LINK


@pytest.mark.parametrize(
    "target",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "//evil.example/",
        "/path",
        "https:///x",
        "https://",
        "https://good.example@evil.example/",
        "https://evil.example\\@good.example/",
        "https://example.com/\r\nSet-Cookie: a=b",
        "https://example.com/ x",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://[::1/",
        "ftp://example.com/",
        "https://example.com/" + "x" * 2_000,
        "https://exämple.com/",
        "",
    ],
)
def test_a_link_leads_to_http_pages_only(target: str) -> None:
    with pytest.raises(InvalidInput, match="target"):
        LINKS.click("c1", target)


def test_ids_are_checked() -> None:
    with pytest.raises(InvalidInput, match="contact_id"):
        LINKS.unsubscribe("jane@example.com")
    with pytest.raises(InvalidInput, match="run_id"):
        LINKS.open("c1", run_id="a b")


@pytest.mark.parametrize(
    "url",
    [
        "http://mail.example.com",
        "mail.example.com",
        "https://a@b.example",
        "https://b.example/?x",
        "https://b.example/#x",
        "https://",
        "https://b.example/" + "x" * 300,
    ],
)
def test_the_public_address_must_be_safe(url: str) -> None:
    with pytest.raises(InvalidInput, match="public_url"):
        Links(url, SECRET)


def test_plain_http_will_do_on_this_machine() -> None:
    assert Links("http://127.0.0.1:8765", SECRET).unsubscribe("c1").startswith("http://127.0.0.1:")


def test_secrets_must_be_long_and_stay_out_of_sight() -> None:
    for secrets in ("", "short", f"{SECRET} short"):
        with pytest.raises(InvalidInput, match="link_secret"):
            Links("https://mail.example.com", secrets)
    config = EngineConfig(":memory:", public_url="https://m.example", link_secret=SECRET)
    assert SECRET not in repr(LINKS) + repr(config)


def test_settings_belong_together() -> None:
    assert links_of(EngineConfig(":memory:")) is None
    with pytest.raises(InvalidInput, match=r"public_url.*DEE_PUBLIC_URL"):
        links_of(EngineConfig(":memory:", link_secret=SECRET))
    with pytest.raises(InvalidInput, match=r"link_secret.*DEE_LINK_SECRET"):
        links_of(EngineConfig(":memory:", public_url="https://m.example"))


def test_an_event_has_one_id_however_often_its_link_is_followed() -> None:
    assert LINK.event_id("open") == LINK.event_id("open")
    others = {LINK.event_id("open"), LINK.event_id("click"), Link("contact_1").event_id("open")}
    assert len(others) == 3


def test_the_longest_link_fits_into_a_header() -> None:
    longest = "x" * 128
    base = "https://b.example/"
    links = Links(base + "y" * (300 - len(base)), SECRET)
    assert len(links.unsubscribe(longest, run_id="run_" + "a" * 26, step_id=longest)) < 900
