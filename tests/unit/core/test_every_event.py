"""A new event is nowhere passed over by mistake: whatever folds or tells events either knows it, or
names it among those that it leaves out."""

from __future__ import annotations

from types import ModuleType

import pytest
from msgspec.structs import replace

from dee_es.core import events as e
from dee_es.core.events import runs, steps
from dee_es.core.registry import NAMES, REGISTRY
from dee_es.core.runs import fold, step_results
from dee_es.engine.past import explain
from projections import ALL, AUDIT_TRAIL, contact_history, run_list, step_funnel
from tests.golden.examples import EXAMPLES

EVERY = {entry.cls for entry in REGISTRY.values()}
OF_RUNS = {event for event in EVERY if event.__module__ in (runs.__name__, steps.__name__)}
"""All that can stand in the stream of a run."""
NOTHING: frozenset[type[e.Event]] = frozenset()


@pytest.mark.parametrize(
    "module, known, ignored, meant",
    [
        (fold, fold._FOLDS, NOTHING, OF_RUNS),
        (run_list, run_list._FOLDS, run_list.IGNORED, OF_RUNS),
        (step_funnel, step_funnel._FOLDS, step_funnel.IGNORED, OF_RUNS),
        (contact_history, contact_history._KINDS, contact_history.IGNORED, EVERY),
        (explain, explain._SENTENCES, explain.UNTOLD, EVERY),
    ],
    ids=lambda each: each.__name__ if isinstance(each, ModuleType) else "",
)
def test_every_event_is_known_or_named_as_left_out(
    module: ModuleType,
    known: dict[type[e.Event], object],
    ignored: frozenset[type[e.Event]],
    meant: set[type[e.Event]],
) -> None:
    assert known.keys() | ignored == meant, module
    assert not known.keys() & ignored, module


@pytest.mark.parametrize("event", sorted(OF_RUNS, key=str), ids=lambda each: each.__name__)
def test_every_event_says_what_became_of_a_step_or_is_named_as_saying_nothing(
    event: type[e.Event],
) -> None:
    example = EXAMPLES[NAMES[event]]
    # What comes out late is evidence, and no result any more.
    if getattr(example, "late", False):
        example = replace(example, late=False)  # type: ignore[call-arg]
    told = list(step_results.step_results([(example, 7)]))
    assert (not told) == (event in step_results.UNTOLD)


@pytest.mark.parametrize("name", REGISTRY)
def test_the_audit_trail_leaves_out_none(name: str) -> None:
    recorded = e.RecordedEvent("system", 1, name, 1, e.Meta(0, "cmd", "x", 0), EXAMPLES[name])
    assert AUDIT_TRAIL.line(None, recorded).action == REGISTRY[name].action


def test_there_is_no_other_projection() -> None:
    assert {each.name for each in ALL} == {
        "audit_trail", "contact_history", "run_list", "step_funnel"
    }  # fmt: skip


def test_projections_of_runs_are_asked_for_nothing_else() -> None:
    """What stands in other streams has no row to change."""
    meta = e.Meta(0, "cmd", "x", 0)
    for name in REGISTRY:
        recorded = e.RecordedEvent("contact:c1", 1, name, 1, meta, EXAMPLES[name])
        assert run_list.RUN_LIST.key(recorded) is None
        assert step_funnel.STEP_FUNNEL.key(recorded) is None
