"""Checkpoints in a git repository: a commit for each, pushed if the repository has a remote."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from dee_es.adapters.anchors.files import FileAnchor, file_name
from dee_es.adapters.places import locked
from dee_es.errors import AnchorUnavailable

_TIMEOUT_S: Final = 60
_PATIENCE_S: Final = 10.0
"""How long another process may be at work in the folder: a push takes some seconds."""
_MERGES: Final = 5
"""How often others may push between our looking and our pushing, before that is told."""
_BEHIND: Final = ("! [rejected]", "failed to update ref", "incorrect old value", "cannot lock ref")
"""What git says if others have pushed, before our push or during it."""
_TELLING: Final = ("fatal:", "error:", "! [", "CONFLICT")
"""What lines begin with that say what is wrong; before and behind them git gives advice."""
_SURROUNDINGS: Final = {
    "GIT_TERMINAL_PROMPT": "0",  # nobody is there to be asked
    "LC_ALL": "C",  # what git says is looked through
    # Who commits is no matter of the machine's settings; the note is signed itself.
    **{f"GIT_{who}_NAME": "dee" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "dee@localhost" for who in ("AUTHOR", "COMMITTER")},
}


class GitAnchor:
    """An `Anchor` in the work tree of a repository; it is made if there is none."""

    def __init__(self, folder: str) -> None:
        self.place = f"git:{folder}"
        self._folder = Path(folder)
        self._files = FileAnchor(folder, "git:")

    def put(self, size: int, note: str) -> None:
        """See `Anchor.put`. What was written but not committed, or not pushed, is so now; what
        others have pushed meanwhile is taken in."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AnchorUnavailable(f"{self.place}: {error.strerror}") from error
        with self._alone():
            if not (self._folder / ".git").exists():
                self._git("init", "--quiet")
            self._files.put(size, note)
            name = file_name(size)
            self._git("add", "--", name)
            if self._git("status", "--porcelain", "--", name):
                message = f"Checkpoint of {size} entries"
                self._git("commit", "--quiet", "--no-gpg-sign", "-m", message, "--", name)
            for remote in self._git("remote").split():
                self._push(remote)

    def notes(self) -> Iterator[tuple[int, str]]:
        """See `Anchor.notes`."""
        return self._files.notes()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While no other process does any of this in the folder, which git would refuse."""
        try:
            folder = os.open(self._folder, os.O_RDONLY)
        except OSError as error:
            raise AnchorUnavailable(f"{self.place}: {error.strerror}") from error
        try:
            # Some network file systems lock no folders: there, git's own locks are all there is.
            with suppress(OSError):
                if not locked(folder, _PATIENCE_S):
                    raise AnchorUnavailable(f"{self.place}: another process is at work there")
            yield
        finally:
            os.close(folder)

    def _push(self, remote: str) -> None:
        for _ in range(_MERGES):
            try:
                self._git("push", "--quiet", remote, "HEAD")
            except AnchorUnavailable as error:
                if not any(each in str(error) for each in _BEHIND):
                    raise
                self._take_in(remote)
            else:
                return
        self._git("push", "--quiet", remote, "HEAD")

    def _take_in(self, remote: str) -> None:
        """Merge what others have pushed: unlike a rebase it leaves every commit what it was, so
        that several remotes come to the same."""
        if (self._folder / self._git("rev-parse", "--git-path", "MERGE_HEAD").strip()).exists():
            raise AnchorUnavailable(f"{self.place}: git merge: somebody has one under way there")
        self._git("fetch", "--quiet", remote, self._git("symbolic-ref", "HEAD").strip())
        try:
            # Two clones of an empty repository have no beginning in common.
            self._git(
                "merge", "--quiet", "--ff", "--no-gpg-sign", "--allow-unrelated-histories",
                "-m", "What others have pushed", "FETCH_HEAD",
            )  # fmt: skip
        except AnchorUnavailable as error:
            with suppress(AnchorUnavailable):  # it may not even have begun
                self._git("merge", "--abort")
            raise AnchorUnavailable(f"{error} (the folder is as it was before)") from error

    def _git(self, *arguments: str) -> str:
        # Nothing of the caller's own repository may be meant.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        try:
            done = subprocess.run(  # noqa: S603 - a fixed program, and no shell
                ["git", "-C", str(self._folder), *arguments],  # noqa: S607 - git of the path
                capture_output=True, check=False, env={**kept, **_SURROUNDINGS}, text=True,
                errors="replace", timeout=_TIMEOUT_S,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            kind = type(error).__name__
            raise AnchorUnavailable(f"{self.place}: git {arguments[0]}: {kind}") from error
        if done.returncode:
            said = _telling(f"{done.stderr}\n{done.stdout}") or f"exit code {done.returncode}"
            raise AnchorUnavailable(f"{self.place}: git {arguments[0]}: {said}")
        return done.stdout


def _telling(said: str) -> str:
    """Of all that git said the line that says what is wrong, with the names that follow it."""
    lines = [line for line in said.splitlines() if line.strip()]
    for place, line in enumerate(lines):
        if line.strip().startswith(_TELLING):
            more = lines[place + 1 :] if line.endswith(":") else ()
            names = [each.strip() for each in more if each.startswith("\t")]
            return " ".join([line.strip(), *names[:3]])
    return lines[-1] if lines else ""
