"""The demo itself, started by scripts/demo. Most of it calls `dee`, as anybody would by hand."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from dee_es import Engine, EngineConfig
from dee_es.cli.event_lines import Addressees, EventLine, parse_line
from dee_es.cli.options import STATUSES
from dee_es.cli.progress import Progress
from dee_es.cli.times import parse_duration
from dee_es.config import load_config
from dee_es.doors.contacts_csv import CsvContact, read_contacts
from dee_es.engine.models import TickReport
from dee_es.errors import DeeError
from scripts.embedded_postgres import server_on

DATA = Path(__file__).parent / "demo_data"
EPOCH = "2025-03-03T09:00Z"
DAYS = 21


class DemoFailed(Exception):
    """Something did not come out as it must; the text says what."""


def main() -> int:
    """Run the demo; 0 if everything came out as it must."""
    options = _options()
    folder = Path(options.keep or tempfile.mkdtemp(prefix="dee-demo-")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    try:
        with _database(options) as url:
            _settings(url, own_keys=options.database is not None)
            _demo(options, Dee(folder))
    except DemoFailed as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    print(f"\nAll of that took {time.monotonic() - began:.0f} s. Its files, with every message")
    print(f"under outbox/, are in {folder}")
    if not options.postgres:
        dee = Path(sys.executable).with_name("dee")
        command = shlex.quote(str(dee)) if dee.exists() else "dee"
        where = "" if options.database is None else f"DEE_DATABASE={shlex.quote(options.database)} "
        print(f"Look around:\n  cd {shlex.quote(str(folder))}\n  {where}{command} runs list")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/demo", description="Three weeks of outreach in a few seconds."
    )
    parser.add_argument("plan", nargs="?", help="plan file with its templates and scripts")
    parser.add_argument("contacts", nargs="?", help="CSV file with a line of column names")
    parser.add_argument("--events", help="JSON lines; `at` is the time since the start, as in 2d4h")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--postgres", action="store_true", help="start a PostgreSQL for the demo")
    where.add_argument("--database", metavar="URL", help="an empty database of yours")
    parser.add_argument(
        "--keep", metavar="DIR", help="working folder [default: a new temporary one]"
    )
    options = parser.parse_args()
    if options.plan is None and options.contacts is None and options.events is None:
        # These events are about these contacts, so they are of use only together.
        options.events = DATA / "events.jsonl"
    for name in ("plan", "contacts", "events"):
        default = {"plan": DATA / "plan.yaml", "contacts": DATA / "contacts.csv", "events": None}
        given = getattr(options, name) or default[name]
        setattr(options, name, None if given is None else Path(given).absolute())
    return options


# --- where it runs ----------------------------------------------------------------------------


@contextmanager
def _database(options: argparse.Namespace) -> Iterator[str]:
    if not options.postgres:
        yield options.database or "sqlite:///dee.db"
        return
    # Straight under the temporary directory: the path of a Unix socket has 107 bytes at most.
    directory = Path(tempfile.mkdtemp(prefix="dee-pg-"))
    try:
        print("Starting PostgreSQL ...", flush=True)
        server = server_on(directory / "data")
        try:
            server.start()
            yield server.get_uri()
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _settings(url: str, own_keys: bool) -> None:
    """Settings of the demo's own, whatever the caller's are: no real message may leave."""
    kept = {"DEE_PYTHON", "DEE_ROOT"}
    if own_keys:
        kept |= {"DEE_KEYS", "DEE_MASTER_KEY", "DEE_MASTER_KEY_FILE"}
    for name in [name for name in os.environ if name.startswith("DEE_") and name not in kept]:
        del os.environ[name]
    os.environ.update(DEE_DATABASE=url, DEE_EMAIL="outbox", DEE_VOICE="outbox", DEE_OUTBOX="outbox")
    if not url.startswith("sqlite:"):
        os.environ.setdefault("DEE_KEYS", "sqlite:///dee.keys.db")


@dataclass(frozen=True)
class Dee:
    """`dee`, called in the demo's folder."""

    folder: Path

    def __call__(self, *arguments: str | Path) -> None:
        """Show the command, run it, and stop the demo if it fails."""
        words = [str(argument) for argument in arguments]
        print(f"\n$ dee {shlex.join(words)}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "dee_es.cli", *words], cwd=self.folder, check=False
        )
        if done.returncode != 0:
            raise DemoFailed(f"dee {words[0]} exited with {done.returncode}")

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """The same database from Python, for what takes a loop."""
        os.chdir(self.folder)
        config: EngineConfig = load_config({"create": False})
        with Engine(config) as engine:
            yield engine


# --- what it shows ----------------------------------------------------------------------------


def _demo(options: argparse.Namespace, dee: Dee) -> None:
    dee("init", "--clock", "manual", "--epoch", EPOCH)
    dee("plan", "validate", options.plan)
    unwanted = _first_address(options.contacts)
    if unwanted is not None:
        dee("contact", "suppress", "--email", unwanted, "--reason", "asked never to be written to")
    dee("enroll", options.plan, options.contacts, "--errors", "refused.csv")
    with dee.engine() as engine:
        _fast_forward(engine, options)
    dee("runs", "list", "--limit", "5")
    with dee.engine() as engine:
        _totals(engine)
        telling = _telling_run(engine)
    dee("runs", "list", "--status", "failed", "--limit", "5")
    if telling is not None:
        print("\nOne of those who replied:" if options.events else "\nOne of the runs:")
        dee("history", telling)
    dee("health")
    dee("audit", "verify")


def _first_address(contacts: Path) -> str | None:
    rows = (row for row in read_contacts(contacts) if isinstance(row, CsvContact))
    return next((row.email for row in rows if row.email), None)


def _fast_forward(engine: Engine, options: argparse.Namespace) -> None:
    """Move the clock ahead day by day; events come in when they happened."""
    start = engine.now()
    second = timedelta(seconds=1) // timedelta(milliseconds=start.resolution_ms)
    waiting = [] if options.events is None else _events(options.events)
    addressees = Addressees(engine, str(options.contacts))
    print(f"\n{DAYS} simulated days from {start.now:%Y-%m-%d %H:%M} UTC:", flush=True)
    with Progress("Simulated days", DAYS) as progress:
        for day in range(1, DAYS + 1):
            report, taken = TickReport(engine.now().tick), 0
            while waiting and waiting[0][0] < day * 86_400:
                at, event = waiting.pop(0)
                report = report.plus(engine.run_until(start.tick + at * second))
                engine.ingest_events([addressees.event(event)], on_error=_unusable)
                taken += 1
                progress.update(day - 1, (day - 1 + at % 86_400 / 86_400) / DAYS)
            report = report.plus(engine.run_until(start.tick + day * 86_400 * second))
            if taken or report.events:
                progress.clear()
                print(f"  day {day:2}: {report.delivered:5,} mails sent, {report.pending:3,} calls "
                      f"placed, {taken:3,} events came in, {report.events:6,} events logged",
                      flush=True)  # fmt: skip


def _unusable(_: int, error: DeeError) -> None:
    raise error


def _events(path: Path) -> list[tuple[int, EventLine]]:
    """The events with their seconds since the start, in order of time."""
    found = []
    with open(path, "rb") as file:
        for line in file:
            if line.strip():
                event = parse_line(line, also=frozenset({"at"}))
                at = parse_duration(str(json.loads(line).get("at", "0s")))
                if at is None:
                    raise DemoFailed(f"{path.name}: `at` must be a duration such as 2d4h")
                found.append((int(at.total_seconds()), event))
    return sorted(found, key=lambda each: each[0])


def _totals(engine: Engine) -> None:
    counts = {status: engine.list_runs(status=status, limit=1).total for status in STATUSES}
    print("\nRuns by status:")
    for status, count in counts.items():
        if count:
            print(f"  {status:10} {count:6,}")
    total = engine.list_runs(limit=1).total
    print(f"  {'all':10} {total:6,}")
    if sum(counts.values()) != total or not total:
        raise DemoFailed("the totals of the statuses do not add up to that of the list")


def _telling_run(engine: Engine) -> str | None:
    """A run that ended with a reply and had several steps by then, else any."""
    runs = engine.list_runs(limit=10_000).runs
    replied = [run for run in runs if run.outcome == "replied"] or list(runs)
    return max(replied, key=lambda run: run.steps_completed).id if replied else None


if __name__ == "__main__":
    sys.exit(main())
