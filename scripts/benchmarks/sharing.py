"""How much two workers do that share a database by partitions, against one that has all of it.

A worker is a process of its own. With a channel that takes 20 ms a send they wait most of the
time; with the memory channel they compute, and share the cores with the database.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from dee_es import Engine
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.core.messages.message import message_id
from dee_es.ports import Action, ChannelResult, SendContext
from scripts.benchmarks.figures import Finding, measured, ratio
from scripts.benchmarks.harness import config_of, engine_on, is_sqlite, people, plan
from scripts.benchmarks.peers import ROOT

BARS: Final = {"slow": 1.7, "memory": 1.5}
"""Times as many runs a second as one worker."""
SEND_S: Final = 0.020


def measure(url: str, folder: Path, runs: int, repeats: int) -> Iterator[Finding]:
    """Runs a second of one worker and of two, and their ratio, by channel."""
    if is_sqlite(url):
        return
    for kind, bar in BARS.items():
        some = runs if kind == "memory" else max(runs // 4, 1)
        alone = [_rate(url, folder, f"{kind}_1_{n}", kind, some, 1) for n in range(repeats)]
        shared = [_rate(url, folder, f"{kind}_2_{n}", kind, some, 2) for n in range(repeats)]
        told = "a channel of 20 ms a send" if kind == "slow" else "the memory channel"
        yield measured(f"one worker, {told}", alone, "runs/s")
        yield measured(f"two workers, {told}", shared, "runs/s")
        yield ratio(f"two workers to one, {told}", shared, alone, bar)


def _rate(url: str, folder: Path, name: str, kind: str, runs: int, workers: int) -> float:
    with engine_on(url, folder, name) as engine, ExitStack() as stack:
        engine.bulk_execute(plan("shared"), people(runs), batch_size=1_000)
        command = [sys.executable, "-m", "scripts.benchmarks.sharing", url, str(folder), name, kind]
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [*command, str(part), str(workers)],
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for part in range(workers)
        ]
        for each in processes:
            _hear(each, "ready")
        start = time.perf_counter()
        for each in processes:
            assert each.stdin is not None, "it was asked for"
            each.stdin.write("go\n")
            each.stdin.flush()
        for each in processes:
            _hear(each, "done")
        rate = runs / (time.perf_counter() - start)
        ended = engine.list_runs(status="completed", limit=1).total
        assert ended == runs, f"{ended} of {runs} runs have ended"
    return rate


def _hear(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None, "it was asked for"
    said = process.stdout.readline().strip()
    if said != word:
        process.kill()
        raise SystemExit(f"a worker ended before it was {word}")


class SlowChannel(MemoryChannel):
    """Delivers after as long as a mail server takes."""

    def send(self, action: Action, context: SendContext) -> ChannelResult:
        """Wait and deliver."""
        time.sleep(SEND_S)
        return ChannelResult("delivered", message_id(action.key))


def _work() -> None:
    url, folder, name, kind, part, parts = sys.argv[1:]
    channel = SlowChannel() if kind == "slow" else MemoryChannel()
    config = config_of(url, Path(folder), name, partition=(int(part), int(parts)))
    with Engine(config, channels={"email": channel}) as engine:
        print("ready", flush=True)
        sys.stdin.readline()
        engine.run_until_idle()
        print("done", flush=True)


if __name__ == "__main__":
    _work()
