"""Lists of keys and of numbers arrive at PostgreSQL as they were given."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dee_es.adapters.storage.postgres import PostgresStore, open_postgres
from dee_es.adapters.storage.postgres.arrays import Blobs, Booleans, Integers, Texts
from tests.support.storage.postgres import FreshPostgres

_ANY = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
# Whatever means something in the literal of an array.
_MARKS = st.sampled_from("\"\\{},' \t\nNULnul")
_TEXTS = st.lists(st.text(_ANY) | st.text(_MARKS))
_NUMBERS = st.lists(st.integers(-(2**63), 2**63 - 1))
_held = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture
def store(fresh_postgres: FreshPostgres) -> Iterator[PostgresStore]:
    """A store on an empty database."""
    store, _ = open_postgres(fresh_postgres())
    yield store
    store.close()


def _back(store: PostgresStore, kind: str, items: list[object]) -> list[object]:
    """The items as the server has understood them."""
    asked = f"SELECT * FROM unnest(CAST(? AS {kind}[])) WITH ORDINALITY AS t (item, n) ORDER BY n"
    return [item for item, _ in store.database.query(asked, (items,))]


@_held
@given(_TEXTS)
@example([""])
@example(["NULL", "null", '"', "\\", '\\"', '","', "{}", "a,b", " a "])
@example(["\\" * 3 + '"'] * 3)
def test_texts(store: PostgresStore, texts: list[object]) -> None:
    assert _back(store, "text", texts) == texts


@_held
@given(_NUMBERS)
def test_numbers(store: PostgresStore, numbers: list[object]) -> None:
    assert _back(store, "int8", numbers) == numbers


@_held
@given(st.lists(st.text(_ANY) | st.text(_MARKS) | st.none()))
@example([None])
@example([None, "NULL", "null", '"', None, "\\", '\\"', '","', ""])
def test_a_column_of_texts(store: PostgresStore, texts: list[object]) -> None:
    assert _back(store, "text", Texts(texts)) == texts


@_held
@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.none()))
@example([None])
def test_a_column_of_numbers(store: PostgresStore, numbers: list[object]) -> None:
    assert _back(store, "int8", Integers(numbers)) == numbers


@_held
@given(st.lists(st.booleans() | st.none()))
def test_a_column_of_truths(store: PostgresStore, truths: list[object]) -> None:
    assert _back(store, "bool", Booleans(truths)) == truths


@_held
@given(st.lists(st.binary() | st.none()))
@example([b"\\x00", b"\0", b"", None])
def test_a_column_of_bytes(store: PostgresStore, blobs: list[object]) -> None:
    assert _back(store, "bytea", Blobs(blobs)) == blobs


@pytest.mark.parametrize(
    "kind, items",
    [
        ("text", ["a", None, '"']),
        ("int8", [1, None]),
        ("bytea", [b"\\x00", b"\0", b""]),
        ("bytea", [b"a", None]),
        ("bool", [True, False]),
        ("text", [None]),
    ],
)
def test_what_else_there_is(store: PostgresStore, kind: str, items: list[object]) -> None:
    assert _back(store, kind, items) == items


@pytest.mark.parametrize("items", [["\0"], ["a", 'b"\0c'], Texts([None, "a\0"])])
def test_a_text_that_no_table_can_hold_is_refused(
    store: PostgresStore, items: list[object]
) -> None:
    with pytest.raises(psycopg.DataError, match="NUL"):
        _back(store, "text", items)
