"""The graph of a plan: where each step leads, and how long the way ahead is.

**Linear transitions.** A step that is neither a branch nor an end leads to the next step, in
definition order, that is no goto target. Steps that are targets are entered by their branch only,
so one arm does not fall into the arm written below it.

All algorithms here are iterative: a plan may be a thousand steps deep.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dee_es.core.channels import ChannelName
from dee_es.core.conditions.condition import Condition, parse
from dee_es.core.steps import Branch, End, SendEmail, SendVoice, Step

Successors = Mapping[str, Sequence[str]]
"""The steps that each step may lead to, for every step of a plan."""


class Node(Protocol):
    """As much of a step as its place in the graph needs."""

    @property
    def id(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def gotos(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class PlanGraph:
    """What the engine asks a plan while it runs; every answer is a look-up."""

    entry: str
    """The step a run begins with: the first one defined."""
    exits: tuple[tuple[Condition, str], ...]
    """The exit conditions with their outcomes, in definition order."""
    templates: frozenset[str]
    scripts: frozenset[str]
    channels: frozenset[ChannelName]
    """What the plan sends through; empty if it sends nothing."""
    has_end_steps: bool
    _steps: dict[str, Step] = field(repr=False)
    _next: dict[str, str | None] = field(repr=False)
    _arms: dict[str, tuple[tuple[Condition, str], ...]] = field(repr=False)
    _remaining: dict[str, int] = field(repr=False)

    def step(self, step_id: str) -> Step:
        """The step with this id; raises KeyError if the plan has none."""
        return self._steps[step_id]

    def next_after(self, step_id: str) -> str | None:
        """The step that follows; None after a branch, an end and the last step of a way.

        Raises KeyError for an unknown step.
        """
        return self._next[step_id]

    def arms(self, branch_id: str) -> tuple[tuple[Condition, str], ...]:
        """A branch's conditions with their gotos, in order; raises KeyError for another step."""
        return self._arms[branch_id]

    def remaining(self, step_id: str) -> int:
        """The longest way from this step to where a run completes, both counted, in steps.

        Back edges do not count: those that a depth-first search from the entry, taking steps in
        definition order, finds to lead back to a step it is still below. Raises KeyError for an
        unknown step.
        """
        return self._remaining[step_id]

    @property
    def remaining_from_start(self) -> int:
        """The longest way through the whole plan, in steps."""
        return self._remaining[self.entry]


def build_graph(
    steps: Sequence[Step],
    edges: Iterable[tuple[str, str]] | None,
    exits: Iterable[tuple[str, str]],
) -> PlanGraph:
    """The graph of a plan whose definition is known to be valid: its steps, its explicit
    transitions (None: they are linear), and its exit conditions with their outcomes."""
    following = linear_next(steps) if edges is None else explicit_next(steps, edges)
    return PlanGraph(
        entry=steps[0].id,
        exits=tuple((parse(when), outcome) for when, outcome in exits),
        templates=frozenset(step.template_id for step in steps if isinstance(step, SendEmail)),
        scripts=frozenset(step.script_id for step in steps if isinstance(step, SendVoice)),
        channels=frozenset(step.channel for step in steps if step.channel is not None),
        has_end_steps=any(isinstance(step, End) for step in steps),
        _steps={step.id: step for step in steps},
        _next={step.id: following.get(step.id) for step in steps},
        _arms={
            step.id: tuple((parse(arm.when), arm.goto) for arm in step.conditions)
            for step in steps
            if isinstance(step, Branch)
        },
        _remaining=longest_ways(successors(steps, following)),
    )


def leads_on(node: Node) -> bool:
    """Whether the step leads to another one by itself: it is neither a branch nor an end."""
    return node.type not in ("branch", "end")


def linear_next(nodes: Sequence[Node]) -> dict[str, str]:
    """The step after each step under linear transitions; steps that lead nowhere are left out."""
    targets = goto_targets(nodes)
    following: dict[str, str] = {}
    ahead: str | None = None
    for node in reversed(nodes):
        if leads_on(node) and ahead is not None:
            following[node.id] = ahead
        if node.id not in targets:
            ahead = node.id
    return following


def explicit_next(nodes: Sequence[Node], edges: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The step after each step under explicit transitions.

    A branch's way on is its gotos: the edges out of it only repeat them.
    """
    plain = {node.id for node in nodes if leads_on(node)}
    return {source: target for source, target in edges if source in plain}


def goto_targets(nodes: Iterable[Node]) -> set[str]:
    """All steps that some branch goes to."""
    return {goto for node in nodes for goto in node.gotos}


def successors(nodes: Sequence[Node], following: Mapping[str, str]) -> dict[str, list[str]]:
    """Where each step may lead, each target once, in definition order, unknown ones left out."""
    order = {node.id: place for place, node in enumerate(nodes)}
    found: dict[str, list[str]] = {}
    for node in nodes:
        targets = {*node.gotos, *([following[node.id]] if node.id in following else [])}
        found[node.id] = sorted(targets & order.keys(), key=order.__getitem__)
    return found


def reachable(graph: Successors, entry: str) -> set[str]:
    """The steps that a run beginning at `entry` may ever come to."""
    seen = {entry}
    pending = [entry]
    while pending:
        for target in graph[pending.pop()]:
            if target not in seen:
                seen.add(target)
                pending.append(target)
    return seen


def longest_ways(graph: Successors) -> dict[str, int]:
    """The longest way ahead of every step, itself counted, without back edges."""
    ways: dict[str, int] = {}
    for step in _finishing_order(graph):
        # A search leaves every target before the step itself, except where a back edge leads.
        ways[step] = 1 + max((ways[target] for target in graph[step] if target in ways), default=0)
    return ways


def cycles(graph: Successors) -> list[list[str]]:
    """The groups of steps that lie on cycles, each group's members reaching one another.

    These are the strongly connected components that hold at least one edge (Kosaraju's method).
    Members and groups come in the order of `graph`.
    """
    backwards: dict[str, list[str]] = {step: [] for step in graph}
    for step, targets in graph.items():
        for target in targets:
            backwards[target].append(step)
    group_of: dict[str, str] = {}
    for step in reversed(_finishing_order(graph)):
        if step in group_of:
            continue
        group_of[step] = step
        pending = [step]
        while pending:
            for source in backwards[pending.pop()]:
                if source not in group_of:
                    group_of[source] = step
                    pending.append(source)
    groups: dict[str, list[str]] = {}
    for step in graph:
        groups.setdefault(group_of[step], []).append(step)
    return [group for group in groups.values() if len(group) > 1 or group[0] in graph[group[0]]]


def _finishing_order(graph: Successors) -> list[str]:
    """The steps in the order in which a depth-first search leaves them, begun in graph order."""
    order: list[str] = []
    seen: set[str] = set()
    for root in graph:
        if root in seen:
            continue
        seen.add(root)
        stack = [(root, iter(graph[root]))]
        while stack:
            step, targets = stack[-1]
            target = next((each for each in targets if each not in seen), None)
            if target is None:
                stack.pop()
                order.append(step)
            else:
                seen.add(target)
                stack.append((target, iter(graph[target])))
    return order
