"""What may enter the log, and how a refusal names the culprit without showing it."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from dee_es.core import values
from dee_es.errors import InvalidInput


def nested(depth: int) -> object:
    """A list in a list in a list, so many deep."""
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -(2**53),
        2**53,
        1.5,
        -0.0,
        5e-324,
        "",
        "Grüße 🙂 \t\r\n \u2028 \ufffe",
        [],
        {},
        (1, 2),
        MappingProxyType({"a": [{"b": None}]}),
        nested(64),
    ],
)
def test_safe_values_pass(value: object) -> None:
    values.check_value("field", value)


@pytest.mark.parametrize(
    "value, field",
    [
        ("a\0b", "field"),
        ("\ud800", "field"),
        (math.nan, "field"),
        (math.inf, "field"),
        (-math.inf, "field"),
        (2**53 + 1, "field"),
        (-(2**53) - 1, "field"),
        (10**400, "field"),
        (b"bytes", "field"),
        ({1, 2}, "field"),
        (object(), "field"),
        ({1: "a"}, "field"),
        ({"a\0": 1}, "field (a key)"),
        ({"a": {"b": [1, math.nan]}}, "field.a.b[1]"),
        ([[1], [2, "\0"]], "field[1][1]"),
        ("a" * (256 * 1024 + 1), "field"),
    ],
)
def test_poison_is_refused_by_the_path_to_it(value: object, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        values.check_value("field", value)
    assert caught.value.field == field


def test_nesting_has_a_limit_and_not_the_stack_s() -> None:
    for depth in (65, 100_000):
        with pytest.raises(InvalidInput, match="nested deeper than 64"):
            values.check_value("field", nested(depth))


@pytest.mark.parametrize("poison", ["s3cret\0", {"key": "s3cret\0"}, ["s3cret\ud800"]])
def test_a_refusal_does_not_show_the_value(poison: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        values.check_value("field", poison)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "key, shown",
    [
        ("first_name-2", "field.first_name-2"),
        ("jane@x.example", "field.(a key)"),
        ("Jane Doe", "field.(a key)"),
        ("+4930123456", "field.(a key)"),
        ("a\n", "field.(a key)"),
        ("größe", "field.(a key)"),
        ("", "field.(a key)"),
        ("a" * 65, "field.(a key)"),
    ],
)
def test_a_refusal_shows_a_key_only_if_it_is_a_plain_word(key: str, shown: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        values.check_value("field", {key: [math.nan]})
    assert caught.value.field == f"{shown}[0]"


def test_a_map_comes_back_as_a_plain_one() -> None:
    given = MappingProxyType({"a": 1})
    checked = values.check_map("field", given)
    assert checked == {"a": 1}
    assert type(checked) is dict


@pytest.mark.parametrize("value", [None, [], "a", 1, [("a", 1)]])
def test_anything_else_is_no_map(value: object) -> None:
    with pytest.raises(InvalidInput, match=r"field: must be a map") as caught:
        values.check_map("field", value)
    assert caught.value.field == "field"


@pytest.mark.parametrize("value", ["a", "A.b_c:d-9", "a" * 128])
def test_ids_are_opaque(value: str) -> None:
    assert values.check_id("id", value) == value


@pytest.mark.parametrize(
    "value", ["", "a" * 129, "a b", "a\n", "\na", "jane@example.com", "ä", "a/b", "a\0", 5, None]
)
def test_what_is_no_id(value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        values.check_id("contact.id", value)
    assert caught.value.field == "contact.id"


@pytest.mark.parametrize("value", ["", "  ", "text\n"])
def test_text_may_be_blank_unless_told(value: str) -> None:
    assert values.check_text("field", value) == value


@pytest.mark.parametrize("value", ["", "  \t\n", "\u00a0"])
def test_a_reason_must_not_be_blank(value: str) -> None:
    with pytest.raises(InvalidInput, match="blank"):
        values.check_text("reason", value, blank=False)


@pytest.mark.parametrize("value", [None, 5, b"a", ["a"], "a\0", "\ud800"])
def test_what_is_no_text(value: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        values.check_text("field", value)
    assert caught.value.field == "field"


@pytest.mark.parametrize("value", [1, 7, 10])
def test_counts(value: int) -> None:
    assert values.check_count("limit", value, most=10) == value


@pytest.mark.parametrize("value", [0, -1, 11, 1.0, "1", True, None])
def test_what_is_no_count(value: object) -> None:
    with pytest.raises(InvalidInput, match="whole number, 1 to 10") as caught:
        values.check_count("limit", value, most=10)
    assert caught.value.field == "limit"


def test_a_count_may_begin_at_zero_and_end_where_numbers_are_no_longer_exact() -> None:
    assert values.check_count("offset", 0, least=0) == 0
    assert values.check_count("offset", 2**53) == 2**53
    with pytest.raises(InvalidInput, match="1 or more"):
        values.check_count("offset", 0)
    with pytest.raises(InvalidInput, match=f"1 to {2**53}"):
        values.check_count("offset", 2**53 + 1)


@pytest.mark.parametrize(
    "value", ["https://example.com/u?c=1&x=%20#a", "http://localhost:8000", "https://[::1]/"]
)
def test_urls(value: str) -> None:
    assert values.check_url("url", value) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "example.com",
        "ftp://example.com",
        "javascript:alert(1)",
        "https://",
        "https://example.com/a b",
        "https://example.com/\r\nBcc: all@example.com",
        "https://example.com/>",
        "https://exämple.com",
        "https://example.com/" + "a" * 2000,
    ],
)
def test_what_is_no_url(value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        values.check_url("url", value)
    assert caught.value.field == "url"


def test_a_payload_has_a_largest_size() -> None:
    values.check_payload_size("event", 256 * 1024)
    with pytest.raises(InvalidInput, match="262145"):
        values.check_payload_size("event", 256 * 1024 + 1)


class Word(str):
    """Text as some libraries have it."""


class Whole(int):
    """A whole number as some libraries have it."""


class Fraction(float):
    """A fraction as some libraries have it."""


class Colour(StrEnum):
    RED = "red"


class Size(IntEnum):
    BIG = 3


def parts(value: Any) -> Iterator[Any]:
    """The value, and all that is in it."""
    yield value
    for inner in value.items() if isinstance(value, dict) else ():
        yield from (part for each in inner for part in parts(each))
    for each in value if isinstance(value, list) else ():
        yield from parts(each)


@pytest.mark.parametrize(
    "value, plain",
    [
        (Word("a"), "a"),
        (Whole(4), 4),
        (Fraction(1.5), 1.5),
        (Colour.RED, "red"),
        (Size.BIG, 3),
        (MappingProxyType({"b": (Word("c"), True, None)}), {"b": ["c", True, None]}),
        (OrderedDict(b=[Fraction(0.5)]), {"b": [0.5]}),
        ([{Word("k"): {"x": Whole(1)}}], [{"k": {"x": 1}}]),
        ((1, 2), [1, 2]),
    ],
)
def test_a_map_comes_out_in_plain_types(value: object, plain: object) -> None:
    found = values.check_map("field", {"a": value, "b": "c"})
    assert found == {"a": plain, "b": "c"}
    exact = {dict, list, str, int, float, bool, type(None)}
    assert {type(part) for part in parts(found)} <= exact
    assert msgspec.json.decode(msgspec.json.encode(found)) == found
    assert {type(key) for key in values.check_map("field", {Word("a"): 1})} == {str}


def test_a_map_is_not_the_one_that_was_given() -> None:
    given: dict[str, Any] = {"a": [1], "b": {"c": 2}}
    found = values.check_map("field", given)
    given["a"].append(2)
    given["b"]["c"] = 3
    assert found == {"a": [1], "b": {"c": 2}}
