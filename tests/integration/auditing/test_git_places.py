"""Repositories as places of checkpoints that others write as well: nothing waits for a person."""

from __future__ import annotations

import fcntl
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dee_es import Engine, EngineConfig
from dee_es.adapters.anchors import GitAnchor
from dee_es.errors import AnchorUnavailable


def git(folder: Path, *arguments: str) -> str:
    # Who runs the tests need not be anybody to git.
    somebody = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.com")
    command = ["git", *somebody, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A repository that nobody has pushed to yet."""
    bare = tmp_path / "shared.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(bare)], check=True)
    return bare


def clone(shared: Path, name: str) -> Path:
    git(shared, "clone", "--quiet", str(shared), str(shared.parent / name))
    return shared.parent / name


def kept(shared: Path) -> set[str]:
    return set(git(shared, "ls-tree", "--name-only", "HEAD").split())


def test_two_hosts_push_what_they_sign_by_turns(shared: Path) -> None:
    """Each has a clone of its own, and neither knows what the other has pushed."""
    url = f"sqlite:///{shared.parent / 'dee.db'}"
    folders = [clone(shared, name) for name in ("first", "second")]
    sizes = []
    for turn, folder in enumerate([*folders, folders[0], folders[1]]):
        with Engine(EngineConfig(url, checkpoints=f"git:{folder}")) as engine:
            engine.suppress(f"s{turn}")
            signed = engine.audit.checkpoint()
            assert (signed.places, signed.failed) == ((f"git:{folder}",), ())
            sizes.append(signed.size)
    assert kept(shared) == {f"checkpoint-{size:020d}.txt" for size in sizes}
    said = set(git(shared, "log", "--format=%an %s").splitlines())
    signed_by = {f"dee Checkpoint of {size} entries" for size in sizes}
    assert said == {"dee What others have pushed", *signed_by}
    for folder in folders:
        assert git(folder, "status", "--porcelain") == ""
    with Engine(EngineConfig(url, checkpoints=f"git:{folders[1]}")) as engine:
        assert engine.verify_log().anchored_through == sizes[-1]


def test_a_clone_that_signs_nothing_new_takes_in_what_is_there(shared: Path) -> None:
    first, second = clone(shared, "first"), clone(shared, "second")
    GitAnchor(str(first)).put(1, "one\n")
    GitAnchor(str(second)).put(1, "one\n")
    GitAnchor(str(first)).put(2, "two\n")
    GitAnchor(str(second)).put(1, "one\n")
    assert dict(GitAnchor(str(second)).notes()) == {1: "one\n", 2: "two\n"}
    assert kept(shared) == {f"checkpoint-{size:020d}.txt" for size in (1, 2)}


def test_two_hosts_push_at_once(shared: Path) -> None:
    folders = [clone(shared, name) for name in ("first", "second")]

    def sign(host: int) -> None:
        for size in range(1 + host, 9, 2):
            GitAnchor(str(folders[host])).put(size, "note\n")

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(sign, host) for host in (0, 1)]:
            done.result()
    assert kept(shared) == {f"checkpoint-{size:020d}.txt" for size in range(1, 9)}


def test_a_push_that_the_remote_does_not_want_is_said(shared: Path) -> None:
    hook = shared / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho not today >&2; exit 1\n")
    hook.chmod(0o755)
    with pytest.raises(AnchorUnavailable, match=r"git push: ! \[remote rejected\].*hook declined"):
        GitAnchor(str(clone(shared, "first"))).put(1, "one\n")


def test_a_file_that_is_in_the_way_of_what_others_pushed_is_named(shared: Path) -> None:
    first, second = clone(shared, "first"), clone(shared, "second")
    GitAnchor(str(first)).put(1, "one\n")
    (second / "checkpoint-00000000000000000001.txt").write_text("laid here by somebody")
    with pytest.raises(AnchorUnavailable, match=r"overwritten by merge: checkpoint-0+1\.txt"):
        GitAnchor(str(second)).put(2, "two\n")


def test_several_remotes_of_which_each_has_something_of_its_own(
    shared: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(other)], check=True)
    GitAnchor(str(clone(shared, "first"))).put(1, "one\n")
    GitAnchor(str(clone(shared, "beside"))).put(1, "one\n")
    git(clone(shared, "third"), "push", "--quiet", str(other), "HEAD")
    GitAnchor(str(clone(other, "second"))).put(2, "two\n")
    both = clone(shared, "both")
    git(both, "remote", "add", "other", str(other))
    for size in (3, 4):
        GitAnchor(str(both)).put(size, "more\n")
    assert kept(shared) == kept(other) == {f"checkpoint-{size:020d}.txt" for size in (1, 2, 3, 4)}


def test_what_does_not_go_together_leaves_the_folder_as_it_was(shared: Path) -> None:
    """Another log's checkpoint has the same size: whose is right, only a person can say."""
    first, second = clone(shared, "first"), clone(shared, "second")
    GitAnchor(str(first)).put(1, "one\n")
    with pytest.raises(AnchorUnavailable) as caught:
        GitAnchor(str(second)).put(1, "of another log\n")
    told = str(caught.value)
    assert told.startswith(f"git:{second}: git merge: CONFLICT (add/add)")
    assert "as it was" in told
    assert git(second, "status", "--porcelain") == ""
    assert git(second, "log", "--format=%s").split("\n") == ["Checkpoint of 1 entries", ""]
    assert dict(GitAnchor(str(second)).notes()) == {1: "of another log\n"}
    assert dict(GitAnchor(str(first)).notes()) == {1: "one\n"}


def test_a_merge_that_somebody_has_begun_there_is_theirs(shared: Path) -> None:
    first, second = clone(shared, "first"), clone(shared, "second")
    GitAnchor(str(first)).put(1, "one\n")
    with pytest.raises(AnchorUnavailable):
        GitAnchor(str(second)).put(1, "of another log\n")
    with pytest.raises(subprocess.CalledProcessError):
        git(second, "merge", "--allow-unrelated-histories", "FETCH_HEAD")
    with pytest.raises(AnchorUnavailable, match=r"git commit: fatal: .* during a merge"):
        GitAnchor(str(second)).put(2, "two\n")
    git(second, "checkout", "--quiet", "--theirs", "--", "checkpoint-00000000000000000001.txt")
    git(second, "add", ".")
    with pytest.raises(AnchorUnavailable, match="somebody"):
        GitAnchor(str(second)).put(1, "one\n")
    assert (second / ".git" / "MERGE_HEAD").exists()


def test_git_is_told_by_the_line_that_says_what_is_wrong(tmp_path: Path) -> None:
    anchor = GitAnchor(str(tmp_path))
    anchor.put(1, "one\n")
    (tmp_path / ".git" / "index.lock").touch()
    with pytest.raises(AnchorUnavailable) as caught:
        anchor.put(2, "two\n")
    assert str(caught.value).startswith(f"git:{tmp_path}: git add: fatal: Unable to create ")
    assert str(tmp_path / ".git" / "index.lock") in str(caught.value)


def test_several_processes_share_a_folder(shared: Path) -> None:
    """Git itself refuses whoever comes while another is at work."""
    folder = clone(shared, "folder")
    with ThreadPoolExecutor(4) as threads:
        done = [threads.submit(GitAnchor(str(folder)).put, 1 + n // 2, "note\n") for n in range(8)]
    for each in done:
        each.result()
    assert kept(shared) == {f"checkpoint-{size:020d}.txt" for size in (1, 2, 3, 4)}


def test_a_file_that_cannot_be_written_is_told_of_the_place(tmp_path: Path) -> None:
    anchor = GitAnchor(str(tmp_path))
    anchor.put(1, "one\n")
    with (tmp_path / f".checkpoint-{2:020d}.txt.part").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(AnchorUnavailable, match=rf"^git:{tmp_path}: .* written by another"):
            anchor.put(2, "two\n")
