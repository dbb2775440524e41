"""Whatever a file holds, its reader gives rows or one clear error, and shows nobody's data."""

from __future__ import annotations

import csv
import io
from contextlib import suppress

from hypothesis import assume, given
from hypothesis import strategies as st

from dee_es.doors.contacts_csv import CsvContact, CsvRefusal, read_contacts
from dee_es.errors import InvalidInput

# No surrogates (they have no UTF-8 form) and no NUL, which is refused by design.
values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
records = st.lists(st.tuples(values, values), max_size=12)


@given(
    records,
    st.sampled_from(",;\t"),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["", "\ufeff"]),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_what_was_written_is_read(
    given_records: list[tuple[str, str]], delimiter: str, end: str, mark: str, quoting: int
) -> None:
    # The writer leaves a line end of another kind bare, which nobody could read back.
    if quoting == csv.QUOTE_MINIMAL:
        assume(
            not any(char in value for char in "\r\n" for pair in given_records for value in pair)
        )
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerow(["id", "City", "note"])
    starts = []
    for number, (city, note) in enumerate(given_records):
        starts.append(_lines(text.getvalue()))
        writer.writerow([f"c{number}", city, note])
    found = list(read_contacts(io.BytesIO((mark + text.getvalue()).encode())))
    assert found == [
        CsvContact(
            line=line,
            id=f"c{number}",
            email=None,
            phone=None,
            timezone=None,
            attributes={
                name: value.strip()
                for name, value in (("city", city), ("note", note))
                if value.strip()
            },
        )
        for number, ((city, note), line) in enumerate(zip(given_records, starts, strict=True))
    ]


def _lines(text: str) -> int:
    """The number of the physical line that starts at the end of `text`."""
    return len(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))


@given(st.binary(max_size=300))
def test_any_bytes_give_rows_and_no_other_error(data: bytes) -> None:
    total = len(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"))
    found = list(read_contacts(io.BytesIO(b"email,phone,city\n" + data)))
    lines = [row.line for row in found]
    assert lines == sorted(set(lines))
    assert all(2 <= line <= total + 1 for line in lines)


@given(st.text(st.sampled_from('a",;\r\n\t '), max_size=60))
def test_no_line_is_lost_whatever_the_quotes_do(text: str) -> None:
    """No quote comes after the last record, so nothing before it may take it in."""
    data = f'id,city\n{text}"\n"\nlast,Rome\n'.encode()
    last = list(read_contacts(io.BytesIO(data)))[-1]
    assert isinstance(last, CsvContact)
    assert (last.id, last.attributes) == ("last", {"city": "Rome"})


@given(st.binary(max_size=200))
def test_any_file_is_read_or_refused_as_a_whole(data: bytes) -> None:
    with suppress(InvalidInput):
        list(read_contacts(io.BytesIO(data)))


@given(st.text("xyzXYZ0123456789@.- ", min_size=12, max_size=40))
def test_a_reason_never_shows_the_value(value: str) -> None:
    for header in ("email", "phone", "id"):
        for row in read_contacts(io.BytesIO(f"{header}\n{value}\n".encode())):
            if isinstance(row, CsvRefusal):
                assert value.strip() not in row.reason
