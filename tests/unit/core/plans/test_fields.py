"""Faulty fields of plans and steps: each fault names the field and a remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from dee_es.core.builders import steps
from dee_es.core.plans.plan import create_plan, load_plan
from dee_es.errors import PlanFault, PlanValidationError

Spec = dict[str, object]

EMAIL = steps.send_email("s", "t", "Subject")


def end(step_id: str) -> Spec:
    return steps.end(step_id, "over")


def fault_of(specs: Sequence[Spec], **more: Any) -> PlanFault:
    with pytest.raises(PlanValidationError) as caught:
        create_plan(**{"id": "p", "name": "P", "steps": specs, **more})
    (fault,) = caught.value.faults
    return fault


@pytest.mark.parametrize(
    "spec, problem, remedy",
    [
        ({"type": "end", "id": "s"}, "`outcome` is missing", "add `outcome`"),
        ({"type": "end", "id": "s", "outcome": " "}, "`outcome` must not be blank", "correct"),
        ({"type": "end", "id": "s", "outcome": 3}, "`outcome` must be text", "quotes"),
        ({"type": "end", "id": "s", "outcome": "a\x00"}, "`outcome` holds a NUL", "correct"),
        ({"type": "end", "id": "s", "outcome": "\ud800"}, "lone surrogate", "correct"),
        (
            {"type": "end", "id": "s", "outcome": "o", "outcom": "o"},
            "unknown key `outcom`",
            "did you mean `outcome`?",
        ),
        ({"type": "ending", "id": "s"}, "unknown step type 'ending'", "did you mean `end`?"),
        ({"type": ["end"], "id": "s"}, "unknown step type ['end']", "did you mean"),
        ({"id": "s"}, "`type` is missing", "add one of send_email, send_voice, wait"),
        (steps.send_email("s", "a b", "x"), "`templateId` is not a well-formed id", "A-Z"),
        (steps.send_email("s", "t", "x\r\nBcc: y"), "`subject` must be a single line", "breaks"),
        (steps.send_email("s", "t", "x", tracking={"open": True}), "`tracking.open`", "`opens`"),
        (
            {**EMAIL, "tracking": {"opens": "yes"}},
            "`tracking.opens` must be true or false",
            "write true or false",
        ),
        ({**EMAIL, "tracking": 3}, "`tracking` must be a mapping", "keys"),
        (steps.send_voice("s", "c", max_duration=0), "`maxDuration` must be more than 0", "larger"),
        (steps.send_voice("s", "c", voicemail="hang"), "`voicemail` must be 'hangup', ", "choose"),
        (steps.wait("s", {}), "`duration` is zero", "give days, hours"),
        (steps.wait("s", {"days": 0}), "`duration` is zero", "give days, hours"),
        (steps.wait("s", {"days": -1}), "`duration.days` must not be less than 0", "larger"),
        (steps.wait("s", {"days": True}), "`duration.days` must be a whole number", "quotes"),
        (steps.wait("s", {"days": 10**9}), "`duration` is longer than 2^53", "shorten"),
        (steps.wait("s", {"weeks": 1, "days": 1}), "`duration.weeks`", "days, hours, minutes"),
        (steps.wait("s", 3), "`duration` must be a mapping", "keys"),  # type: ignore[arg-type]
        ({"type": "branch", "id": "s", "conditions": 3}, "`conditions` must be a list", "list"),
    ],
)
def test_bad_fields(spec: Spec, problem: str, remedy: str) -> None:
    fault = fault_of([spec])
    assert fault.step_id == "s"
    assert problem in fault.problem
    assert remedy in fault.remedy


@pytest.mark.parametrize("step_id", ["", "a b", "a\n", "é", "x" * 129])
def test_ill_formed_ids(step_id: str) -> None:
    fault = fault_of([end(step_id)])
    assert (fault.step_id, fault.problem) == (step_id, "`id` is not a well-formed id")
    assert fault_of([end("z")], id=step_id).problem == "`id` is not a well-formed id"


@pytest.mark.parametrize("spec", [{"type": "end", "outcome": "o"}, {**end("x"), "id": 3}, 3, None])
def test_a_step_without_an_id_is_named_by_its_place(spec: Any) -> None:
    fault = fault_of([end("z"), spec])
    assert fault.step_id is None
    assert "step number 2" in fault.problem


@pytest.mark.parametrize(
    "change, problem, remedy",
    [
        ({"name": ""}, "`name` must not be blank", "correct the text"),
        ({"reenroll": "always"}, "`reenroll` must be 'never' or 'after_end'", "choose"),
        ({"metadata": {"x": float("inf")}}, "`metadata` cannot be kept: metadata.x", "that value"),
        ({"metadata": 3}, "`metadata` must be a mapping", "keys"),
        ({"version": 2}, "`version` is given", "publishing sets it"),
        ({"exit_condition": []}, "unknown key `exit_condition`", "`exitConditions`"),
        ({"exitConditions": [], "exit_conditions": []}, "unknown key `exit_conditions`", "`exit"),
        ({"exitConditions": 3}, "`exitConditions` must be a list", "list"),
        ({"exitConditions": [3]}, "exitConditions[0]: must be a mapping", "keys"),
        ({"steps": None}, "`steps` is missing", "list"),
        ({"steps": "abc"}, "`steps` must be a list", "list"),
        ({"transitions": "round"}, "`transitions` is of no known type", "use linear"),
        ({"transitions": {"type": "explicit"}}, "`transitions.edges` is missing", "list"),
        (
            {"transitions": {"type": "linear", "edges": []}},
            "transitions: unknown key `edges`",
            "known keys are type",
        ),
        ({"transitions": [{"from": "z"}]}, "transitions.edges[0]: `to` is missing", "add `to`"),
        ({"transitions": [3]}, "transitions.edges[0]: must be a mapping", "keys"),
        ({3: 4}, "`[3]` is a key that is not text", "quotes"),
    ],
)
def test_bad_plans(change: dict[Any, Any], problem: str, remedy: str) -> None:
    with pytest.raises(PlanValidationError) as caught:
        load_plan({"id": "p", "name": "P", "steps": [end("z")], **change})
    (fault,) = caught.value.faults
    assert problem in fault.problem
    assert remedy in fault.remedy


@pytest.mark.parametrize("data", [None, 3, [], "text"])
def test_a_plan_that_is_no_mapping(data: Any) -> None:
    with pytest.raises(PlanValidationError, match="the plan is not a mapping"):
        load_plan(data)
