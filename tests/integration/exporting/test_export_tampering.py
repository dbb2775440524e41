"""Exports of a log that was tampered with: the offline verifier finds what they can show."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dee_es.errors import DeeError
from tests.support.evidence.exports import verify_all
from tests.support.evidence.owned_log import OwnedLog
from tests.support.evidence.owner import Kind
from tests.support.evidence.tampering import CASES

UNSHOWN = {
    # What the write side and the places keep is not in an export.
    "head_removed", "head_with_another_checksum", "head_set_back", "head_set_forward",
    "log_s_head_set_forward", "older_checkpoint_in_its_place",
    "older_checkpoint_in_its_place_in_git", "fork_of_a_size_between", "newest_checkpoint_missing",
    "all_checkpoints_missing_in_git",
    # Neither is the end of the log, nor what was cut off the end of a run and still has its place.
    "end_of_the_log_deleted", "end_of_the_log_cut_with_all_that_knows_of_it",
    "moved_to_another_run",
}  # fmt: skip
REFUSED = {
    # Nothing can be appended any more, so that no export could be recorded; or the run is gone.
    "beginning_of_the_log_deleted", "put_in_behind_the_end", "log_s_head_set_back",
    "run_removed", "run_removed_with_its_head", "run_removed_without_a_trace",
    "log_recomputed_without_a_run",
}  # fmt: skip


SQLITE_REFUSED = {
    # An entry behind the end of the log, and what no file can hold.
    "position_changed", "name_no_longer_a_text", "version_no_longer_a_number",
}  # fmt: skip


@pytest.mark.parametrize(
    # Many databases of a server take a while; what an export reads of both is the same.
    "kind",
    ["sqlite", pytest.param("postgres", marks=pytest.mark.full)],
)
def test_whatever_was_done_to_the_log(kind: Kind, tmp_path: Path, postgres_url: str) -> None:
    log = OwnedLog(kind, tmp_path / "owned", postgres_url)
    log.root.mkdir()
    log.prepare(signed=True)
    paths: list[Path] = []
    refused: dict[str, str] = {}
    out = tmp_path / "out"
    out.mkdir()
    key = shutil.copy(log.folder / "audit.key.pub", tmp_path / "key")
    names = ["untouched", *(case.name for case in CASES if kind in case.kinds)]
    for name in names:
        log.reset()
        victim = log.owner.victim[0].stream
        for case in CASES:
            if case.name == name:
                case.tamper(log.owner)
        path = out / f"{name}.zip"
        try:
            with log.reading() as engine:
                engine.audit.bundle(victim, output=path)
        except DeeError as error:
            assert not path.exists()
            refused[name] = f"{type(error).__name__}: {error}"
        else:
            paths.append(path)
    log.remove()
    verdicts = dict(
        zip((path.stem for path in paths), verify_all(paths, "--key", key.read_text()), strict=True)
    )
    valid = {name for name, (code, _) in verdicts.items() if code == 0}
    unforeseen = {name for name, (code, _) in verdicts.items() if code not in (0, 1)}
    assert valid == ({"untouched"} | UNSHOWN) & set(verdicts)
    assert not unforeseen
    also = SQLITE_REFUSED if kind == "sqlite" else set()
    assert set(refused) == (REFUSED | also) & set(names), refused
