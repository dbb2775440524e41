"""Where steps stand in a plan's picture."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dee_es import create_plan, steps, transitions
from dee_es.web.pages.drawing import Way, draw, links_of
from dee_es.web.pages.layout import HEIGHT, WIDTH, Layout, Link, lay_out
from tests.support.engines import outreach


def layers(layout: Layout) -> dict[str, int]:
    return {place.step: place.layer for place in layout.places}


def test_a_line_of_steps_stands_in_one_column() -> None:
    layout = lay_out(["a", "b", "c"], [Link("a", "b"), Link("b", "c")])
    assert layers(layout) == {"a": 0, "b": 1, "c": 2}
    assert len({place.x for place in layout.places}) == 1
    assert [line.points[0][0] == line.points[-1][0] for line in layout.lines] == [True, True]


def test_a_step_stands_below_the_longest_way_to_it() -> None:
    links = [Link("a", "b"), Link("b", "c"), Link("a", "c"), Link("c", "d")]
    layout = lay_out(["a", "b", "c", "d"], links)
    assert layers(layout) == {"a": 0, "b": 1, "c": 2, "d": 3}
    passing = next(line for line in layout.lines if line.link == Link("a", "c"))
    assert len(passing.points) == 4, "an edge that passes a layer bends around what stands there"
    b = next(place for place in layout.places if place.step == "b")
    assert not b.x <= passing.points[1][0] <= b.x + WIDTH


def test_arms_stand_beside_one_another_and_do_not_cross() -> None:
    links = [Link("q", "x"), Link("q", "y"), Link("x", "x2"), Link("y", "y2")]
    layout = lay_out(["q", "x", "y", "y2", "x2"], links)
    x = {place.step: place.x for place in layout.places}
    assert (x["x"] < x["y"]) == (x["x2"] < x["y2"])


def test_a_loop_is_drawn_beside_and_does_not_lift_anything() -> None:
    layout = lay_out(["a", "b", "c"], [Link("a", "b"), Link("b", "a"), Link("b", "c")])
    assert layers(layout) == {"a": 0, "b": 1, "c": 2}
    (back,) = [line for line in layout.lines if line.back]
    assert (back.link.source, back.link.target) == ("b", "a")
    assert back.points[1][0] > max(place.x + WIDTH for place in layout.places)
    assert layout.width > back.points[1][0]


def test_a_thousand_steps_deep_is_no_matter() -> None:
    names = [f"s{n}" for n in range(1_000)]
    links = [Link(a, b) for a, b in pairwise(names)]
    layout = lay_out(names, [*links, Link("s999", "s0")])
    assert layers(layout)["s999"] == 999


def test_a_plan_of_many_long_ways_takes_no_more_than_its_edges() -> None:
    """Whoever may publish a plan could keep the server busy for minutes with each look at it."""
    names = [f"s{n}" for n in range(400)]
    ways = [Link(a, b, str(n)) for n, a in enumerate(names) for b in names[-5:] if a < b]
    links = [*(Link(a, b) for a, b in pairwise(names)), *ways]
    layout = lay_out(names, links)
    assert [line.link for line in layout.lines] == links
    assert sum(len(line.points) for line in layout.lines) < 10 * len(links)
    level = layers(layout)
    assert all(level[line.link.source] < level[line.link.target] for line in layout.lines)
    assert not any(line.back for line in layout.lines)
    steps_end = max(place.x + WIDTH for place in layout.places)
    lanes = {line.points[1][0]: line.link.target for line in layout.lines if line.beside}
    assert min(lanes) > steps_end
    assert len(lanes) == len(set(lanes.values())) == 5, "one for each step they lead to"
    assert max(lanes) < layout.width
    assert not any(line.beside for line in layout.lines if not line.link.label)
    assert all(line.beside for line in layout.lines if line.link.source == "s0" and line.link.label)


def test_ways_that_say_the_same_bend_together() -> None:
    names = [f"s{n}" for n in range(1_000)]
    same = [Link("s0", "s999", "x")] * 500
    layout = lay_out(names, [*(Link(a, b) for a, b in pairwise(names)), *same])
    assert len(layout.lines) == 999 + 500
    assert len({line.points for line in layout.lines if line.link.label}) == 1
    assert layout.width < 3 * WIDTH, "there is one column of bends"


def test_of_the_long_ways_the_shortest_still_run_between_the_steps() -> None:
    names = [f"s{n}" for n in range(2_400)]
    long, short = Link("s0", "s2399", "long"), Link("s0", "s1900", "short")
    layout = lay_out(names, [*(Link(a, b) for a, b in pairwise(names)), long, short])
    beside = [line.link.label for line in layout.lines if line.beside]
    assert beside == ["long"]
    (bent,) = [line for line in layout.lines if line.link == short]
    assert len(bent.points) == 2 + 2 * 1_899


def test_nothing_to_draw() -> None:
    assert lay_out([], []).places == ()
    assert lay_out(["a"], [Link("a", "nobody")]).lines == ()


@given(st.integers(1, 12).flatmap(lambda n: st.tuples(
    st.just(n),
    st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=24, unique=True),
)))  # fmt: skip
def test_any_graph_is_drawn_whole_and_nothing_overlaps(
    graph: tuple[int, list[tuple[int, int]]],
) -> None:
    n, pairs = graph
    names = [f"s{i}" for i in range(n)]
    links = [Link(names[a], names[b]) for a, b in pairs]
    layout = lay_out(names, links)
    assert [place.step for place in layout.places] == names
    assert [line.link for line in layout.lines] == links
    assert layout == lay_out(names, links), "the same picture every time"
    level = layers(layout)
    assert all(level[x.link.source] < level[x.link.target] for x in layout.lines if not x.back)
    for one, other in combinations(layout.places, 2):
        assert abs(one.x - other.x) >= WIDTH or abs(one.y - other.y) >= HEIGHT, (one, other)
    for place in layout.places:
        assert 0 <= place.x <= layout.width - WIDTH
        assert 0 <= place.y <= layout.height - HEIGHT


# --- the drawing of a plan ------------------------------------------------------------------------


def test_edges_carry_the_conditions_of_their_branch() -> None:
    labels = {(link.source, link.target): link.label for link in links_of(outreach())}
    assert labels == {
        ("intro", "pause"): "",
        ("pause", "answered"): "",
        ("answered", "won"): 'events.hasReply("intro")',
        ("answered", "again"): "otherwise",
        ("again", "rest"): "",
        ("rest", "lost"): "",
    }


def test_what_was_taken_is_told_by_state_words_and_visits() -> None:
    drawing = draw(outreach(), Way(("intro", "pause", "answered", "again"), "again"))
    assert {step.id: step.state for step in drawing.steps} == {
        "intro": "taken",
        "pause": "taken",
        "answered": "taken",
        "won": "untaken",
        "again": "current",
        "rest": "untaken",
        "lost": "untaken",
    }
    assert [edge.state for edge in drawing.edges] == [
        "taken",
        "taken",
        "untaken",
        "taken",
        "untaken",
        "untaken",
    ]
    assert drawing.words == (
        "Taken: intro, then pause, then answered, then again. Now at again. "
        "Not taken: won, rest, lost."
    )


def test_a_plan_without_a_run_is_plain() -> None:
    drawing = draw(outreach())
    assert {step.state for step in drawing.steps} == {"plain"}
    assert {edge.state for edge in drawing.edges} == {"plain"}


def test_a_loop_counts_its_visits() -> None:
    plan = create_plan(
        id="loop",
        name="Loop",
        steps=[
            steps.wait("rest", {"days": 1}),
            steps.branch(
                "again",
                [{"when": "contact.bounced", "goto": "out"}, {"when": "default", "goto": "rest"}],
            ),
            steps.end("out", "out"),
        ],
        transitions=transitions.explicit([{"from": "rest", "to": "again"}]),
    )
    drawing = draw(plan, Way(("rest", "again", "rest"), "rest"))
    visits = {step.id: step.visits for step in drawing.steps}
    assert visits == {"rest": 2, "again": 1, "out": 0}
    taken = [edge.state for edge in drawing.edges]
    assert taken.count("taken") == 2, "there and back"


@pytest.mark.parametrize("text", ["x" * 300, "<script>"])
def test_long_conditions_are_cut_and_kept_in_full_beside(text: str) -> None:
    when = f'variables.a == "{text}"'
    plan = create_plan(
        id="p",
        name="P",
        steps=[
            steps.branch("b", [{"when": when, "goto": "x"}, {"when": "default", "goto": "y"}]),
            steps.end("x", "x"),
            steps.end("y", "y"),
        ],
    )
    edge = draw(plan).edges[0]
    assert len(edge.label) <= 26
    assert edge.full == when
