"""kill -9 while something is given out, at every step and in every form: run again, same end
state, nothing half done is believed, and nothing leaves unrecorded."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest
from pypdf import PdfReader
from pypdf.errors import PyPdfError

from dee_es import Engine, EngineConfig
from dee_es.core.events import LogExported
from dee_es.core.ids import SYSTEM_STREAM
from dee_es.engine.portable.run_file import read_run_file
from tests.support.cli.commands import environment
from tests.support.counts import FULL
from tests.support.engines import DAY, EPOCH, outreach, publish_basics
from tests.support.evidence.exports import verify_all

ROOT: Final = Path(__file__).parents[3]
DECISIVE: Final = re.compile("(before|after) (commit|fsync|replace|link|unlink)")
"""Steps between which it is decided what there is."""
ACTOR: Final = "ann"
PERIOD: Final = ("--since", "2026-01-01T00:00Z", "--until", "2026-01-04T00:00Z")


@dataclass(frozen=True)
class Form:
    """A command that gives something out, and what can be said of the file it makes."""

    arguments: tuple[str, ...]
    name: str
    kind: str
    verified: bool = False
    url: str = ""
    """What stands before the path, `-` for the standard output."""

    @property
    def refused_again(self) -> bool:
        """Whether a file that is there is not written over."""
        return self.url != "-" and not self.over

    @property
    def over(self) -> bool:
        """Whether it is to take the place of a file that is there."""
        return self.arguments[-1] == "--force"

    def output(self, folder: Path) -> str:
        return "" if self.url == "-" else f"{self.url}{folder / self.name}"


def _export(shape: str, url: str = "") -> Form:
    arguments = ("audit", "export", *PERIOD, "--reason", "asked", "--format", shape)
    arguments += () if url == "-" else ("--output", "OUTPUT")
    return Form(arguments, f"out.{shape}", "export", shape in ("json", "jsonl"), url)


def _bundle(url: str = "") -> Form:
    return Form(("audit", "export", *PERIOD, "--bundle", "OUTPUT"), "out.zip", "bundle", True, url)


def _report(shape: str, url: str = "") -> Form:
    # Up to a position, so that it is the same document however often it is made.
    arguments = ("report", "--from", PERIOD[1], "--to", PERIOD[3], "--through", "20",
                 "--format", shape)  # fmt: skip
    arguments += () if url == "-" else ("--output", "OUTPUT")
    return Form(arguments, f"report.{shape}", "report", url=url)


_RUN = ("runs", "export", "RUN", "OUTPUT")
_PROOF = ("audit", "prove", "RUN", "--entry", "2", "--output", "OUTPUT")
FORMS: Final = {
    **{f"export {shape}": _export(shape) for shape in ("json", "jsonl", "csv", "pdf")},
    **{f"export {shape} to file:": _export(shape, "file://") for shape in ("json", "csv", "pdf")},
    "export jsonl to local:": _export("jsonl", "local://"),
    "export jsonl to a pipe": _export("jsonl", "-"),
    "bundle": _bundle(),
    "bundle to file:": _bundle("file://"),
    **{f"report {shape}": _report(shape) for shape in ("md", "json", "html", "pdf")},
    "report json to file:": _report("json", "file://"),
    "report md to a pipe": _report("md", "-"),
    "export jsonl over another": replace(_export("jsonl"), arguments=(*_export("jsonl").arguments,
                                                                      "--force")),
    "run file": Form(_RUN, "run.json", "run_file"),
    "run file over another": Form((*_RUN, "--force"), "run.json", "run_file"),
    "proof": Form(_PROOF, "proof.json", "", True),
}  # fmt: skip
ON_POSTGRES: Final = ("export jsonl", "bundle", "report json")


@dataclass
class World:
    """A database with runs under a checkpoint, and processes that give out what is in it."""

    folder: Path
    engine: Engine
    settings: dict[str, str]
    server: subprocess.Popen[str]
    run_id: str
    told: list[LogExported] = field(default_factory=list)
    """All that was put on record."""
    version: int = 0
    """Of the system's stream, as far as it was read."""

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def aside(self) -> Path:
        return self.folder / "tmp"

    @property
    def stdout(self) -> Path:
        return self.folder / "stdout"

    def key(self) -> str:
        return (self.folder / "audit.key.pub").read_text().strip()

    def give_out(self, form: Form, step: int = 0) -> tuple[int | str, list[str]]:
        """Run the command until that step; how it ended, and the steps it came to."""
        known = {"OUTPUT": form.output(self.out), "RUN": self.run_id}
        arguments = [known.get(each, each) for each in form.arguments]
        order = {"arguments": arguments, "environment": self.settings, "step": step,
                 "stdout": str(self.stdout)}  # fmt: skip
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(order) + "\n")
        self.server.stdin.flush()
        ended = json.loads(self.server.stdout.readline())
        return ended["ended"], ended["steps"]

    def recorded(self) -> list[LogExported]:
        """What was put on record since this was asked before."""
        rows = self.engine._parts.store.read_stream(SYSTEM_STREAM, self.version)
        self.version += len(rows)
        new = []
        for each in self.engine._journal.open_public(rows):
            if isinstance(each.event, LogExported):
                assert each.meta.actor == ACTOR
                new.append(each.event)
        self.told += new
        return new


@contextmanager
def world(url: str, folder: Path, server: subprocess.Popen[str]) -> Iterator[World]:
    for name in ("out", "tmp"):
        (folder / name).mkdir()
    settings = {
        "DEE_DATABASE": url,
        "DEE_KEYS": f"sqlite:///{folder / 'keys.db'}",
        "DEE_CHECKPOINTS": str(folder / "places"),
        "DEE_AUDIT_KEY_FILE": str(folder / "audit.key"),
        "DEE_OUTBOX": str(folder / "outbox"),
        "DEE_ACTOR": ACTOR,
        "TMPDIR": str(folder / "tmp"),
    }
    config = EngineConfig(
        url,
        keys=settings["DEE_KEYS"],
        clock="manual",
        epoch=EPOCH,
        checkpoints=settings["DEE_CHECKPOINTS"],
        audit_key_file=settings["DEE_AUDIT_KEY_FILE"],
        outbox=settings["DEE_OUTBOX"],
    )
    with Engine(config) as engine:
        publish_basics(engine)
        people = [{"id": f"c{n}", "email": f"c{n}@example.com", "firstName": "N"} for n in range(3)]
        assert engine.bulk_execute(outreach(), people).created == len(people)
        engine.tick()
        engine.audit.checkpoint("bob")
        engine.run_until(engine.now().tick + 4 * DAY)
        engine.grant_consent("c1", "email", source="form")
        engine.audit.checkpoint("bob")
        yield World(folder, engine, settings, server, engine.list_runs().runs[0].id)


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    """What starts the processes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.processes.export"],
        cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    yield process
    process.communicate(timeout=30)


# The log grows with each of them, and every step makes thousands.
@pytest.fixture(scope="function" if FULL else "module")
def on_sqlite(
    server: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("kills")
    with world(f"sqlite:///{folder / 'dee.db'}", folder, server) as made:
        yield made


def meaning(name: str, content: bytes, through: int) -> Any:
    """What a file says, apart from how long the log was; raises if it is not all of a file."""
    ending = name.rpartition(".")[2]
    if ending == "jsonl":
        records = [json.loads(line) for line in content.splitlines()]
        assert records.pop()["record"] == "end"
        return {**records[0], "through": 0}, records[1:]
    if ending == "json":
        told = json.loads(content)
        if "export" in told:
            return {**told, "export": {**told["export"], "through": 0}}
    if ending == "pdf":
        assert content.endswith(b"%%EOF\n")
        pages = [page.extract_text() for page in PdfReader(io.BytesIO(content)).pages]
        return re.sub(rf"\bentry\s+{through}\b", "entry", "\n".join(pages))
    if ending == "zip":
        with zipfile.ZipFile(io.BytesIO(content)) as bundle:
            assert bundle.testzip() is None
            files = {each: bundle.read(each) for each in bundle.namelist()}
        for line in files.pop("SHA256SUMS").decode().splitlines():
            digest, each = line.split("  ")
            assert hashlib.sha256(files[each]).hexdigest() == digest
        parts = ("export.jsonl", "export.pdf")
        files["README.txt"] = re.sub(rb"\bentry %d\b" % through, b"", files["README.txt"])
        rest = {each: content for each, content in files.items() if each not in parts}
        return rest, [meaning(each, files[each], through) for each in parts]
    if name == "run.json":
        read_run_file(content)
    return content


class Watch:
    """Holds what is there after each process against what may be there."""

    def __init__(self, world: World, form: Form) -> None:
        self.world, self.form = world, form
        self.file = world.stdout if form.url == "-" else world.out / form.name
        self.part = world.out / f".{form.name}.part"
        self.whole: Any = None
        self.kept: dict[str, Path] = {}

    def after_a_kill(self) -> None:
        """Nothing, or something whole that is on record."""
        new = self.world.recorded()
        assert len(new) <= 1
        digests = [event.digest for event in new]
        assert {path.name for path in self.world.out.iterdir()} <= {self.file.name, self.part.name}
        if self.form.url == "-":
            # What somebody else reads at the other end cannot be called back.
            assert digests or not self.file.stat().st_size
        elif self.file.exists():
            before = [event.digest for event in self.world.told] if self.form.over else []
            self._believed(new, digests + before)
        if self.part.exists():
            self._not_unrecorded(self.part.read_bytes(), digests)
        self._tidy()

    def after_the_end(self) -> None:
        """All of it, on record, and nothing else."""
        new = self.world.recorded()
        digests = [event.digest for event in new]
        if self.form.kind and (new or not self.form.refused_again):
            (event,) = new
            assert event.kind == self.form.kind
            assert event.target.endswith("stream" if self.form.url == "-" else str(self.file))
            if self.form.kind != "run_file":
                assert (event.from_tick, event.before_tick) == (0, 3 * DAY)
        if self.form.kind and not new:
            # The process that was killed had come to the end.
            new = self.world.told[-1:]
            digests = [event.digest for event in new]
        if self.form.url != "-":
            assert [path.name for path in self.world.out.iterdir()] == [self.file.name]
            assert self.file.stat().st_mode & 0o777 == 0o600
        self._believed(new, digests)
        self._tidy()

    def _believed(self, new: list[LogExported], digests: list[str]) -> None:
        content = self.file.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if self.form.kind:
            assert digest in digests
        found = meaning(self.form.name, content, new[0].through if new else 0)
        assert found == (self.whole if self.whole is not None else found)
        self.whole = found
        if digest not in self.kept:
            kept = self.world.folder / f"{len(self.kept)}-{self.form.name}"
            kept.write_bytes(content)
            self.kept[digest] = kept

    def _not_unrecorded(self, content: bytes, digests: list[str]) -> None:
        """What was left aside is whole only if it is on record."""
        if not self.form.kind or hashlib.sha256(content).hexdigest() in digests:
            return
        with suppress(ValueError, LookupError, AssertionError, zipfile.BadZipFile, PyPdfError):
            found = meaning(self.form.name, content, 0)
            if self.file.suffix in (".json", ".jsonl", ".pdf", ".zip") or found == self.whole:
                pytest.fail("all of it is in a file, and the log does not know of it")

    def _tidy(self) -> None:
        for path in self.world.aside.iterdir():
            # This is how Python tries whether a folder can be written to; nothing of ours has a
            # name there.
            assert path.read_bytes() in (b"", b"blat")
            path.unlink()

    def verified(self) -> None:
        """Whoever has nothing but the files and the key believes them, too."""
        if self.form.verified:
            for code, said in verify_all(list(self.kept.values()), "--key", self.world.key()):
                assert code == 0, said
        assert self.world.engine.verify_log().valid


def few_of(steps: list[str], form: Form) -> list[int]:
    """A few steps where not all were asked for, others for each form."""
    decisive = [number for number, name in enumerate(steps, 1) if DECISIVE.fullmatch(name)]
    turn = 2 * list(FORMS.values()).index(form)
    chosen = {decisive[(turn + number) % len(decisive)] for number in range(2)}
    return sorted({*chosen, 1 + turn * 7 % len(steps)})


def killed_at_every_step(world: World, form: Form) -> None:
    for path in world.out.iterdir():
        path.unlink()
    world.recorded()
    watch = Watch(world, form)
    ended, steps = world.give_out(form)
    assert ended == 0, world.stdout.read_text()
    watch.after_the_end()
    for step in range(1, len(steps) + 1) if FULL else few_of(steps, form):
        for path in world.out.iterdir():
            path.unlink()
        if form.over:
            world.give_out(form)
            world.recorded()
        assert world.give_out(form, step)[0] == "killed", step
        watch.after_a_kill()
        there = form.refused_again and watch.file.exists()
        ended, _ = world.give_out(form)
        assert ended == int(there), world.stdout.read_text()
        watch.after_the_end()
    watch.verified()


@pytest.mark.parametrize("form", FORMS)
def test_killed_at_every_step(form: str, on_sqlite: World) -> None:
    killed_at_every_step(on_sqlite, FORMS[form])


@pytest.mark.parametrize("form", ON_POSTGRES)
def test_killed_at_every_step_on_postgres(
    form: str,
    server: subprocess.Popen[str],
    tmp_path: Path,
    fresh_postgres: Callable[[], str],
) -> None:
    with world(fresh_postgres(), tmp_path, server) as made:
        killed_at_every_step(made, FORMS[form])
