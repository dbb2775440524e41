"""What `scripts/bench` makes of figures: bars, ratios, the guard against drops, who is left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.benchmarks import baseline
from scripts.benchmarks.figures import COUNTED, RATIOS, Figure, LeftOut, measured, ratio
from scripts.benchmarks.peers import PeerFailed, best_of, missing, restate_server, run


def _ratio(value: float, *, higher: bool = True, name: str = "ours to theirs") -> Figure:
    return Figure(name, value, "times", None, None, higher, measurement="enroll")


def _kept(folder: Path, *figures: Figure) -> dict[str, dict[str, object]]:
    file = folder / "baseline.json"
    baseline.save(figures, {"cores": "2"}, file)
    return baseline.load(file)


def test_a_figure_tells_median_spread_and_bar() -> None:
    figure = measured("bulk_execute", [90.0, 120.0, 100.0], "contacts/s", 110)
    assert (figure.value, figure.spread, figure.met) == (100.0, (90.0, 120.0), False)
    assert "100.0 contacts/s  (90.0 to 120.0)  bar 110 NOT REACHED" in figure.line()
    peak = measured("peak", [90.0], "MiB", 150, higher_is_better=False)
    assert (peak.met, peak.spread) == (True, None)


def test_a_ratio_is_of_medians_and_its_spread_of_the_worst_and_the_best_pair() -> None:
    figure = ratio("ours to theirs", [20.0, 30.0, 40.0], [2.0, 3.0, 4.0], 9)
    assert (figure.value, figure.spread, figure.met) == (10.0, (5.0, 20.0), True)
    share = ratio("to the limit", [50.0], [200.0], unit="%")
    assert (share.value, share.spread, share.is_ratio) == (25.0, None, True)


def test_only_steady_ratios_are_kept_for_the_guard(tmp_path: Path) -> None:
    noisy = Figure("busy to idle", 2.0, "times", measurement="rebuild", steady=False)
    rate = Figure("bulk_execute", 9_000.0, "contacts/s", measurement="enroll")
    assert list(_kept(tmp_path, _ratio(10.0), noisy, rate)) == ["enroll: ours to theirs"]


def test_a_baseline_of_some_measurements_leaves_the_others(tmp_path: Path) -> None:
    other = Figure("speed kept", 80.0, "%", measurement="encryption")
    _kept(tmp_path, _ratio(10.0), _ratio(3.0, name="gone"), other)
    ratios = _kept(tmp_path, _ratio(9.0))
    assert {name: each["value"] for name, each in ratios.items()} == {
        "enroll: ours to theirs": 9.0,
        "encryption: speed kept": 80.0,
    }


@pytest.mark.parametrize("now, drops", [(10.0, 0), (7.6, 0), (7.4, 1), (30.0, 0)])
def test_a_drop_of_more_than_a_quarter_is_found(tmp_path: Path, now: float, drops: int) -> None:
    ratios = _kept(tmp_path, _ratio(10.0))
    found = baseline.compare(ratios, [_ratio(now)], ["enroll"])
    assert (len(found.drops), found.compared, found.absent) == (drops, 1, ())
    if drops:
        assert found.drops[0].line() == (
            "enroll: ours to theirs: 10.00 before, 7.40 times now (-26 %)"
        )


@pytest.mark.parametrize("now, drops", [(4.0, 0), (5.3, 0), (5.4, 1), (1.0, 0)])
def test_a_ratio_that_is_better_when_low_drops_by_growing(
    tmp_path: Path, now: float, drops: int
) -> None:
    ratios = _kept(tmp_path, _ratio(4.0, higher=False))
    found = baseline.compare(ratios, [_ratio(now, higher=False)], ["enroll"])
    assert len(found.drops) == drops


def test_what_was_not_measured_is_told_and_what_was_not_asked_for_is_not(tmp_path: Path) -> None:
    ratios = _kept(tmp_path, _ratio(10.0), _ratio(5.0, name="to restate"))
    found = baseline.compare(ratios, [_ratio(10.0)], ["enroll"])
    assert (found.absent, found.compared) == (("enroll: to restate",), 1)
    assert baseline.compare(ratios, [], ["verify"]) == baseline.Comparison((), 0, ())


def test_measured_twice_the_better_one_counts() -> None:
    first, second = [_ratio(7.0), _ratio(4.0, higher=False, name="b")], [_ratio(9.0)]
    assert [each.value for each in baseline.better_of(first, second)] == [9.0, 4.0]
    lower = [_ratio(3.0, higher=False, name="b")]
    assert [each.value for each in baseline.better_of(first, lower)] == [7.0, 3.0]


@pytest.mark.parametrize("now, drops", [(100.0, 0), (105.0, 0), (106.0, 1), (50.0, 0)])
def test_what_is_counted_may_grow_by_a_twentieth(tmp_path: Path, now: float, drops: int) -> None:
    def counted(value: float) -> Figure:
        return Figure("a run", value, COUNTED, higher_is_better=False, measurement="calls")

    found = baseline.compare(_kept(tmp_path, counted(100.0)), [counted(now)], ["calls"])
    assert (len(found.drops), found.compared) == (drops, 1)


def test_the_committed_baseline_holds_ratios_and_counts_alone() -> None:
    ratios = baseline.load()
    assert {kept["unit"] for kept in ratios.values()} == {*RATIOS, COUNTED}
    for name, kept in ratios.items():
        assert kept["value"] > 0, name


def test_the_fastest_variant_counts_and_the_others_are_told() -> None:
    rates = {"slow": iter([1.0, 2.0, 1.0]), "fast": iter([5.0, 4.0, 6.0])}
    found = best_of("dbos", ("slow", "fast"), 3, lambda variant: next(rates[variant]))
    assert found == ("fast; slow 1", [5.0, 4.0, 6.0])


def test_a_quick_run_asks_a_peer_once_in_the_usual_way() -> None:
    asked: list[str] = []

    def measure(variant: str) -> float:
        asked.append(variant)
        return 3.0

    assert best_of("dbos", ("usual", "other"), 2, measure) == ("usual", [3.0])
    assert asked == ["usual"]


def test_a_peer_that_fails_is_left_out_with_its_reason() -> None:
    def measure(variant: str) -> float:
        raise PeerFailed("no room")

    found = best_of("dbos", ("queue",), 3, measure)
    assert found == LeftOut("dbos", "failed (queue): no room")
    assert found.line() == "LEFT OUT: dbos: failed (queue): no room"


def test_what_a_peers_process_said_last_is_why_it_failed() -> None:
    with pytest.raises(PeerFailed, match=r"No module named scripts\.benchmarks\.peers\.nobody"):
        run("nobody")


def test_a_module_that_is_not_installed_is_named() -> None:
    assert missing("json") is None
    assert missing("json", "no_such_peer") == (
        "no_such_peer is not installed; scripts/bench installs it (extra `bench`)"
    )


def test_without_npm_restate_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restate_server, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert restate_server.version() is None
    assert restate_server.ensure() == (
        "npm is not on the PATH, and @restatedev/restate-server comes by npm; "
        "install Node.js 20 or newer"
    )


def test_a_figure_for_machines_names_what_it_is_of() -> None:
    figure = measured("bulk_execute", [1.0, 2.0], "contacts/s", 9).of("enroll", 500)
    record = json.loads(json.dumps(figure.record()))
    assert (record["measurement"], record["size"], record["met"]) == ("enroll", 500, False)
