"""Checkpoints in a git repository: a commit for each, pushed if the repository has a remote."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dee_es.adapters.anchors.files import FileAnchor, file_name
from dee_es.errors import AnchorUnavailable

_TIMEOUT_S: Final = 60


class GitAnchor:
    """An `Anchor` in the work tree of a repository; it is made if there is none."""

    def __init__(self, folder: str) -> None:
        self.place = f"git:{folder}"
        self._folder = Path(folder)
        self._files = FileAnchor(folder)

    def put(self, size: int, note: str) -> None:
        """See `Anchor.put`. What was written but not committed, or not pushed, is so now."""
        if not (self._folder / ".git").exists():
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise AnchorUnavailable(f"{self.place}: {error.strerror}") from error
            self._git("init", "--quiet")
        self._files.put(size, note)
        self._git("add", "--", file_name(size))
        if self._git("status", "--porcelain", "--", file_name(size)):
            message = f"Checkpoint of {size} entries"
            # Who commits is no matter of the machine's settings; the note is signed itself.
            self._git(
                "-c", "user.name=dee", "-c", "user.email=dee@localhost", "-c",
                "commit.gpgsign=false", "commit", "--quiet", "-m", message, "--", file_name(size),
            )  # fmt: skip
        for remote in self._git("remote").split():
            self._git("push", "--quiet", remote, "HEAD")

    def notes(self) -> Iterator[tuple[int, str]]:
        """See `Anchor.notes`."""
        return self._files.notes()

    def _git(self, *arguments: str) -> str:
        # Nothing of the caller's own repository may be meant, and nobody is there to be asked.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
        environment["GIT_TERMINAL_PROMPT"] = "0"
        try:
            done = subprocess.run(  # noqa: S603 - a fixed program, and no shell
                ["git", "-C", str(self._folder), *arguments],  # noqa: S607 - git of the path
                capture_output=True, check=False, env=environment, text=True, timeout=_TIMEOUT_S,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            kind = type(error).__name__
            raise AnchorUnavailable(f"{self.place}: git {arguments[0]}: {kind}") from error
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise AnchorUnavailable(f"{self.place}: git {arguments[0]}: {said}")
        return done.stdout
