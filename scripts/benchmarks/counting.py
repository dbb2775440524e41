"""How many functions a contact, an `execute`, a run and an event take: counted, not timed.

Times differ with the machine and the hour, and so do some ratios of times. How often functions are
called does not, so that a twentieth more of it is seen at any hour, and on any machine. Those of
this project and those of the driver are told apart. Waiting is not counted: how often a thread has
to look whether an answer is there says nothing of its work. Counts belong to a size of the work: a
pool of keys that is filled again counts for whoever found it empty.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

import psycopg
import psycopg_pool

import dee_es
import projections
from dee_es import Contact, Engine, ExecutionPlan
from dee_es.adapters import postgres_waits
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.ports import beside
from scripts.benchmarks.figures import COUNTED, Figure
from scripts.benchmarks.harness import contact, engine_on, people, plan
from scripts.benchmarks.running import POLICY

EXECUTED: Final = 100
_OURS: Final = "this project"
_DRIVER: Final = "the driver"
_WAITS: Final = (postgres_waits.__file__, beside.__file__)
"""Where threads wait, and where they take turns while they do."""
_FOLDERS: Final = {
    _OURS: (dee_es.__file__, projections.__file__),
    _DRIVER: (psycopg.__file__, psycopg_pool.__file__),
}


def measure(url: str, folder: Path, contacts: int, repeats: int) -> Iterator[Figure]:
    """Calls for each of so many contacts, of their runs, of some more by `execute`, and of the
    events of all of these."""
    channels = {"email": MemoryChannel()}
    with engine_on(url, folder, "counted", channels=channels) as engine:
        engine.publish_policy(POLICY)
        for work, item, amount, call in _works(engine, contacts):
            found = _called(call)
            for whose in (_OURS, _DRIVER):
                if found[whose]:
                    each = found[whose] / amount()
                    name = f"{work}: functions of {whose} for {item}"
                    # The driver is called once for each piece in which an answer comes in.
                    steady = whose == _OURS
                    yield Figure(name, each, COUNTED, higher_is_better=False, steady=steady)


def _works(
    engine: Engine, contacts: int
) -> Iterator[tuple[str, str, Callable[[], int], Callable[[], object]]]:
    """What is done, one after the other: its name, what it is counted for, and how many those are.

    What is done for the first time is done before, and not counted.
    """
    first, single = plan("counted"), plan("single")
    others = [contact(n) for n in range(1_000_000, 1_000_000 + 2 * EXECUTED)]
    engine.bulk_execute(first, people(1_000), batch_size=1_000)
    _execute(engine, single, others[:EXECUTED])
    engine.run_until_idle()
    enrolled = list(people(contacts, 1_000))
    yield (
        "enrolling",
        "a contact",
        lambda: contacts,
        lambda: engine.bulk_execute(first, enrolled, batch_size=1_000),
    )
    yield (
        "execute",
        "a run",
        lambda: EXECUTED,
        lambda: _execute(engine, single, others[EXECUTED:]),
    )
    yield "living through", "a run", lambda: contacts + EXECUTED, engine.run_until_idle
    yield (
        "rebuilding the run list",
        "an event",
        lambda: engine.health().position,
        lambda: engine.projections.rebuild("run_list"),
    )
    yield (
        "verifying the log",
        "an entry",
        lambda: engine.health().position,
        lambda: engine.verify_log(workers=1),
    )


def _execute(engine: Engine, chosen: ExecutionPlan, contacts: list[Contact]) -> None:
    for each in contacts:
        engine.execute(chosen, each)


def _called(work: Callable[[], object]) -> Counter[str]:
    """How often functions were called meanwhile, by this thread, and of whom."""
    calls: Counter[CodeType] = Counter()

    def seen(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            calls[frame.f_code] += 1

    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(None)
    found: Counter[str] = Counter()
    for code, times in calls.items():
        found[_whose(code.co_filename)] += times
    return found


def _whose(file: str) -> str:
    if file in _WAITS:
        return "waiting"
    above = set(Path(file).parents)
    for whose, packages in _FOLDERS.items():
        if not above.isdisjoint(Path(each).parent for each in packages):
            return whose
    return "others"
