"""How much memory a bulk enrolment takes that comes out of a generator, however long it is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from scripts.benchmarks.figures import Finding, measured
from scripts.benchmarks.harness import prepare
from scripts.benchmarks.peers import ROOT

BAR: Final = 150
"""MiB at the peak, of the whole process, for a million contacts."""

_CHILD = """
import sys
from pathlib import Path
from dee_es import Engine
from scripts.benchmarks.harness import config_of, people, plan
url, folder, name, contacts = sys.argv[1:]
with Engine(config_of(url, Path(folder), name)) as engine:
    result = engine.bulk_execute(plan("memory"), people(int(contacts)), batch_size=1_000)
assert result.created == int(contacts), result
# What getrusage tells would include the process that started this one.
status = Path("/proc/self/status").read_text()
print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)
"""


def measure(url: str, folder: Path, contacts: int, repeats: int) -> Iterator[Finding]:
    """Peak resident memory of a process that enrols so many contacts and does nothing else."""
    peaks = []
    for repetition in range(repeats):
        name = f"memory_{repetition}"
        prepare(url, folder, name)
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, url, str(folder), name, str(contacts)],
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        peaks.append(float(done.stdout))
    work = "peak memory of bulk_execute from a generator"
    yield measured(work, peaks, "MiB", BAR, higher_is_better=False)
