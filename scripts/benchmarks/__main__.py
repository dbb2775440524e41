"""The command behind `scripts/bench`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from scripts.benchmarks import (
    encryption,
    enrollment,
    rebuilding,
    replaying,
    run_list,
    serving,
    verifying,
)
from scripts.benchmarks.harness import Figure, machine, workplace

MEASUREMENTS = ("enroll", "encryption", "lists", "replay", "rebuild", "verify", "web")


def main() -> None:
    """Measure and print, a line a figure; exit 1 if a bar was not reached."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="Measure the engine on an embedded PostgreSQL, fsync on."
    )
    parser.add_argument("only", nargs="*", help=f"which: {', '.join(MEASUREMENTS)} (default: all)")
    parser.add_argument("--database", help="measure on this server, or sqlite, instead")
    parser.add_argument("--contacts", type=int, help="contacts to enroll (default: 100,000)")
    parser.add_argument("--runs", type=int, help="runs to list (default: 1,000,000)")
    parser.add_argument("--events", type=int, help="events to fold or verify (default: 1,000,000)")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, once")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="for `web` alone: leave the database in DIR, and measure on it again next time",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    given = parser.parse_args()
    if unknown := set(given.only) - set(MEASUREMENTS):
        parser.error(f"there is no measurement {', '.join(sorted(unknown))}")
    if given.keep is not None and given.only != ["web"]:
        parser.error("--keep is for `web` alone")
    print(f"{machine()}; database: {given.database or 'PostgreSQL, embedded'}", flush=True)
    figures = []
    with workplace(given.database, given.keep) as (url, folder):
        for figure in _measure(given, url, folder):
            figures.append(figure)
            print(figure.line(), flush=True)
    if given.json is not None:
        report = {"machine": machine(), "figures": [figure.record() for figure in figures]}
        given.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if any(figure.met is False for figure in figures):
        raise SystemExit(1)


def _measure(given: argparse.Namespace, url: str, folder: Path) -> Iterator[Figure]:
    wanted = given.only or MEASUREMENTS
    small = 10 if given.quick else 1
    if "enroll" in wanted:
        contacts = given.contacts or 100_000 // small
        yield from enrollment.measure(url, folder, contacts, 1 if given.quick else 3)
    if "encryption" in wanted:
        contacts = given.contacts or 50_000 // small
        yield from encryption.measure(url, folder, contacts, 3 if given.quick else 7)
    if "lists" in wanted:
        yield from run_list.measure(url, folder, given.runs or 1_000_000 // small)
    if "replay" in wanted:
        yield from replaying.measure(url, folder, 20_000 // small, 1 if given.quick else 3)
    if "rebuild" in wanted:
        events = given.events or 1_000_000 // small
        yield from rebuilding.measure(url, folder, events, 1 if given.quick else 3)
    if "verify" in wanted:
        events = given.events or 1_000_000 // small
        yield from verifying.measure(url, folder, events, 1 if given.quick else 3)
    if "web" in wanted:
        runs = given.runs or 1_000_000 // small
        yield from serving.measure(url, folder, runs, 1 if given.quick else 3)


if __name__ == "__main__":
    main()
