"""The command behind `scripts/bench`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from scripts.benchmarks import baseline, peers, plots
from scripts.benchmarks.catalogue import MEASUREMENTS, Measurement
from scripts.benchmarks.figures import Figure, LeftOut
from scripts.benchmarks.harness import drop_databases, workplace
from scripts.benchmarks.machine import machine, told, versions


class Report:
    """What was found so far; all of it is told at once and can be written down."""

    def __init__(self) -> None:
        self.machine = machine()
        self.versions: dict[str, str] = {}
        self.figures: list[Figure] = []
        self.left_out: list[LeftOut] = []

    def tell_place(self, url: str) -> None:
        """The machine and the versions, as the head of the report."""
        self.versions = versions(url)
        print(f"machine: {told(self.machine)}")
        print(f"versions: {told(self.versions)}", flush=True)

    def write(self, file: Path) -> None:
        """All of it for machines."""
        report = {
            "machine": self.machine,
            "versions": self.versions,
            "figures": [figure.record() for figure in self.figures],
            "left_out": [{"peer": each.peer, "why": each.why} for each in self.left_out],
        }
        file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Measure and print, a line a figure; exit 1 if a bar was not reached.

    With `--check` the exit code says whether a ratio dropped instead.
    """
    given = _arguments()
    # Whoever ends it ends the server, too, and keeps what was found.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if given.plot is not None and (why := plots.why_not()):
        raise SystemExit(f"error: {why}")
    if given.drawn_from is not None:
        _draw(_figures_of(given.drawn_from), given.plot)
        return
    started, report, dropped = time.monotonic(), Report(), False
    with workplace(given.database, given.keep) as (url, folder):
        report.tell_place(url)
        try:
            for name in given.only:
                _measure(report, given, name, url, folder)
            if given.check:
                dropped = _check(report, given, url, folder)
        finally:
            # What was found before something broke is worth keeping.
            if given.json is not None:
                report.write(given.json)
    for each in dict.fromkeys(report.left_out):
        print(each.line())
    print(f"measured in {time.monotonic() - started:,.0f} s")
    if given.plot is not None:
        _draw(report.figures, given.plot)
    if given.save_baseline:
        kept = baseline.save(report.figures, report.machine)
        print(f"{kept} ratios kept in {baseline.FILE.name}")
    if dropped or (not given.check and any(figure.met is False for figure in report.figures)):
        raise SystemExit(1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure the engine, its peers and the limits of the machine on an embedded "
        "PostgreSQL, fsync on.",
    )
    parser.add_argument("only", nargs="*", help=f"which: {', '.join(MEASUREMENTS)} (default: all)")
    parser.add_argument("--database", help="measure on this server, or sqlite, instead")
    for counted in ("contacts", "runs", "events"):
        parser.add_argument(f"--{counted}", type=_count, help=f"how many {counted}, if they count")
    parser.add_argument("--quick", action="store_true", help="small counts, in two minutes")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="for `web` alone: leave the database in DIR, and measure on it again next time",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument(
        "--plot", type=Path, metavar="FOLDER", help="measure at growing sizes and draw the curves"
    )
    parser.add_argument(
        "--sizes",
        type=_sizes,
        metavar="N,N,...",
        help="which sizes, for all of them (default: each one's own, most up to a million)",
    )
    parser.add_argument(
        "--from", dest="drawn_from", type=Path, metavar="FILE", help="draw what --json wrote there"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="with --quick: fail if a ratio got worse by over 25 %%, or a count by over 5 %%",
    )
    parser.add_argument(
        "--save-baseline",
        action="store_true",
        help="with --quick: keep the ratios and counts for --check",
    )
    given = parser.parse_args()
    given.only = given.only or list(MEASUREMENTS)
    if unknown := set(given.only) - set(MEASUREMENTS):
        parser.error(f"there is no measurement {', '.join(sorted(unknown))}")
    if given.keep is not None and (given.only != ["web"] or given.plot is not None):
        parser.error("--keep is for `web` alone")
    if (given.check or given.save_baseline) and not given.quick:
        parser.error("--check and --save-baseline go with --quick: ratios depend on the counts")
    if (given.sizes or given.drawn_from) and given.plot is None:
        parser.error("--sizes and --from go with --plot")
    return given


def _count(text: str) -> int:
    number = int(text.replace(",", "").replace("_", ""))
    if number < 1:
        raise ValueError(text)
    return number


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(sorted({_count(each) for each in text.split(",")}))


def _measure(
    report: Report, given: argparse.Namespace, name: str, url: str, folder: Path
) -> list[Figure]:
    """One measurement at its size, or at its growing sizes if curves are asked for."""
    chosen = MEASUREMENTS[name]
    repeats = chosen.quick_repeats if given.quick else chosen.repeats
    own = getattr(given, chosen.counted, None)
    sizes: Iterable[int] = (own or (chosen.quick_size if given.quick else chosen.size),)
    if given.plot is not None:
        sizes, repeats = given.sizes or chosen.grows, min(repeats, 1)
        sizes = sizes if chosen.grows else ()
    found, first = [], min(sizes, default=0)
    for size in sizes:
        # A place of its own: the same names come up again at the next size.
        own = given.keep or folder / f"{name}-{size}-{len(report.figures)}"
        own.mkdir(exist_ok=True)
        # A peer's rate does not grow with the number, but its time does.
        peers.spare(size != first)
        found += _at(report, name, chosen, size, repeats, url, own)
        if given.keep is None:
            drop_databases(url)
    return found


def _at(
    report: Report,
    name: str,
    chosen: Measurement,
    size: int,
    repeats: int,
    url: str,
    folder: Path,
) -> list[Figure]:
    print(f"\n{name}: {size:,} {chosen.counted}", flush=True)
    found, started = [], time.monotonic()
    for each in chosen.measure(url, folder, size, repeats):
        if isinstance(each, LeftOut):
            report.left_out.append(each)
        else:
            each = each.of(name, size)
            found.append(each)
            report.figures.append(each)
        print(f"  {each.line()}", flush=True)
    print(f"  (in {time.monotonic() - started:,.0f} s)", flush=True)
    return found


def _check(report: Report, given: argparse.Namespace, url: str, folder: Path) -> bool:
    """Hold the ratios against the baseline; what dropped is measured once more before it counts.

    True if it counts.
    """
    ratios = baseline.load()
    figures = list(report.figures)
    found = baseline.compare(ratios, figures, given.only)
    for name in dict.fromkeys(drop.measurement for drop in found.drops):
        print(f"\nA ratio of {name} dropped; measured once more:", flush=True)
        figures = baseline.better_of(figures, _measure(report, given, name, url, folder))
    found = baseline.compare(ratios, figures, given.only)
    print(f"\n{found.compared} ratios compared with {baseline.FILE.name}")
    for name in found.absent:
        print(f"NOT COMPARED, because it was not measured: {name}")
    for drop in found.drops:
        print(f"DROPPED: {drop.line()}")
    if not found.drops:
        counted = f"nothing that is counted by more than {baseline.ALLOWED_OF_COUNTED:.0%}"
        print(f"no ratio got worse by more than {baseline.ALLOWED:.0%}, {counted}")
    return bool(found.drops)


def _figures_of(file: Path) -> list[Figure]:
    records = json.loads(file.read_text(encoding="utf-8"))["figures"]
    return [
        Figure(**{name: value for name, value in record.items() if name != "met"})
        for record in records
    ]


def _draw(figures: list[Figure], folder: Path) -> None:
    counted = {name: each.counted for name, each in MEASUREMENTS.items()}
    for file in plots.draw(figures, counted, folder):
        print(f"drawn: {file}")
    for name in plots.absent(figures):
        print(f"NOT DRAWN, because it was not measured: {name}")


if __name__ == "__main__":
    main()
