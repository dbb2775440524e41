"""Lists of people not to be contacted, before the engine sees them."""

from __future__ import annotations

import io
import os

import pytest

from dee_es.cli.suppression_rows import Intake, NumberedEntry, read_entries
from dee_es.engine.models import ImportResult, SuppressionEntry
from dee_es.errors import InvalidInput


def read(data: bytes) -> list[NumberedEntry]:
    return list(read_entries(io.BufferedReader(io.BytesIO(data)), "dnc.csv"))


def test_a_list_with_a_header_is_csv() -> None:
    text = (
        "\ufeffE-Mail;Phone;Contact ID;Level;Scope;Reason;Source\r\n"
        "jane@example.com;;;;;;a form\r\n"
        "\r\n"
        ';+1 555 0100;c-1;PLAN;outreach;"asked; by phone";\r\n'
        "not one;;;;;;\r\n"
    )
    assert read(text.encode()) == [
        (2, SuppressionEntry(email="jane@example.com")),
        (
            4,
            SuppressionEntry("c-1", None, "+1 555 0100", "plan", "outreach", "asked; by phone"),
        ),
        (5, 'column "E-Mail": is not one e-mail address such as name@example.com'),
    ]


@pytest.mark.parametrize("header", ["email", "Phone", "contact_id", "id", '"e-mail"'])
def test_one_column_with_a_name_is_csv_too(header: str) -> None:
    assert [line for line, _ in read(f"{header}\n+15550100\n".encode())] == [2]


def test_a_list_without_a_header_has_one_of_them_a_line() -> None:
    text = (
        b"\xef\xbb\xbf\n  jane@example.com\r\n\n+1 (555) 01-00\n5550100\nc_1\nwho is this\n\xff\n"
    )
    nobody = "line: is no e-mail address, no telephone number and no contact's id"
    assert read(text) == [
        (2, SuppressionEntry(email="jane@example.com")),
        (4, SuppressionEntry(phone="+1 (555) 01-00")),
        (5, SuppressionEntry(phone="5550100")),
        (6, SuppressionEntry(contact_id="c_1")),
        (7, nobody),
        (8, "line: is not UTF-8 text"),
    ]


def test_a_list_with_foreign_separators_is_refused_and_ids_are_none() -> None:
    with pytest.raises(InvalidInput, match=r"^list dnc\.csv: has \| between its columns"):
        read(b"email|reason\njane@example.com|asked\n")
    assert read(b"id:5\n") == [(1, SuppressionEntry(contact_id="id:5"))]


def test_what_is_wrong_with_a_line_does_not_show_it() -> None:
    ((_, problem),) = read(b"jane@@example.com\n")
    assert problem == "email: is not one e-mail address such as name@example.com"


def test_columns_without_names_are_refused() -> None:
    with pytest.raises(InvalidInput, match="first line has to name the columns") as caught:
        read(b"jane@example.com,Jane\nben@example.com,Ben\n")
    assert "jane" not in str(caught.value).lower()


@pytest.mark.parametrize("data", [b"", b"\n \n", b"\xef\xbb\xbf\n"])
def test_an_empty_list_is_no_fault(data: bytes) -> None:
    assert read(data) == []


def test_a_line_that_is_too_long_takes_only_itself_with_it() -> None:
    found = read(b"a@example.com\n" + b"x" * 20_000 + b"\nb@example.com\n")
    assert [line for line, _ in found] == [1, 2, 3]
    assert found[1][1] == "line: is longer than 4096 bytes"
    assert found[2][1] == SuppressionEntry(email="b@example.com")


def test_a_list_can_come_through_a_pipe() -> None:
    out, into = os.pipe()
    with open(out, "rb") as stream:
        with open(into, "wb") as writer:
            writer.write(b"email\njane@example.com\n")
        assert list(read_entries(stream, "-")) == [(2, SuppressionEntry(email="jane@example.com"))]


def test_entries_are_traced_back_to_their_lines() -> None:
    rows: list[NumberedEntry] = [
        (3, SuppressionEntry("a")),
        (4, "broken"),
        (7, SuppressionEntry("b")),
        (9, SuppressionEntry("c")),
    ]
    intake = Intake(rows)
    given = intake.entries()
    assert [next(given).contact_id for _ in range(2)] == ["a", "b"]
    intake.on_error(0, InvalidInput("id", "is taken"))
    intake.on_progress(ImportResult(added=1, errors=1))
    assert [entry.contact_id for entry in given] == ["c"]
    intake.on_error(2, InvalidInput("id", "is bad"))
    assert (intake.lines, intake.errors) == (4, 3)
    assert intake.first == [(3, "id: is taken"), (4, "broken"), (9, "id: is bad")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_they_do_anywhere(end: str) -> None:
    people = [f"p{number}@example.com" for number in range(600)]
    expected = [SuppressionEntry(email=each) for each in people]
    assert [entry for _, entry in read(end.join([*people, ""]).encode())] == expected
    found = read(end.join(["", "email", *people]).encode())
    assert [entry for _, entry in found] == expected
    assert found[0][0] == 3


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("length", [4095, 4096, 4097, 2 * 4097 - 1])
def test_a_line_that_is_cut_right_at_its_end_is_one_line(length: int, end: str) -> None:
    found = read(end.join(["a@example.com", "x" * length, "b@example.com", ""]).encode())
    assert [line for line, _ in found] == [1, 2, 3]
