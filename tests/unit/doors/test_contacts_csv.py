"""Contacts from CSV: what people's exports look like, and what is refused how."""

from __future__ import annotations

import io
import tracemalloc
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from dee_es.doors import contacts_csv
from dee_es.doors.contacts_csv import CsvContact, CsvRefusal, CsvRow, read_contacts
from dee_es.doors.contacts_header import Kind, camel_case
from dee_es.errors import InvalidInput


def rows(text: str | bytes) -> list[CsvRow]:
    data = text.encode() if isinstance(text, str) else text
    return list(read_contacts(io.BytesIO(data)))


def only(text: str | bytes) -> CsvRow:
    (row,) = rows(text)
    return row


def contact(line: int = 2, **given: object) -> CsvContact:
    fields: dict[str, object] = dict.fromkeys(("id", "email", "phone", "timezone"))
    return CsvContact(**{"line": line, "attributes": {}, **fields, **given})  # type: ignore[arg-type]


class TestHeader:
    @pytest.mark.parametrize(
        "header",
        [
            "id,email,phone,timezone,first_name",
            "contactId,emailAddress,phoneNumber,timeZone,firstName",
            "Contact ID,E-mail,Phone Number,Time Zone,First Name",
            "CONTACT_ID,Email Address,MOBILE,TZ,FIRST_NAME",
            '"Id" , "e-mail address", mobile phone ,"tz","FirstName"',
        ],
    )
    def test_every_spelling_means_the_same(self, header: str) -> None:
        assert only(f"{header}\nc1,a@example.com,+1 555-0100,Europe/Paris,Ann\n") == contact(
            id="c1",
            email="a@example.com",
            phone="+1 555-0100",
            timezone="Europe/Paris",
            attributes={"firstName": "Ann"},
        )

    def test_columns_come_in_any_order(self) -> None:
        assert only("City,Email,ID\nRome,a@example.com,c1") == contact(
            id="c1", email="a@example.com", attributes={"city": "Rome"}
        )

    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    def test_delimiter_is_read_from_the_header(self, delimiter: str) -> None:
        text = f'"a;b,c"{delimiter}email\nx{delimiter}a@example.com\n'
        assert only(text) == contact(email="a@example.com", attributes={"aBC": "x"})

    @pytest.mark.parametrize(
        "header, delimiter",
        [
            ("email;Last, first, second name", ";"),
            ("id\tNotes (a, b; c)", "\t"),
            ("Notes; more; most,mobile", ","),
            ("email", ","),
        ],
    )
    def test_a_delimiter_is_what_an_address_stands_between(
        self, header: str, delimiter: str
    ) -> None:
        assert read_contacts(io.BytesIO(header.encode())).columns.delimiter == delimiter

    @pytest.mark.parametrize("foreign", "|^~")
    def test_a_foreign_delimiter_is_named(self, foreign: str) -> None:
        file = io.BytesIO(f"Name{foreign}E-mail\n".encode())
        with pytest.raises(InvalidInput) as raised:
            read_contacts(file)
        said = f"has {foreign} between its columns; save it with commas, semicolons or tabs there"
        assert raised.value.problem == said

    def test_mobile_is_an_attribute_beside_a_phone(self) -> None:
        assert only("Mobile,Phone\n+15550101,+15550102") == contact(
            phone="+15550102", attributes={"mobile": "+15550101"}
        )

    def test_blank_lines_may_come_first(self) -> None:
        assert only("\ufeff\r\n\r\nemail\r\na@example.com\r\n") == contact(4, email="a@example.com")

    @pytest.mark.parametrize(
        "name, attribute",
        [
            ("First Name", "firstName"),
            ("first_name", "firstName"),
            ("FirstName", "firstName"),
            ("LTV", "ltv"),
            ("HTMLBody", "htmlBody"),
            ("Company (Legal)", "companyLegal"),
            ("2nd address", "2ndAddress"),
            ("Prénom", "prénom"),
            ("नाम", "नाम"),
        ],
    )
    def test_attribute_names(self, name: str, attribute: str) -> None:
        assert camel_case(name) == attribute


class TestFileProblems:
    @pytest.mark.parametrize(
        "data, problem",
        [
            (b"", "is empty"),
            (b"\xef\xbb\xbf\r\n \r\n", "is empty"),
            (b"name,city\nAnn,Rome\n", "no column named id, email or phone"),
            (b"email,E-Mail\n", 'two columns of one meaning, "email" and "E-Mail"'),
            (b"id,First Name,first_name\n", 'two columns of one meaning, "First Name"'),
            (b'id,"email\na@example.com\n', "quote opened in column 2 on line 1"),
            ("id,email\n".encode("utf-16"), "not UTF-8"),
            ("id,email\n".encode("utf-16-le"), "not UTF-8"),
            (b"id,Pr\xe9nom\n", "not UTF-8"),
        ],
    )
    def test_file_is_refused_at_once(self, tmp_path: Path, data: bytes, problem: str) -> None:
        path = tmp_path / "people.csv"
        path.write_bytes(data)
        with pytest.raises(InvalidInput, match=problem) as caught:
            read_contacts(path)
        assert "people.csv" in str(caught.value)

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match=r"nowhere\.csv: cannot be read: No such file"):
            read_contacts(tmp_path / "nowhere.csv")

    def test_data_in_place_of_a_header_is_not_shown(self) -> None:
        with pytest.raises(InvalidInput) as caught:
            read_contacts(io.BytesIO(b"Ann,ann@example.com,Ann\n"))
        assert "ann" not in str(caught.value).lower()


class TestRecords:
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("mark", ["", "\ufeff"])
    def test_line_ends_quotes_and_line_numbers(self, end: str, mark: str) -> None:
        lines = [
            f"{mark}id,note,city",
            'c1,"one, two","""Rome"""',
            "",
            'c2,"first',
            'second","third',
            '"',
            "c3,,Oslo",
        ]
        assert rows(end.join(lines)) == [
            contact(2, id="c1", attributes={"note": "one, two", "city": '"Rome"'}),
            contact(4, id="c2", attributes={"note": f"first{end}second", "city": "third"}),
            contact(7, id="c3", attributes={"city": "Oslo"}),
        ]

    def test_blank_records_are_ignored(self) -> None:
        assert only('id,city\n\n   \n,,,\n"",""\nc1,Rome\n\n') == contact(
            6, id="c1", attributes={"city": "Rome"}
        )

    def test_quotes_inside_a_field_stand_for_themselves(self) -> None:
        row = only('id,size\nc1,6" pipe "x"\n')
        assert row == contact(id="c1", attributes={"size": '6" pipe "x"'})

    def test_white_space_around_values_and_quotes_is_dropped(self) -> None:
        row = only('id, email\n c1\u00a0,  "a@example.com"  \n')
        assert row == contact(id="c1", email="a@example.com")

    def test_empty_cells_that_a_spreadsheet_leaves_are_forgiven(self) -> None:
        assert rows("id,city,,\nc1,Rome\nc2,Oslo,,,,\n") == [
            contact(2, id="c1", attributes={"city": "Rome"}),
            contact(3, id="c2", attributes={"city": "Oslo"}),
        ]

    def test_international_names_stay_as_they_are(self) -> None:
        for name in ("Zoë", "Наталья", "李小龙", "محمد", "Ὀδυσσεύς", "👩‍🚀", "नीला"):
            assert only(f"id,name\nc1,{name}\n") == contact(id="c1", attributes={"name": name})


class TestRefusals:
    @pytest.mark.parametrize(
        "record, reason",
        [
            (b"c2", "record: has 1 of 3 columns"),
            (b"c2,a@example.com,x,y", "record: has 4 columns instead of 3"),
            (b"c2,nonsense,x", 'column "E-mail": is not one e-mail address'),
            (b"c 2,,x", 'column "Id": must be 1 to 128 characters'),
            (b",,x", "record: has neither an id nor"),
            (b"c2,,J\xfcrgen", 'column "Name": holds bytes that are not UTF-8'),
            (b"c2,,a\0b", 'column "Name": holds a NUL byte'),
            (b'c2,,"x"y', "the quote opened in column 3 on line 3 is followed by text"),
            (b"c2,," + b"x" * 262_145, "column 3 is longer than 262144 characters"),
            (b'c2,,"' + b"x" * 262_145 + b'"', "not closed within 262144 characters"),
            (
                b'c2,,"' + b"x" * 262_000 + b'","' + b"x" * 900_000,
                "the record is longer than 1048576 characters",
            ),
            (b'c2,"\n' + b'x","\n' * 9, "on lines 3 to 13 has 11 columns"),
        ],
    )
    def test_one_bad_record_never_stops_the_rest(self, record: bytes, reason: str) -> None:
        data = b"Id,E-mail,Name\nc1,,Ann\n" + record + b"\nc3,,Bob\n"
        if b'","\n' in record:
            data = data.replace(b"\nc3", b'"\nc3')
        first, refusal, last = rows(data)
        assert isinstance(refusal, CsvRefusal)
        assert (refusal.line, reason in refusal.reason) == (3, True), refusal.reason
        assert first == contact(2, id="c1", attributes={"name": "Ann"})
        assert last == contact(4 + record.count(b"\n"), id="c3", attributes={"name": "Bob"})

    def test_bad_phone(self) -> None:
        assert only("Phone Number\nring me\n") == CsvRefusal(
            2, 'column "Phone Number": is not a telephone number such as +15550100'
        )

    def test_value_without_a_column_name(self) -> None:
        assert only("id,,city\nc1,x,Rome") == CsvRefusal(
            2, "column 2: has a value but no name in the header"
        )

    @pytest.mark.parametrize(
        "more, kind",
        [
            ("," * 200_000, CsvContact),
            ("".join(f",c{n}" for n in range(100_000)), CsvRefusal),
        ],
        ids=["nameless", "named"],
    )
    def test_a_record_costs_what_it_holds_however_many_columns_there_are(
        self, more: str, kind: type[CsvRow]
    ) -> None:
        """A file of 50 MiB has room for as many, and for millions of short records behind them."""
        found = rows(f"id{more}\n" + "c1\n" * 50_000)
        assert len(found) == 50_000
        assert {type(row) for row in found} == {kind}

    @pytest.mark.parametrize("records", [10, 5_000, 50_000])
    def test_a_quote_that_is_never_closed_takes_only_its_own_line(self, records: int) -> None:
        stray = records // 2
        text = "id,city\n" + "".join(
            f'c{n},"Rome\n' if n == stray else f'c{n},"Oslo"\n' if n < stray else f"c{n},Oslo\n"
            for n in range(records)
        )
        found = rows(text)
        assert len(found) == records
        refused = [row for row in found if isinstance(row, CsvRefusal)]
        assert [row.line for row in refused] == [stray + 2]
        assert f"column 2 on line {stray + 2} is not closed" in refused[0].reason

    def test_a_quote_open_for_too_many_lines_counts_as_never_closed(self) -> None:
        text = 'id,city\nc1,"Rome\n' + "c2,Oslo\n" * contacts_csv.MAX_RECORD_LINES + '"\n'
        first, *rest = rows(text)
        assert first == CsvRefusal(2, "the quote opened in column 2 on line 2 is not closed")
        assert sum(isinstance(row, CsvContact) for row in rest) == contacts_csv.MAX_RECORD_LINES

    def test_a_file_with_wrong_quotes_on_every_line_is_read_to_its_end(self) -> None:
        found = rows("id,city\n" + 'c1","Rome\n' * 3_000)
        assert len(found) == 3_000
        assert {type(row) for row in found} == {CsvRefusal}
        assert found[0] == CsvRefusal(2, "the record has more than 20 columns")

    def test_the_line_of_the_quote_is_named_not_only_that_of_the_record(self) -> None:
        refusal = rows('id,note,city\nc1,"two\nlines","Rome\nc2,,Oslo\n')[0]
        assert refusal == CsvRefusal(2, "the quote opened in column 3 on line 3 is not closed")


class TestStreams:
    def test_stream_is_left_open(self) -> None:
        stream = io.BytesIO(b"id\nc1\n")
        assert len(list(read_contacts(stream))) == 1
        assert not stream.closed

    def test_file_is_closed_when_the_reader_stops_early(self, tmp_path: Path) -> None:
        path = tmp_path / "people.csv"
        path.write_text("id\nc1\nc2\n")
        found = read_contacts(path)
        next(found)
        # Left to the collector: an open file would be a ResourceWarning, which fails the test.
        del found

    def test_memory_does_not_grow_with_the_file(self) -> None:
        tracemalloc.start()
        try:
            deque(read_contacts(_Endless(1_000)), maxlen=0)  # type: ignore[arg-type]
            tracemalloc.reset_peak()
            deque(read_contacts(_Endless(10_000)), maxlen=0)  # type: ignore[arg-type]
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 300_000

    def test_a_file_without_line_ends_is_read_in_pieces(self) -> None:
        stream = io.BytesIO(b"id,city\nc1," + b"x" * (5 * contacts_csv.MAX_RECORD) + b"\nc2,Rome")
        assert [(row.line, type(row)) for row in read_contacts(stream)] == [
            (2, CsvRefusal),
            (3, CsvContact),
        ]


class _Endless(io.RawIOBase):
    """A file of `records` records that nowhere exists as a whole."""

    def __init__(self, records: int) -> None:
        self._parts = self._make(records)
        self._rest = b""

    @staticmethod
    def _make(records: int) -> Iterator[bytes]:
        yield b"id,email,First Name\n"
        for number in range(records):
            yield b'c%d,c%d@example.com,"Ann, ""the"" %d"\n' % (number, number, number)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._rest:
            self._rest = next(self._parts, b"")
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


# --- columns that hold no text --------------------------------------------------------------------


def test_named_columns_hold_numbers_or_true_and_false() -> None:
    data = b"id,Staff Count,vip,zip\na,1200,Yes,0049\nb,-3.5,0,1\nc,,,\n"
    found = read_contacts(io.BytesIO(data), {"staff count": "number", "vip": "boolean"})
    people = [row for row in found if isinstance(row, CsvContact)]
    assert [person.attributes for person in people] == [
        {"staffCount": 1200, "vip": True, "zip": "0049"},
        {"staffCount": -3.5, "vip": False, "zip": "1"},
        {},
    ]
    assert [type(person.attributes["staffCount"]) for person in people[:2]] == [int, float]
    assert found.columns.attributes[0] == ("staffCount", 1, "number")


@pytest.mark.parametrize("text", ["many", "1,200", "1e5", "0x1f", "inf", "nan", "1.", "9" * 17])
def test_a_cell_that_is_no_number_refuses_its_row_alone_and_is_not_shown(text: str) -> None:
    data = f'id,staff\na,"{text}"\nb,7\n'.encode()
    refused, taken = read_contacts(io.BytesIO(data), {"staff": "number"})
    assert isinstance(refused, CsvRefusal)
    assert isinstance(taken, CsvContact)
    assert (refused.line, 'column "staff"' in refused.reason) == (2, True)
    assert text not in refused.reason
    assert taken.attributes == {"staff": 7}


def test_a_cell_that_is_neither_true_nor_false_refuses_its_row() -> None:
    (refused,) = read_contacts(io.BytesIO(b"id,vip\na,perhaps\n"), {"vip": "boolean"})
    assert refused == CsvRefusal(2, 'column "vip": is none of true, yes, 1, false, no, 0')


def test_a_column_is_known_by_any_spelling_of_its_name_and_holds_one_kind() -> None:
    content = b"id,Employee Count\nn1,12\n"
    (found,) = read_contacts(io.BytesIO(content), {"employeecount": "number"})
    assert isinstance(found, CsvContact)
    assert found.attributes == {"employeeCount": 12}
    both: dict[str, Kind] = {"Employee Count": "number", "employee_count": "boolean"}
    with pytest.raises(InvalidInput, match="cannot be number and boolean"):
        read_contacts(io.BytesIO(content), both)


@pytest.mark.parametrize("name", ["none", "id", "email", "", "-", "!!"])
def test_a_column_that_is_no_attribute_cannot_hold_numbers(name: str) -> None:
    with pytest.raises(InvalidInput, match=f'no column "{name}" of an attribute'):
        read_contacts(io.BytesIO(b"id,email,staff\n"), {name: "number"})
