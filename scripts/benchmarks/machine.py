"""The machine and the versions of all that is measured, for the head of a report."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
from pathlib import Path

import psycopg

from scripts.benchmarks.peers import restate_server

PEERS = ("dbos", "restate-sdk", "hypercorn", "eventsourcing")


def machine() -> dict[str, str]:
    """Cores, memory, load, Python; the load says how far the figures can be believed."""
    return {
        "cores": str(os.cpu_count()),
        "processor": f"{platform.machine()} {_processor()}".strip(),
        "memory": _memory(),
        "load": ", ".join(f"{each:.1f}" for each in os.getloadavg()),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def versions(url: str) -> dict[str, str]:
    """The database and everything that is measured beside the engine."""
    found = {"sqlite": sqlite3.sqlite_version}
    if not url.startswith("sqlite"):
        with psycopg.connect(url) as connection:
            for name, setting in (("postgresql", "server_version"), ("fsync", "fsync")):
                told = connection.execute(f"SHOW {setting}".encode()).fetchone()
                found[name] = str(told[0]) if told else "unknown"
    for name in ("dee-es", *PEERS):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    found["restate-server"] = restate_server.version() or "not installed"
    return found


def told(facts: dict[str, str]) -> str:
    """Facts on a line."""
    return "; ".join(f"{name} {value}" for name, value in facts.items())


def _memory() -> str:
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")
