"""Ways through a script: documents, places, tokens, and what is spoken in the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dee_es.adapters.channels.twilio.script import (
    answered,
    asked_for,
    finish_key,
    script_in,
    walk,
)
from dee_es.adapters.channels.twilio.tokens import CallRef, Place, Token, seal, unseal
from dee_es.adapters.channels.twilio.twiml import Writer, check_fits, hangup
from dee_es.adapters.channels.twilio.urls import RETRIES, CallbackUrls
from dee_es.core import events as e
from dee_es.core.messages.script import MAX_NESTING, MAX_STEPS, check_script
from dee_es.errors import InvalidInput

CALL = CallRef("run_" + "a" * 26, "step:1", "f" * 64, 1)
SECRET = "a secret of sixteen"
URLS = CallbackUrls("https://calls.example/base/", SECRET)


def script(*steps: dict[str, Any], greeting: str = "Hello") -> dict[str, Any]:
    return check_script({"greeting": greeting, "steps": list(steps)})


def gather(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "gather", "name": name, "prompt": f"{name}?", **more}


def speak(text: str) -> dict[str, Any]:
    return {"type": "speak", "text": text}


def tree(document: bytes) -> ElementTree.Element:
    return ElementTree.fromstring(document.decode())  # noqa: S314 -- it is our own


def next_url(place: Place) -> str:
    return URLS.make("gather", CALL, place)


# --- documents ------------------------------------------------------------------------------------


def test_a_document_ends_with_a_gather_that_leads_on() -> None:
    asks = script(gather("a", maxDigits=3, timeout=7, attempts=2), speak("later"))
    root = tree(Writer().document(asks, Place(), next_url))
    assert [verb.tag for verb in root] == ["Say", "Gather"]
    attributes = dict(root[1].attrib)
    read = URLS.read(attributes.pop("action"))
    assert read is not None
    assert read[0] == "gather"
    assert URLS.token("gather", read[1]) == Token(CALL, Place((0,), 1))
    assert attributes == {
        "input": "dtmf",
        "numDigits": "3",
        "timeout": "7",
        "finishOnKey": "#",
        "method": "POST",
        "actionOnEmptyResult": "true",
    }
    assert [say.text for say in root[1]] == ["a?"]


def test_a_document_without_a_gather_hangs_up() -> None:
    root = tree(Writer("alice", "de-DE").document(script(speak("Bye")), Place(), next_url))
    assert [(verb.tag, verb.text) for verb in root] == [
        ("Say", "Hello"),
        ("Say", "Bye"),
        ("Hangup", None),
    ]
    assert root[0].attrib == {"voice": "alice", "language": "de-DE"}
    assert hangup() == b'<?xml version="1.0" encoding="UTF-8"?><Response><Hangup /></Response>'


@pytest.mark.parametrize(
    "text",
    ["</Say><Dial>1</Dial>", "]]>", "&amp;", "a\x01\x0b\x1f\ufffe\uffffb", "\x85\u2028", "\r\n"],
)
def test_whatever_is_said_the_document_stays_what_it_is(text: str) -> None:
    document = Writer().document(script(speak(f"x{text}y")), Place(), next_url)
    assert [verb.tag for verb in tree(document)] == ["Say", "Say", "Hangup"]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip))
@example("\x01")
@example(" \x01 a \x02 ")
def test_any_text_can_be_written(text: str) -> None:
    held = {"greeting": text, "steps": []}
    root = tree(Writer().document(held, Place(), next_url))
    assert {verb.tag for verb in root} <= {"Say", "Hangup"}
    assert all(verb.text for verb in root if verb.tag == "Say"), "there are words in all of it"


@pytest.mark.parametrize(
    "word", ["a", "word", "Grüße&", "日本語", "x" * 5000, "語" * 5000, "x" + "語" * 5000]
)
def test_long_texts_are_cut_between_words_and_never_inside_of_a_character(word: str) -> None:
    text = " ".join([word] * (700 if len(word) < 100 else 2))
    root = tree(Writer().document(script(speak(text)), Place(), next_url))
    parts = [str(verb.text) for verb in root if verb.tag == "Say"][1:]
    assert max(len(part.encode()) for part in parts) <= 1_200
    assert "".join(parts).replace(" ", "") == text.replace(" ", "")
    if len(word) < 100:
        assert " ".join(parts) == text


def test_a_call_goes_inline_if_it_fits_and_asks_nothing() -> None:
    assert Writer().inline(script(speak("Bye"))) is not None
    assert Writer().inline(script(gather("a"))) is None
    assert Writer().inline(script(speak("&" * 800))) is None
    pieces = ["y" * 1_000] * 3
    room = 4_000 - len(Writer().inline(script(*map(speak, [*pieces, "y"]))) or "")
    fits = Writer().inline(script(*map(speak, [*pieces, "y" * (1 + room)])))
    assert fits is not None
    assert len(fits) == 4_000
    assert Writer().inline(script(*map(speak, [*pieces, "y" * (2 + room)]))) is None


@pytest.mark.parametrize("arm", ["cases", "default"])
def test_what_a_script_asks_deep_down_is_known(arm: str) -> None:
    def branch(on: str, *steps: dict[str, Any]) -> dict[str, Any]:
        arms: dict[str, Any] = {"cases": {"1": []}, "default": []}
        arms[arm] = {"1": list(steps)} if arm == "cases" else list(steps)
        return {"type": "branch", "on": on, **arms}

    last = {"type": "branch", "on": "pin", "cases": {"12#": [speak("x")]}}
    asks = script(
        gather("wish"),
        gather("pin", maxDigits=4),
        gather("other", maxDigits=4),
        branch("wish", branch("wish", last, gather("deep", maxDigits=32))),
    )
    assert asked_for(asks) == {"wish", "pin"}
    pin, other = asks["steps"][1:3]
    assert (finish_key(asks, pin), finish_key(asks, other)) == ("", "#")
    place, _ = answered(asks, Place((1,)), "12#")
    assert place.gathered == {"pin": "12#"}
    # As if what is asked first had been answered.
    inner: dict[str, Any] = {"greeting": "Hi", "steps": asks["steps"][3:]}
    assert Writer().inline(inner) is None
    short, long = Place((0,)), {"deep": "0" * 32}
    assert URLS.longest(CALL, inner) - URLS.longest(CALL, {"greeting": "Hi", "steps": []}) >= (
        len(URLS.make("gather", CALL, replace(short, gathered=long)))
        - len(URLS.make("gather", CALL, short))
        - 2
    )


def test_no_url_is_longer_than_was_thought() -> None:
    asks = script(gather("a", maxDigits=32), gather("b", maxDigits=7))
    label = "9" * 32
    deepest = (MAX_STEPS, label) * MAX_NESTING + (MAX_STEPS,)
    place = Place(deepest, 5, {"a": label, "b": "1234567"})
    url = URLS.make("gather", CALL, place)
    assert len(url + RETRIES) <= URLS.longest(CALL, asks)
    read = URLS.read(url)
    assert read is not None
    assert URLS.token("gather", read[1]) == Token(CALL, place)


def test_an_answer_that_no_case_has_takes_the_default() -> None:
    branch = {"type": "branch", "on": "a", "cases": {"1": [speak("x")]}, "default": [speak("y")]}
    asks = script(gather("a"), branch)
    for digits, said in (("1", "x"), ("9", "y"), ("#", "y")):
        place, _ = answered(asks, Place((0,)), digits)
        assert [step["text"] for _, step in walk(asks, place)] == [said]


def test_more_than_twilio_takes_is_refused() -> None:
    check_fits(script(speak("word " * 10_000)), 500)
    check_fits(script(), 2_000)
    with pytest.raises(InvalidInput, match="gathers more"):
        check_fits(script(), 2_001)
    with pytest.raises(InvalidInput, match="script: has more"):
        check_fits(script(speak("& " * 10_000)), 500)
    much = "& " * 10_000
    for held in (
        script(greeting=much),
        script(gather("a", prompt=much)),
        script(gather("a"), {"type": "branch", "on": "a", "cases": {"1": [speak(much)]}}),
    ):
        with pytest.raises(InvalidInput, match="script: has more"):
            check_fits(held, 500)
    many = script(*(gather(f"{n:0>100}", maxDigits=32) for n in range(20)))
    with pytest.raises(InvalidInput, match="gathers more"):
        check_fits(many, URLS.longest(CALL, many))


@pytest.mark.parametrize("word", ["x", "&", "語", "x" * 1_300])
@pytest.mark.parametrize("steps", [1, 100])
def test_what_is_taken_fits_into_an_answer(word: str, steps: int) -> None:
    """The most of a text that is taken, in the longest voice and with the longest address."""

    def asks(words: int) -> dict[str, Any]:
        each, last = divmod(words, steps)
        said = [speak(" ".join([word] * (each + (at < last))) or "x") for at in range(steps)]
        return script(*said, gather("a"))

    def fits(words: int) -> bool:
        try:
            check_fits(asks(words), 2_000)
        except InvalidInput:
            return False
        return True

    most, least = 64_000 // len(word), 0
    while most - least > 1:
        middle = (most + least) // 2
        most, least = (most, middle) if fits(middle) else (middle, least)
    assert least > 0
    writer = Writer("v" * 64, "l" * 64)
    document = writer.document(asks(least), Place(), lambda _: "u" * 2_000)
    assert len(document) <= 64_000


# --- the keys that end an entry -------------------------------------------------------------------


@pytest.mark.parametrize(
    "digits, cases, key",
    [(1, {"1": []}, ""), (4, {"1": []}, "#"), (4, {"1#": []}, ""), (4, {"*": [speak("#")]}, "#")],
)
def test_hash_ends_an_entry_unless_it_is_an_answer(
    digits: int, cases: dict[str, Any], key: str
) -> None:
    asks = script(gather("a", maxDigits=digits), {"type": "branch", "on": "a", "cases": cases})
    assert finish_key(asks, asks["steps"][0]) == key


# --- the way through ------------------------------------------------------------------------------


def test_what_no_branch_reads_is_not_carried_along() -> None:
    asks = script(
        gather("pin", maxDigits=4),
        gather("wish"),
        {"type": "branch", "on": "wish", "cases": {"1": [speak("x")]}},
    )
    assert asked_for(asks) == {"wish"}
    place, name = answered(asks, Place((0,)), "1234")
    assert (place, name) == (Place((1,), 1, {}), "pin")
    place, name = answered(asks, place, "1")
    assert (place, name) == (Place((2,), 1, {"wish": "1"}), "wish")


def test_an_answer_not_given_again_is_no_answer() -> None:
    asks = script(gather("a"), gather("a"), {"type": "branch", "on": "a", "cases": {"1": []}})
    place, _ = answered(asks, Place((0,)), "1")
    place, _ = answered(asks, place, "")
    assert place == Place((2,), 1, {})


def test_as_many_digits_as_there_may_be_are_an_answer() -> None:
    asks = script(gather("a", maxDigits=32))
    assert answered(asks, Place((0,)), "1" * 32) == (Place((1,)), "a")
    assert answered(asks, Place((0,)), "1" * 33) == (Place((1,)), None)


@pytest.mark.parametrize("digits", ["", "12", "a", "A", "1\n", "١", "w"])
def test_what_cannot_have_been_pressed_counts_as_silence(digits: str) -> None:
    place, name = answered(script(gather("a")), Place((0,)), digits)
    assert (place, name) == (Place((1,)), None)


@pytest.mark.parametrize("path", [(), (1,), (0, None, 0), (9,), (0, "1", 0)])
def test_a_place_that_is_not_there_is_an_error(path: Any) -> None:
    with pytest.raises((LookupError, KeyError)):
        answered(script(gather("a"), speak("b")), Place(path), "1")


_answers = st.sampled_from(["", "1", "2", "#"])


def _steps(depth: int) -> st.SearchStrategy[list[dict[str, Any]]]:
    names = st.sampled_from("ab")
    kinds = [
        st.builds(speak, st.sampled_from(["one", "two", "three"])),
        st.builds(gather, names, attempts=st.integers(1, 2)),
    ]
    if depth:
        inner = st.deferred(lambda: _steps(depth - 1))
        cases = st.dictionaries(st.sampled_from("12"), inner, min_size=1)
        kinds.append(
            st.builds(
                lambda on, cases, default: {
                    "type": "branch",
                    "on": on,
                    "cases": cases,
                    "default": default,
                },
                names,
                cases,
                inner,
            )
        )
    return st.lists(st.one_of(kinds), max_size=4)


def _expected(steps: Any, presses: Iterator[str], known: dict[str, str]) -> Iterator[str]:
    """The script as its definition has it, followed in one go."""
    for step in steps:
        if step["type"] == "speak":
            yield step["text"]
        elif step["type"] == "branch":
            digits = known.get(step["on"], "")
            arm = step["cases"].get(digits, step["default"])
            yield from _expected(arm, presses, known)
        else:
            known.pop(step["name"], None)
            for _ in range(step["attempts"]):
                yield step["prompt"]
                pressed = next(presses, "")
                if pressed:
                    known[step["name"]] = pressed
                    break


@given(_steps(2), st.lists(_answers, max_size=8))
def test_document_after_document_a_call_is_what_its_script_says(
    steps: list[dict[str, Any]], presses: list[str]
) -> None:
    # Branches before their gather are no valid script, but still have their default.
    asks: dict[str, Any] = {
        "greeting": "Hello",
        "steps": check_script(
            {"greeting": "Hello", "steps": [gather("a"), gather("b"), *steps]},
        )["steps"],
    }
    keys = iter(presses)
    spoken, place = [], Place()
    while True:
        root = tree(Writer().document(asks, place, next_url))
        spoken += [str(say.text) for say in root.iter("Say")]
        if root[-1].tag == "Hangup":
            break
        read = URLS.read(root[-1].attrib["action"])
        assert read is not None
        token = URLS.token("gather", read[1])
        assert token is not None
        place, _ = answered(asks, token.place, next(keys, ""))
    assert spoken == ["Hello", *_expected(asks["steps"], iter(presses), {})]


def test_a_message_is_what_nobody_answering_hears_without_the_prompts() -> None:
    asks = script(
        gather("a"),
        {"type": "branch", "on": "a", "cases": {"1": [speak("x")]}, "default": [speak("y")]},
    )
    assert [step["text"] for _, step in walk(asks, Place()) if step["type"] == "speak"] == ["y"]
    assert [verb.text for verb in tree(Writer().message(asks))] == ["Hello", "y", None]


def test_the_script_of_an_attempt_is_the_one_that_it_was_handed() -> None:
    def handed(attempt: int, key: str, said: str | None) -> e.RecordedEvent:
        message = None if said is None else e.Message("+15550100", script=script(greeting=said))
        sent = e.StepDispatched("step:1", "voice", key, attempt, 1, "d", personal=message)
        meta = e.Meta(0, "cmd", "tick", 0)
        return e.RecordedEvent(CALL.run_id, attempt, "StepDispatched", attempt, meta, sent)

    waited = e.RecordedEvent(
        CALL.run_id, 9, "WaitCompleted", 9, e.Meta(0, "cmd", "tick", 0), e.WaitCompleted("w")
    )
    history = [
        waited,
        handed(1, "another", "Other"),
        handed(1, CALL.key, "First"),
        handed(2, CALL.key, "Second"),
        handed(3, CALL.key, None),
    ]
    found = [script_in(history, replace(CALL, attempt=number)) for number in (1, 2, 3, 4)]
    assert [each and each["greeting"] for each in found] == ["First", "Second", None, None]


# --- tokens and URLs ------------------------------------------------------------------------------


def test_a_token_comes_back_as_it_was() -> None:
    token = Token(CALL, Place((3, "1#", 0, None, 2), 2, {"a": "1*", "b": ""}))
    text = seal(SECRET, "gather", token)
    assert unseal(SECRET, "gather", text) == token


def test_a_token_is_good_for_one_secret_and_one_kind() -> None:
    text = seal(SECRET, "status", Token(CALL))
    assert unseal(SECRET + ".", "status", text) is None
    assert unseal(SECRET, "gather", text) is None


def test_no_part_of_a_seal_will_do_and_it_is_spelled_in_one_way() -> None:
    text = seal(SECRET, "status", Token(CALL))
    body, _, mac = text.partition(".")
    assert len(mac) == 22, "128 bits"
    for other in ("", mac[:4], mac[:-2], mac + "AA", f"....{mac}", mac[::-1]):
        assert unseal(SECRET, "status", f"{body}.{other}") is None
    assert unseal(SECRET, "status", f"{body}{mac}") is None


@pytest.mark.parametrize("text", ["", ".", "a.b", "é.é", "AAAA", "\x00.\x00", "=.="])
def test_no_text_that_was_not_sealed_is_a_token(text: str) -> None:
    assert unseal(SECRET, "status", text) is None


@given(st.integers(0), st.characters(min_codepoint=33, max_codepoint=126))
def test_a_token_with_one_character_changed_is_none(at: int, char: str) -> None:
    text = seal(SECRET, "voice", Token(CALL))
    at %= len(text)
    # The last character of base64 has bits that mean nothing.
    if char != text[at] and at + 1 not in (len(text), text.index(".")):
        assert unseal(SECRET, "voice", text[:at] + char + text[at + 1 :]) is None


@pytest.mark.parametrize(
    "asked",
    [
        "https://calls.example/base/{path}",
        "http://10.0.0.7:8080/{path}",
        "/{path}",
        "/other/prefix/{path}",
    ],
)
def test_a_url_is_known_whatever_a_proxy_makes_of_it(asked: str) -> None:
    public = URLS.make("status", CALL)
    path = public.removeprefix("https://calls.example/base/")
    read = URLS.read(asked.format(path=path) + "?x=1")
    assert read is not None
    assert (read[0], read[2]) == ("status", public + "?x=1")


@pytest.mark.parametrize("asked", ["/", "/status/", "/statu/abc", "//[", "/status/a b", "status"])
def test_other_urls_are_not_ours(asked: str) -> None:
    assert URLS.read(asked) is None
