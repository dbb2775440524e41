"""Plans of any shape: the way ahead, definitions to JSON and back, faults instead of crashes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dee_es.core.builders import steps, transitions
from dee_es.core.plans.graph import cycles, longest_ways, reachable
from dee_es.core.plans.plan import ExecutionPlan, create_plan, load_plan
from dee_es.errors import PlanValidationError

Graph = dict[str, list[str]]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Any graph of a few steps, loops and unreachable steps included."""
    names = "abcdefg"[: draw(st.integers(1, 7))]
    targets = st.lists(st.sampled_from(names), unique=True, max_size=3).map(sorted)
    return {name: draw(targets) for name in names}


@st.composite
def plans(draw: st.DrawFn) -> ExecutionPlan:
    """Valid explicit plans; every backward goto leads to a wait, so every cycle holds one."""
    size = draw(st.integers(1, 9))
    specs: list[dict[str, object]] = []
    edges: list[dict[str, str]] = []
    for n in range(size):
        kind = draw(st.sampled_from(["email", "voice", "wait", "branch"]))
        waits = [str(spec["id"]) for spec in specs if spec["type"] == "wait"]
        if kind == "branch":
            ahead = [f"s{target}" for target in range(n + 1, size + 1)]
            gotos = draw(st.lists(st.sampled_from(ahead + waits), max_size=3))
            arms = [{"when": "contact.bounced", "goto": goto} for goto in gotos]
            last = {"when": "default", "goto": f"s{n + 1}"}
            specs.append(steps.branch(f"s{n}", [*arms, last]))
            continue
        edges.append({"from": f"s{n}", "to": f"s{n + 1}"})
        specs.append(
            {
                "email": steps.send_email(f"s{n}", f"t{n}", "Subject"),
                "voice": steps.send_voice(f"s{n}", f"c{n}"),
                "wait": steps.wait(f"s{n}", {"minutes": n + 1}),
            }[kind]
        )
    specs.append(steps.end(f"s{size}", "over"))
    return create_plan(id="p", name="P", steps=specs, transitions=transitions.explicit(edges))


def brute_force(graph: Graph) -> dict[str, int]:
    """The longest ways by the words of the definition: search, drop back edges, try every path."""
    forward: Graph = {step: [] for step in graph}
    done: set[str] = set()

    def search(step: str, above: frozenset[str]) -> None:
        done.add(step)
        for target in graph[step]:
            if target in above or target == step:
                continue
            forward[step].append(target)
            if target not in done:
                search(target, above | {step})

    for step in graph:
        if step not in done:
            search(step, frozenset())

    def longest(step: str) -> int:
        return 1 + max((longest(target) for target in forward[step]), default=0)

    return {step: longest(step) for step in graph}


@given(graphs())
def test_the_way_ahead_is_the_longest_one(graph: Graph) -> None:
    assert longest_ways(graph) == brute_force(graph)


@given(graphs())
def test_steps_share_a_cycle_exactly_if_they_reach_each_other(graph: Graph) -> None:
    def reaches(source: str, target: str) -> bool:
        return any(target in reachable(graph, first) for first in graph[source])

    group_of = {step: place for place, group in enumerate(cycles(graph)) for step in group}
    for one in graph:
        assert (one in group_of) == reaches(one, one)
        for other in group_of:
            together = group_of.get(one) == group_of[other]
            assert together == (reaches(one, other) and reaches(other, one))


@given(plans())
def test_remaining_of_whole_plans(plan: ExecutionPlan) -> None:
    graph = plan.graph
    order = {step.id: place for place, step in enumerate(plan.steps)}
    ways: Graph = {}
    for step in plan.steps:
        following = graph.next_after(step.id)
        targets = set(step.gotos) | ({following} if following else set())
        ways[step.id] = sorted(targets, key=order.__getitem__)
    expected = brute_force(ways)
    assert {step.id: graph.remaining(step.id) for step in plan.steps} == expected
    assert graph.remaining_from_start == expected[graph.entry] == max(expected.values())


@given(plans(), st.integers(0, 2**53))
def test_definitions_survive_the_journey_through_json(plan: ExecutionPlan, version: int) -> None:
    definition = json.loads(json.dumps(plan.definition()))
    rebuilt = ExecutionPlan.from_definition(definition, version)
    assert rebuilt == plan.with_version(version)
    assert load_plan(definition) == plan
    assert rebuilt.same_as(plan)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.text(max_size=4), st.integers()), inner, max_size=3),
    ),
    max_leaves=6,
)


@given(plans(), st.data())
def test_a_damaged_document_gives_faults_and_nothing_else(
    plan: ExecutionPlan, data: st.DataObject
) -> None:
    document = copy.deepcopy(plan.definition())
    for _ in range(data.draw(st.integers(1, 3))):
        data.draw(st.sampled_from([_replace_something, _remove_something]))(document, data.draw)
    try:
        load_plan(document)
    except PlanValidationError as error:
        assert error.faults  # noqa: PT017
        assert all(fault.problem and fault.remedy for fault in error.faults)  # noqa: PT017


@given(st.dictionaries(st.sampled_from(["id", "name", "steps", "transitions", "metadata"]), JSON))
def test_any_document_gives_faults_and_nothing_else(document: dict[str, Any]) -> None:
    try:
        load_plan(document)
    except PlanValidationError as error:
        assert error.faults  # noqa: PT017


Draw = Callable[[st.SearchStrategy[Any]], Any]


def _somewhere(document: Any, draw: Draw) -> tuple[Any, Any]:
    """A random container inside the document, and a key or index in it."""
    while True:
        keys = sorted(document, key=str) if isinstance(document, dict) else range(len(document))
        key = draw(st.sampled_from(list(keys)))
        inner = document[key]
        if not (isinstance(inner, (dict, list)) and inner) or draw(st.booleans()):
            return document, key
        document = inner


def _replace_something(document: Any, draw: Draw) -> None:
    if document:
        container, key = _somewhere(document, draw)
        container[key] = draw(JSON)


def _remove_something(document: Any, draw: Draw) -> None:
    if document:
        container, key = _somewhere(document, draw)
        del container[key]
