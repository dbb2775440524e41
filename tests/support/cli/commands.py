"""`dee` as people call it: a process of its own, in a folder, in a pipe or on a terminal."""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import pty
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.cli.fork_server import FIXED, CliServer

ROOT = Path(__file__).parents[3]
PLAN = """\
id: welcome
name: Welcome
steps:
  - { id: hello, type: send_email, templateId: hello, subject: "Hello {{contact.firstName}}" }
  - { id: pause, type: wait, duration: { days: 3 } }
  - { id: done, type: end, outcome: finished }
exitConditions:
  - { when: events.hasReply(any), outcome: replied }
templates:
  hello: { text: "Hello {{contact.firstName}}, welcome to {{place}}. {{unsubscribeUrl}}" }
sender:
  address: hello@example.com
  name: Robin
  postalAddress: 1 Example Row
  unsubscribeUrl: https://example.com/unsubscribe
"""


def environment(**settings: str) -> dict[str, str]:
    """The environment without anybody's settings, and with these."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("DEE_") and name not in ("NO_COLOR", "COLUMNS", "LINES")
    }
    return {**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm", **settings}


@cache
def _server() -> CliServer:
    """What starts commands quickly, one for each process of the tests."""
    return CliServer(environment())


@cache
def _new_database(clock: str) -> Path:
    """A folder with a new database, made once: what is tested is hardly ever how it is made."""
    folder = Path(tempfile.mkdtemp(prefix="dee-cli-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Dee(folder)("init", "--clock", clock, "--epoch", "2025-03-03T08:00Z")
    return folder


@dataclass
class Dee:
    """Calls `dee` in a folder."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def command(*arguments: str | Path) -> list[str]:
        """The words that start the program."""
        return [sys.executable, "-m", "dee_es.cli", *map(str, arguments)]

    def __call__(
        self, *arguments: str | Path, code: int = 0, given: str | None = None, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command that must exit with `code`; a fault must be told without a traceback."""
        chosen = {**self.settings, **settings}
        if any(name.startswith(FIXED) for name in chosen):
            done = subprocess.run(
                self.command(*arguments),
                cwd=self.folder,
                env=environment(**chosen),
                input=given if given is not None else "",
                capture_output=True,
                encoding="utf-8",
                check=False,
            )
        else:
            words = [str(each) for each in arguments]
            done = _server().run(words, self.folder, environment(**chosen), given or "")
        assert done.returncode == code, (
            f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        assert "Traceback" not in done.stderr
        return done

    def json(self, *arguments: str | Path) -> Any:
        """What a command writes as JSON."""
        return json.loads(self(*arguments, "--json").stdout)

    def json_of(self, code: int, *arguments: str | Path) -> Any:
        """What a command that exits with `code` writes as JSON."""
        return json.loads(self(*arguments, "--json", code=code).stdout)

    def fault(self, *arguments: str | Path, code: int = 1, **settings: str) -> str:
        """The one line that a failing command says, without its `dee: `."""
        done = self(*arguments, code=code, **settings)
        assert done.stderr.startswith("dee: ")
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr.removeprefix("dee: ").rstrip("\n")

    def start(self, *arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
        """Start a command and let it run."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=environment(**self.settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            **options,
        )

    def on_terminal(
        self, *arguments: str | Path, columns: int = 100, keys: str = "", **settings: str
    ) -> tuple[int, str]:
        """Run a command on a terminal of its own; returns its exit code and all that was shown."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=environment(**self.settings, **settings),
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        if keys:
            os.write(master, keys.encode())
        shown = b""
        try:
            while chunk := os.read(master, 65_536):
                shown += chunk
        except OSError:
            # This is how the end of a terminal reads once nobody holds its other side.
            pass
        finally:
            os.close(master)
        return process.wait(), shown.decode().replace("\r\n", "\n")

    def prepared(self, *, clock: str = "manual") -> Dee:
        """The same with a database and the plan of the tests beside it."""
        (self.folder / "plan.yaml").write_text(PLAN, encoding="utf-8")
        for file in _new_database(clock).iterdir():
            shutil.copy(file, self.folder)
        return self

    def contacts(self, *rows: str, header: str = "id,email,firstName") -> Path:
        """A contacts file with these rows."""
        path = self.folder / "contacts.csv"
        path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
        return path
