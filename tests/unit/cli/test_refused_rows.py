"""The file for rows that were not enrolled: whose it is, and what is told if its disk is full."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from dee_es.cli.refused_rows import Refusals, refused_file

ON_LINUX = pytest.mark.skipif(
    not os.path.exists("/dev/full"), reason="only Linux has a device that is full"
)


def test_it_is_its_owners_only_and_one_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    made, there = tmp_path / "made.csv", tmp_path / "there.csv"
    there.write_text("longer than what is written now, whatever that is")
    there.chmod(0o664)
    for path in (made, there):
        with refused_file(str(path)) as file:
            Refusals(file).add(7, "c-1", "invalid", "Name: é")
        told = "line,contactId,reason,detail\n7,c-1,invalid,Name: é\n".encode()
        assert path.read_bytes() == told
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert stat.S_IMODE(there.stat().st_mode) == 0o664


@ON_LINUX
def test_a_fault_of_writing_names_the_file() -> None:
    with (
        pytest.raises(OSError, match="No space left on device: '/dev/full'"),
        refused_file("/dev/full") as file,
    ):
        Refusals(file).add(7, "c-1", "invalid", "is none")


def interrupted(refusals: Refusals) -> None:
    refusals.add(7, "c-1", "invalid", "is none")
    raise KeyError


@ON_LINUX
def test_what_went_wrong_before_is_told_first() -> None:
    with pytest.raises(KeyError), refused_file("/dev/full") as file:
        interrupted(Refusals(file))
