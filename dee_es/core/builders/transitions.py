"""How the steps of a plan follow each other: by their order, or by edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

TransitionsSpec = dict[str, object]
"""Transitions as a plan file holds them, not yet checked."""


def linear() -> TransitionsSpec:
    """Each step leads to the next one in definition order that no branch goes to."""
    return {"type": "linear"}


def explicit(edges: Sequence[Mapping[str, str]]) -> TransitionsSpec:
    """Steps lead where the edges {from, to, condition?} say.

    Branches lead to their gotos by themselves. An edge out of a branch may repeat one of them:
    its `condition`, if given, is that goto.
    """
    return {"type": "explicit", "edges": edges}
