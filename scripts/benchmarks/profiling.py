"""Where the time goes of a contact that is enrolled, a run that is lived through, and an event that
is folded anew: how much of it is spent in each room of the code.

Each work is that of a process of its own, which py-spy (MIT) looks at from outside, some hundred
times a second. What C code does counts for the Python code that calls it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dee_es import Engine
from dee_es.adapters.channels.memory import MemoryChannel
from scripts.benchmarks.figures import Figure, Finding, LeftOut
from scripts.benchmarks.harness import config_of, engine_on, people, plan, settle
from scripts.benchmarks.peers import ROOT
from scripts.benchmarks.rebuilding import fill
from scripts.benchmarks.running import POLICY

RATE: Final = 250
"""Looks a second; each stops the process for a moment."""
LEAST: Final = 0.01
"""Of the whole: smaller parts are told together."""
WAITING: Final = "waiting for the database"
DRIVER: Final = "psycopg"
_FRAME: Final = re.compile(r"(?P<function>.+) \((?P<file>[^()]+?)(:\d+)?\)")
_OURS: Final = ("dee_es/", "projections/")
_WAITS: Final = (
    ("dee_es/ports/beside.py", "ready"),
    ("dee_es/adapters/postgres_waits.py", "_soon"),
    ("psycopg/connection.py", "wait"),
)
"""Where a thread waits for an answer: in turns, and with nothing else to do."""
_BEGUN: Final = ("dee_es/ports/beside.py", "_run")
"""Where the stack of what goes on beside begins."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is looked at: `item` is what its time is told of, `entry` the function (file, name) that
    all of it is spent in."""

    doing: str
    item: str
    entry: tuple[str, str]


WORKS: Final = {
    "enroll": Work("enrolling", "a contact", ("dee_es/engine/api/bulk.py", "bulk_execute")),
    "run": Work("living through", "a run", ("dee_es/engine/api/clock.py", "run_until_idle")),
    "rebuild": Work(
        "rebuilding the run list", "an event", ("dee_es/engine/projecting/manager.py", "rebuild")
    ),
}


def measure(url: str, folder: Path, contacts: int, repeats: int) -> Iterator[Finding]:
    """Microseconds of so many contacts, of a twelfth as many runs and five times as many events.

    Runs are read from the log first, as by a worker that was just started.
    """
    sizes = {"enroll": contacts, "run": max(contacts // 12, 1), "rebuild": 5 * contacts}
    for kind, work in WORKS.items():
        name = f"profile_{kind}"
        with engine_on(url, folder, name) as engine:
            items = _prepared(engine, kind, sizes[kind])
        settle(url, name)
        samples, took = folder / f"{name}.samples", folder / f"{name}.seconds"
        command = [sys.executable, "-m", __name__, kind, url, str(folder), name, str(items)]
        why_not = _look_at([*command, str(took)], samples, took)
        if why_not is not None:
            yield LeftOut("py-spy", why_not)
            return
        found = parts(samples.read_text(encoding="utf-8").splitlines(), work.entry)
        yield from figures_of(work, found, float(took.read_text()) * 1_000_000 / items)


def _prepared(engine: Engine, kind: str, size: int) -> int:
    """What the work needs; returns of how many items it is."""
    if kind == "run":
        engine.publish_policy(POLICY)
        engine.bulk_execute(plan("profiled"), people(size), batch_size=1_000)
    if kind == "rebuild":
        fill(engine, size)
        return engine.health().position
    return size


def _look_at(command: Sequence[str], samples: Path, took: Path) -> str | None:
    """Have a process looked at until it ends; says why if that cannot be done here."""
    looking = Path(sys.executable).with_name("py-spy")
    if not looking.exists():
        return "it is not installed; it comes with the extra `bench`"
    options = ["record", "--rate", str(RATE), "--idle", "--format", "raw", "--output", str(samples)]
    done = subprocess.run(
        [str(looking), *options, "--", *command], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        return done.stderr.strip().rpartition("\n")[2] or f"it ended with code {done.returncode}"
    if not took.exists():
        raise SystemExit(f"what was looked at has failed:\n{done.stderr}")
    return None


def parts(lines: Iterable[str], entry: tuple[str, str]) -> Counter[str]:
    """How often each part of the code was seen at work; `lines` are stacks, outermost first, with
    how often each was seen, as py-spy writes them."""
    seen: Counter[str] = Counter()
    for line in lines:
        stack, _, times = line.rpartition(" ")
        frames = [found for found in map(_FRAME.fullmatch, stack.split(";")) if found]
        places = [(found["file"], found["function"].rpartition(".")[2]) for found in frames]
        if _is_of(places, entry):
            seen[_part(places)] += int(times)
    return seen


def _is_of(places: Sequence[tuple[str, str]], entry: tuple[str, str]) -> bool:
    """Whether a stack is of the work, or of what goes on beside it."""
    return entry in places or _BEGUN in places


def _part(places: Sequence[tuple[str, str]]) -> str:
    """The room of the innermost function of ours, or who it waits for or hands over to."""
    if places[-1] in _WAITS:
        return WAITING
    for file, _ in reversed(places):
        if "psycopg" in file:
            return DRIVER
        if file.startswith(_OURS):
            return "/".join(file.removesuffix(".py").split("/")[:3])
    return "other"


def figures_of(work: Work, found: Counter[str], item_us: float) -> Iterator[Figure]:
    """The time of an item by part, the largest first."""
    whole = found.total()
    yield Figure(f"{work.doing}: {work.item}, looked at from outside", item_us, "us")
    small = 0
    for part, times in found.most_common():
        if times < LEAST * whole:
            small += times
        else:
            yield Figure(f"  {part}", item_us * times / whole, "us", key=f"{work.doing}: {part}")
    if small:
        yield Figure("  others", item_us * small / whole, "us", key=f"{work.doing}: others")


def _work() -> None:
    kind, url, folder, name, items, took = sys.argv[1:]
    with Engine(config_of(url, Path(folder), name), channels={"email": MemoryChannel()}) as engine:
        start = time.perf_counter()
        if kind == "enroll":
            engine.bulk_execute(plan("profiled"), people(int(items)), batch_size=1_000)
        elif kind == "run":
            engine.run_until_idle()
        else:
            engine.projections.rebuild("run_list")
        Path(took).write_text(str(time.perf_counter() - start), encoding="utf-8")


if __name__ == "__main__":
    _work()
