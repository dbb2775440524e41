"""Every check of a plan that goes beyond a single field; all faults are found in one go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from dee_es.core.conditions.condition import ConditionError, Default, lookups, parse
from dee_es.core.known_fields import nearest
from dee_es.core.plans.graph import (
    cycles,
    explicit_next,
    leads_on,
    linear_next,
    reachable,
    successors,
)
from dee_es.core.plans.model import MAX_STEPS, Edge
from dee_es.core.plans.reading import Draft, Outline
from dee_es.errors import PlanFault

_MOST_HINTS = 20
"""Looking for the nearest name is slow: a plan with more wrong names than this gets no more."""
_MOST_NAMES = 8
"""Most step ids that one message lists."""


def check_draft(draft: Draft) -> list[PlanFault]:
    """The faults that only the plan as a whole shows."""
    return list(_faults(draft))


def _faults(draft: Draft) -> Iterator[PlanFault]:
    if draft.count > MAX_STEPS:
        remedy = "split it into several plans"
        yield PlanFault(None, f"{draft.count} steps are more than the {MAX_STEPS} allowed", remedy)
    ids = _Ids(draft.outlines)
    yield from _duplicates(draft.outlines)
    for outline in draft.outlines:
        if outline.type == "branch":
            yield from _branch(outline, ids)
    for where, when in draft.exits:
        yield from _condition(None, where, when, ids)
        if when.strip() == "default":
            remedy = "give a condition, or remove it"
            yield PlanFault(None, f"`{where}`: `default` would end every run at once", remedy)
    for edge in draft.edges or ():
        yield from _edge(edge, ids)
    yield from _several_ways(draft.edges or (), ids)
    if draft.sound and ids.known:
        yield from _graph(list(ids.known.values()), draft.edges)


class _Ids:
    """The steps by id, the first of each name, and hints for names that are none of them."""

    def __init__(self, outlines: Sequence[Outline]) -> None:
        self.known: dict[str, Outline] = {}
        for outline in outlines:
            self.known.setdefault(outline.id, outline)
        self._hints_left = _MOST_HINTS

    def remedy(self, name: str) -> str:
        self._hints_left -= 1
        near = nearest(name, self.known) if self._hints_left >= 0 else None
        return f"did you mean {near!r}?" if near else "name a step of this plan, or add this one"


def _duplicates(outlines: Sequence[Outline]) -> Iterator[PlanFault]:
    for step_id, count in Counter(outline.id for outline in outlines).items():
        if count > 1:
            yield PlanFault(step_id, f"{count} steps have this id", "give each step its own id")


def _branch(branch: Outline, ids: _Ids) -> Iterator[PlanFault]:
    for place, (when, goto) in enumerate(branch.arms):
        yield from _condition(branch.id, f"conditions[{place}].when", when, ids)
        if goto not in ids.known:
            problem = f"`conditions[{place}].goto` names the unknown step {goto!r}"
            yield PlanFault(branch.id, problem, ids.remedy(goto))
    if not branch.arms_known or not branch.arms:
        return
    defaults = [place for place, (when, _) in enumerate(branch.arms) if when.strip() == "default"]
    if not defaults:
        remedy = "add {when: default, goto: ...} as the last condition"
        yield PlanFault(branch.id, "the branch has no `default`", remedy)
    elif len(defaults) > 1:
        remedy = "keep the last one only"
        yield PlanFault(branch.id, f"the branch has `default` {len(defaults)} times", remedy)
    elif defaults[0] != len(branch.arms) - 1:
        remedy = "move it to the end: what follows it is never tried"
        yield PlanFault(branch.id, "`default` is not the last condition", remedy)


def _condition(step_id: str | None, where: str, when: str, ids: _Ids) -> Iterator[PlanFault]:
    try:
        tree = parse(when)
    except ConditionError as error:
        remedy = f"correct the condition at column {error.column}"
        yield PlanFault(step_id, f"`{where}`: {error}", remedy)
        return
    if isinstance(tree, Default):
        return
    for lookup in dict.fromkeys(lookups(tree)):
        named = lookup.step_id
        if named is None:
            continue
        needed = "send_voice" if lookup.kind == "call.outcome" else "send_email"
        if named not in ids.known:
            problem = f"`{where}`: {lookup.key} names an unknown step"
            yield PlanFault(step_id, problem, ids.remedy(named))
        elif ids.known[named].type != needed:
            problem = f"`{where}`: {lookup.key} asks about a step of type {ids.known[named].type}"
            yield PlanFault(step_id, problem, f"name a {needed} step")


def _edge(edge: Edge, ids: _Ids) -> Iterator[PlanFault]:
    source = ids.known.get(edge.from_)
    if source is None:
        problem = f"an edge leads from the unknown step {edge.from_!r}"
        yield PlanFault(edge.from_, problem, ids.remedy(edge.from_))
    if edge.to not in ids.known:
        problem = f"an edge leads to the unknown step {edge.to!r}"
        yield PlanFault(edge.from_, problem, ids.remedy(edge.to))
    if source is None:
        return
    if source.type == "end":
        yield PlanFault(source.id, "an edge leads out of this end step", "remove the edge")
    elif source.type == "branch":
        yield from _branch_edge(edge, source)
    elif edge.condition is not None:
        problem = f"the edge to {edge.to!r} has a condition, but this step is no branch"
        yield PlanFault(source.id, problem, "remove the condition, or branch first")


def _branch_edge(edge: Edge, branch: Outline) -> Iterator[PlanFault]:
    if not branch.arms_known:
        return
    gotos = ", ".join(dict.fromkeys(branch.gotos[:_MOST_NAMES]))
    if edge.condition is not None and edge.condition not in branch.gotos:
        problem = f"the edge condition {edge.condition!r} matches none of the branch's gotos"
        yield PlanFault(branch.id, problem, f"use one of: {gotos}")
    elif edge.to not in branch.gotos:
        problem = f"an edge leads to {edge.to!r}, where no condition of the branch goes"
        yield PlanFault(branch.id, problem, f"lead to one of: {gotos}")
    elif edge.condition not in (None, edge.to):
        problem = f"the edge for {edge.condition!r} leads to {edge.to!r} instead"
        yield PlanFault(branch.id, problem, f"lead it to {edge.condition!r}")


def _several_ways(edges: Sequence[Edge], ids: _Ids) -> Iterator[PlanFault]:
    for step_id, count in Counter(edge.from_ for edge in edges).items():
        if count > 1 and step_id in ids.known and leads_on(ids.known[step_id]):
            problem = f"{count} edges lead out of this step"
            yield PlanFault(step_id, problem, "keep one, or choose between them in a branch")


def _graph(nodes: Sequence[Outline], edges: Sequence[Edge] | None) -> Iterator[PlanFault]:
    if edges is None:
        following = linear_next(nodes)
        yield from _linear(nodes, following)
    else:
        following = explicit_next(nodes, [(edge.from_, edge.to) for edge in edges])
    yield from _dead_ends(nodes, following, linear=edges is None)
    graph = successors(nodes, following)
    reached = reachable(graph, nodes[0].id)
    for node in nodes:
        if node.id not in reached:
            remedy = "lead to it from a step or a branch, or remove it"
            yield PlanFault(node.id, "no way leads to this step", remedy)
    waits = {node.id for node in nodes if node.type == "wait"}
    hasty = {
        step: [target for target in targets if target not in waits]
        for step, targets in graph.items()
        if step not in waits
    }
    for group in cycles(hasty):
        remedy = "put a wait step into the cycle"
        yield PlanFault(group[0], f"a cycle without a wait: {_names(group)}", remedy)
    for group in cycles(graph):
        members = set(group)
        if all(target in members for step in group for target in graph[step]):
            remedy = "let a branch in it lead out"
            yield PlanFault(group[0], f"a cycle without a way out: {_names(group)}", remedy)


def _linear(nodes: Sequence[Outline], following: dict[str, str]) -> Iterator[PlanFault]:
    """Linear edges that pass over goto targets, and must not.

    An arm is a goto target together with the steps written after it, up to the next goto target
    or end step. Only its goto leads into an arm from outside: two arms can meet again at an end
    step, but nothing tells the second step of the last arm from one that all arms share.
    """
    place_of = {node.id: place for place, node in enumerate(nodes)}
    remedy = "say where it leads: explicit(), in a file `transitions: [{from: A, to: B}]`"
    for place, node in enumerate(nodes):
        if not leads_on(node):
            continue
        target = following.get(node.id)
        stop = len(nodes) if target is None else place_of[target]
        passed = nodes[place + 1 : stop]
        end = next((each.id for each in passed if each.type == "end"), None)
        if end is not None:
            yield PlanFault(node.id, f"its linear edge would jump the end step {end!r}", remedy)
        elif passed and target is not None and nodes[stop].type != "end":
            arm = passed[-1].id
            problem = f"its linear edge would lead into the arm of {arm!r}, at {target!r}"
            yield PlanFault(node.id, problem, remedy)


def _dead_ends(
    nodes: Sequence[Outline], following: dict[str, str], *, linear: bool
) -> Iterator[PlanFault]:
    """Steps after which nothing comes, in a plan whose runs complete at an end step."""
    if not any(node.type == "end" for node in nodes):
        return
    last_end = max(place for place, node in enumerate(nodes) if node.type == "end")
    for place, node in enumerate(nodes):
        # Under linear transitions an end step further down was jumped, which is a fault already.
        if leads_on(node) and node.id not in following and not (linear and place < last_end):
            problem = "nothing follows this step, yet the plan has end steps"
            yield PlanFault(node.id, problem, "lead it to an end step")


def _names(group: Sequence[str]) -> str:
    shown = ", ".join(group[:_MOST_NAMES])
    return shown if len(group) <= _MOST_NAMES else f"{shown}, and {len(group) - _MOST_NAMES} more"
