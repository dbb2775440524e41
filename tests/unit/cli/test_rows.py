"""Rows of contacts files and lines of events files, before the engine sees them."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from dee_es import Engine
from dee_es.cli.event_lines import MAX_LINE, EventLine, parse_line, read_batches
from dee_es.cli.options import pairs_option
from dee_es.cli.refused_rows import SHOWN, Refusals
from dee_es.doors.contacts_csv import CsvContact, CsvRefusal
from dee_es.doors.enroll_rows import Dedupe, Intake, address_digest
from dee_es.engine.models import Refusal
from dee_es.errors import InvalidInput


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(":memory:") as engine:
        yield engine


def row(
    line: int, id: str | None = None, email: str | None = None, phone: str | None = None
) -> Any:
    return CsvContact(line, id, email, phone, None, {})


def intake_of(
    engine: Engine, rows: list[Any], dedupe: Dedupe = "address", batch: int = 100
) -> tuple[Intake, list[str], Refusals]:
    refusals = Refusals()
    intake = Intake(engine, rows, dedupe, refusals, batch)
    return intake, [contact.id for contact in intake.contacts()], refusals


def test_equal_addresses_have_equal_digests() -> None:
    assert address_digest("Ada@Example.com", None) == address_digest("ada@example.COM", "+15550100")
    assert address_digest(None, "+1 (555) 0100") == address_digest(None, "0015550100")
    assert address_digest(None, None) is None
    digest = address_digest("a@b.example", None)
    assert digest is not None
    assert len(digest) == 16


def test_the_first_row_with_an_address_is_the_contact(engine: Engine) -> None:
    rows = [
        row(2, "a", "x@example.com"),
        row(3, "b", "X@example.com"),
        row(4, None, "x@EXAMPLE.com"),
        row(5, "c", None, "+1 555 0100"),
        row(6, "d", "y@example.com", "+1 555 0100"),
        row(7, "e", None, "+1-555-0100"),
        row(8, "f"),
        row(9, "f"),
    ]
    intake, ids, refusals = intake_of(engine, rows)
    # Two with one number and different mailboxes are two people at one switchboard.
    assert ids == ["a", "c", "d", "f", "f"]
    assert (intake.rows, intake.duplicates, intake.refused) == (8, 3, 0)
    assert refusals.counts == {"already_enrolled": 3}
    intake, ids, _ = intake_of(engine, rows, "id")
    assert (len(ids), intake.duplicates) == (8, 0)


def test_a_row_that_is_not_valid_claims_no_address(engine: Engine) -> None:
    bad = CsvContact(2, "a", "x@example.com", None, "\ud800", {})
    intake, ids, _ = intake_of(engine, [bad, row(3, "b", "x@example.com")])
    assert ids == ["b"]
    assert (intake.refused, intake.duplicates) == (1, 0)


def test_rows_without_an_id_get_a_stable_one(engine: Engine) -> None:
    _, ids, _ = intake_of(
        engine, [row(2, None, "Ada@example.com"), row(3, None, None, "+15550100")]
    )
    assert ids == [
        engine.contact_id_for(email="ada@example.com"), engine.contact_id_for(phone="+15550100")
    ]  # fmt: skip
    assert "example" not in ids[0]


def test_refusals_of_the_engine_get_their_line(engine: Engine) -> None:
    intake, _, refusals = intake_of(engine, [row(2, "a"), row(3, "b"), row(4, "a")], batch=1)
    stream = io.StringIO()
    refusals.stream = stream
    refusals.__post_init__()
    intake.on_refusal(Refusal("a", "already_enrolled", "given twice"))
    intake.on_refusal(Refusal("b", "suppressed", "suppressed: global"))
    intake.on_refusal(Refusal("gone", "suppressed", "suppressed: global"))
    assert stream.getvalue().splitlines() == [
        "line,contactId,reason,detail",
        "4,a,already_enrolled,given twice",
        "3,b,suppressed,suppressed: global",
        ",gone,suppressed,suppressed: global",
    ]


def test_lines_are_remembered_for_batches_in_flight_only(engine: Engine) -> None:
    intake, _, _ = intake_of(engine, [row(n, f"c{n}") for n in range(1_000)], batch=10)
    assert intake._lines.take("c999") == 999
    assert intake._lines.take("c0") is None
    assert len(intake._lines._lines) <= 30


def test_few_refusals_are_shown_and_all_counted(engine: Engine) -> None:
    rows = [CsvRefusal(n, "record: has 1 of 3 columns") for n in range(100)]
    _, ids, refusals = intake_of(engine, rows)
    assert ids == []
    assert (len(refusals.first), refusals.counts["invalid"]) == (SHOWN, 100)


@pytest.mark.parametrize(
    "line, field",
    [
        (b"", "line"),
        (b"[]", "line"),
        (b"{\xff}", "line"),
        (b'{"type": NaN}', "line"),
        (b"[" * 100_000, "line"),
        (b'{"type": "x"}' + b" " * MAX_LINE, "line"),
        (b"{}", "type"),
        (b'{"type": 5}', "type"),
        (b'{"type": "x", "contactId": 5}', "contactId"),
        (b'{"type": "x", "data": []}', "data"),
        (b'{"type": "x", "occurredAt": "2025-03-01T00:00:00"}', "occurredAt"),
        (b'{"type": "x", "at": "1d"}', "field 'at'"),
    ],
)
def test_lines_that_are_no_events(line: bytes, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_line(line)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "line",
    [
        b'{"type": "email.unsubscribed", "contactId": "c-1", "contactId": "c-2"}',
        b'{"type": "email.unsubscribed", "contactId": "c-1", "data": {"a": {"b": 1, "b": 2}}}',
    ],
)
def test_a_field_that_is_named_twice_is_refused(line: bytes) -> None:
    """Readers differ in which of the two values counts."""
    with pytest.raises(InvalidInput, match="names a field twice"):
        parse_line(line)


def test_lines_of_events() -> None:
    text = json.dumps(
        {
            "type": "email.opened",
            "contactId": "c-1",
            "data": {"a": 1},
            "occurredAt": "2025-03-01T01:00:00+01:00",
        }
    )
    (found,) = read_batches(io.BytesIO(b"\n" + text.encode() + b"\r\n" + b"oops\n"))
    assert [number for number, _ in found] == [2, 3]
    event = found[0][1]
    assert not isinstance(event, InvalidInput)
    assert (event.contact_id, event.data) == ("c-1", {"a": 1})
    assert event.occurred_at == datetime(2025, 3, 1, tzinfo=UTC)
    assert parse_line(b'{"type": "x", "at": "1d"}', also=frozenset({"at"})).type == "x"


def test_lines_come_in_batches_of_a_bounded_size() -> None:
    text = b"".join(b'{"type": "t%d"}\n' % number for number in range(1, 8))
    batches = list(read_batches(io.BytesIO(text.removesuffix(b"\n")), 3))
    assert [[number for number, _ in batch] for batch in batches] == [[1, 2, 3], [4, 5, 6], [7]]
    types = [event.type for batch in batches for _, event in batch if isinstance(event, EventLine)]
    assert types == [f"t{number}" for number in range(1, 8)]


def test_a_line_that_comes_slowly_is_passed_on_as_soon_as_it_is_whole() -> None:
    out, into = os.pipe()
    with open(out, "rb") as stream, open(into, "wb", buffering=0) as writer:
        batches = read_batches(stream)
        writer.write(b'{"type": "a"}\n{"type": "b"')
        assert [number for number, _ in next(batches)] == [1]
        writer.write(b"}\n")
        assert [number for number, _ in next(batches)] == [2]


def test_a_line_that_is_too_long_takes_only_itself_with_it() -> None:
    long = b'{"type": "%s"}\n' % (b"x" * 3 * MAX_LINE)
    found = [
        pair for batch in read_batches(io.BytesIO(long + b'{"type": "a"}\n')) for pair in batch
    ]
    assert [number for number, _ in found] == [1, 2]
    assert isinstance(found[0][1], InvalidInput)
    assert "longer" in str(found[0][1])
    assert isinstance(found[1][1], EventLine)


def test_pairs() -> None:
    read = pairs_option(None, None, ("a=1", "b=x=y", 'c={"d": [true]}', "e=", "f=01", "g=NaN"))  # type: ignore[arg-type]
    assert read == {"a": 1, "b": "x=y", "c": {"d": [True]}, "e": "", "f": "01", "g": "NaN"}
