"""Which curves `scripts/bench --plot` draws, and that peers are asked at one size alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scripts.benchmarks import peers, plots
from scripts.benchmarks.catalogue import MEASUREMENTS
from scripts.benchmarks.figures import Figure, LeftOut
from scripts.benchmarks.peers import dbos, restate
from scripts.benchmarks.pictures import PICTURES, Picture

PICTURE = Picture("lists", "lists", "Pages", "ms", {"by nothing": "no filter", "by plan": "a plan"})


def _page(size: int, value: float, key: str = "by nothing") -> Figure:
    work = f"{key} at {size}"
    spread = (value / 2, 2 * value)
    return Figure(work, value, "ms p99", spread, 5, False, key, size, "lists")


def test_pictures_have_few_lines_and_files_of_their_own() -> None:
    assert len({picture.file for picture in PICTURES}) == len(PICTURES)
    for picture in PICTURES:
        assert picture.measurement in MEASUREMENTS
        assert 1 <= len(picture.lines) <= 6, picture.file


def test_what_grows_is_drawn() -> None:
    drawn = {picture.measurement for picture in PICTURES}
    assert drawn == {name for name, each in MEASUREMENTS.items() if each.grows}


def test_a_line_has_its_figures_by_size() -> None:
    figures = [_page(100, 2.0), _page(10, 1.0), _page(10, 3.0, "by plan"), _page(10, 9.0, "other")]
    lines = plots.lines_of(PICTURE, figures)
    assert {label: [each.value for each in points] for label, points in lines.items()} == {
        "no filter": [1.0, 2.0],
        "a plan": [3.0],
    }


def test_a_line_of_medians_has_no_bar() -> None:
    middle = Picture("m", "lists", "Pages", "ms", {"by nothing": "no filter"}, middle=True)
    (point,) = plots.lines_of(middle, [_page(10, 4.0)])["no filter"]
    assert (point.value, point.bar) == (2.0, None)


def test_lines_that_nothing_was_measured_for_are_named() -> None:
    figures = [_page(10, 1.0, "list_runs by nothing")]
    names = plots.absent(figures)
    assert "lists: list_runs by a contact" in names
    assert "lists: list_runs by nothing" not in names
    assert not [name for name in names if not name.startswith("lists: ")]


@pytest.fixture
def spared() -> Iterator[None]:
    peers.spare(True)
    yield
    peers.spare(False)


@pytest.mark.usefixtures("spared")
def test_peers_that_were_measured_at_a_smaller_size_are_left_out_with_that_reason() -> None:
    why = "measured at the smallest size alone"
    assert dbos.rates("", "enqueue", dbos.ENQUEUE, 10, 1) == LeftOut("dbos", why)
    assert restate.rates("enqueue", 10, 1) == LeftOut("restate", why)
