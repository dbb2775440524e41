"""What is told of a disk that has no room left, with what SQLite itself says of it."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dee_es.adapters.sqlite_files import told_of_file


def refusal(path: Path, sql: str) -> sqlite3.Error:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.execute("PRAGMA max_page_count = 3")
        with pytest.raises(sqlite3.Error) as caught:
            connection.execute(sql)
        return caught.value


def test_a_file_that_cannot_grow_is_told_with_the_room_there_is(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    told = told_of_file(path, refusal(path, "INSERT INTO t VALUES (zeroblob(100000))"))
    assert re.fullmatch(
        r"database or disk is full, with [0-9.,]+ [KMGT]iB free on its disk: make room there, or "
        r"raise the quota, then try again",
        told,
    ), told


def test_anything_else_is_told_as_sqlite_has_it(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    assert told_of_file(path, refusal(path, "INSERT INTO u VALUES (1)")) == "no such table: u"


def test_where_there_is_no_folder_no_room_is_told(tmp_path: Path) -> None:
    error = refusal(tmp_path / "a.db", "INSERT INTO t VALUES (zeroblob(100000))")
    assert told_of_file(tmp_path / "gone" / "a.db", error).startswith(
        "database or disk is full: make"
    )
