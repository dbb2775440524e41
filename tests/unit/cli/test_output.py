"""Text, tables, CSV and progress as `dee` writes them."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dee_es.cli.output import Column, camel, csv_writer, plain, write_json, write_table
from dee_es.cli.progress import progress_line
from dee_es.cli.text import counted, fitted, one_line, padded, printable, printable_lines, width
from dee_es.core.printing import defused

FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")


@pytest.mark.parametrize(
    "text, shown",
    [
        ("plain", "plain"),
        ("Zoë 青空", "Zoë 青空"),
        ("\x1b[2J", "\\u001b[2J"),
        ("a\nb", "a\\nb"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\x9b31m", "\\u009b31m"),
        ("नमस्\u200dते", "नमस्\u200dते"),
        ("\U000e0041", "\\udb40\\udc41"),
    ],
)
def test_nothing_a_terminal_would_obey(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_printable_text_stays_and_json_stays_json(text: str) -> None:
    assert printable(printable(text)) == printable(text)
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in printable(text))
    written = json.dumps({"text": text}, ensure_ascii=False)
    assert json.loads(printable_lines(written)) == {"text": text}


def test_one_line() -> None:
    assert one_line("a\nb\r\nc\x07") == "a b c\\u0007"


def test_counted() -> None:
    assert [counted(n, "run") for n in (0, 1, 2_000)] == ["0 runs", "1 run", "2,000 runs"]
    assert counted(2, "entry", "entries") == "2 entries"


@pytest.mark.parametrize("text, columns", [("abc", 3), ("青空", 4), ("e\u0301", 1), ("", 0)])
def test_width(text: str, columns: int) -> None:
    assert width(text) == columns


@given(st.text(), st.integers(1, 30))
def test_what_is_fitted_fits(text: str, columns: int) -> None:
    assert width(fitted(text, columns)) <= columns
    assert width(padded(fitted(text, columns), columns)) == columns


def test_tables_are_aligned_by_what_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    columns = [Column("NAME", 3), Column("COUNT", right=True), Column("LAST")]
    write_table(columns, [("青空", 1_000, None), ("Zoë", 5, ""), ("x\ty", 12, "end")])
    assert capsys.readouterr().out.splitlines() == [
        "NAME  COUNT  LAST",
        "青空  1,000  -",
        "Zoë       5  -",
        "x\\ty     12  end",
    ]


_NO_SEMICOLON = st.characters(exclude_categories=("Cs",), exclude_characters=";")


@given(st.text(_NO_SEMICOLON), st.sampled_from(FORMULAS), st.sampled_from(["", " ", "   "]))
def test_no_cell_begins_like_a_formula(rest: str, sign: str, space: str) -> None:
    cell = defused(space + sign + rest)
    assert isinstance(cell, str)
    assert cell == "'" + printable(space + sign + rest)


@pytest.mark.parametrize(
    "text, shown",
    [
        ("x;=cmd|'/C calc'!A0;y", "x;'=cmd|'/C calc'!A0;y"),
        ("x; =1;  @y", "x;' =1;'  @y"),
        ('x;"=1+1;y', "x;'\"=1+1;y"),
        ("x;\uff1d1", "x;'\uff1d1"),
        ("=1;-1", "'=1;'-1"),
        ("x\t=1", "x\\t=1"),
        ("to be; or not = to be; 'x' - y;", "to be; or not = to be; 'x' - y;"),
    ],
)
def test_no_cell_does_where_semicolons_or_tabs_separate_them(text: str, shown: str) -> None:
    assert defused(text) == shown


@given(st.lists(st.text(alphabet=st.sampled_from("x;=-@ \"',\t+\uff1d\n"), max_size=12)))
def test_however_a_line_is_cut_no_cell_begins_like_a_formula(cells: list[str]) -> None:
    stream = io.StringIO(newline="")
    csv_writer(stream)(["first", *cells])
    for between in ",;\t":
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
            (row,) = csv.reader([stream.getvalue()], delimiter=between, quoting=quoting)
            if between == "," and quoting == csv.QUOTE_NONE:
                continue  # what nobody reads so
            # Cut where it is not meant to be, a line may leave its own end in the last cell.
            row[-1] = row[-1].removesuffix("\n")
            assert not [cell for cell in row if cell.lstrip(" ").startswith((*FORMULAS, "\uff1d"))]


def test_other_cells_stay() -> None:
    assert [defused(cell) for cell in ("a=b", 5, -5, None, {"a": 1}, "")] == [
        "a=b", 5, -5, None, '{"a": 1}', ""
    ]  # fmt: skip


@given(
    st.lists(st.text(alphabet=st.characters(exclude_categories=("Cs",), exclude_characters="\0")))
)
def test_csv_is_read_back_line_by_line(cells: list[str]) -> None:
    stream = io.StringIO(newline="")
    csv_writer(stream)(["first", *cells])
    (row,) = csv.reader(io.StringIO(stream.getvalue(), newline=""))
    assert row == ["first", *(str(defused(cell)) for cell in cells)]
    assert stream.getvalue().count("\n") == 1


@dataclass(frozen=True)
class Sample:
    first_tick: int
    time: datetime
    parts: tuple[str, ...]


def test_dataclasses_become_json(capsys: pytest.CaptureFixture[str]) -> None:
    sample = Sample(3, datetime(2025, 3, 3, tzinfo=UTC), ("a",))
    assert plain(sample) == {"firstTick": 3, "time": "2025-03-03T00:00:00Z", "parts": ["a"]}
    write_json({"samples": [sample], "text": "é\x7f"})
    written = capsys.readouterr().out
    assert json.loads(written) == {"samples": [plain(sample)], "text": "é\x7f"}
    assert "é\\u007f" in written


def test_camel_case() -> None:
    assert [camel(name) for name in ("id", "started_at", "a_b_c")] == ["id", "startedAt", "aBC"]


@pytest.mark.parametrize(
    "done, elapsed, fraction, total, line",
    [
        (1_200, 2.0, 0.25, None, "Work: 1,200 (25%), 600/s, 0:06 left"),
        (500, 1.0, 0.5, 1_000, "Work: 500 of 1,000 (50%), 500/s, 0:01 left"),
        (1, 1_000.0, 0.1, None, "Work: 1 (10%), 0/s, 2:30:00 left"),
        (7, 1.0, None, None, "Work: 7, 7/s"),
        (0, 0.0, 0.0, None, "Work: 0 (0%)"),
    ],
)
def test_progress(
    done: int, elapsed: float, fraction: float | None, total: int | None, line: str
) -> None:
    assert progress_line("Work", done, elapsed, fraction, total) == line


def test_what_was_done_before_is_no_part_of_the_rate() -> None:
    line = progress_line("Work", 600, 2.0, 0.6, 1_000, start=500)
    assert line == "Work: 600 of 1,000 (60%), 50/s, 0:08 left"
    line = progress_line("Work", 500, 2.0, 0.5, 1_000, start=500)
    assert line == "Work: 500 of 1,000 (50%), 0/s"
