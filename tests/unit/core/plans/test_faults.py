"""Faulty plans: each fault names its step and a remedy, and none hides another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from dee_es.core.builders import steps, transitions
from dee_es.core.plans.plan import MAX_STEPS, create_plan
from dee_es.errors import PlanFault, PlanValidationError

Spec = dict[str, object]


def email(step_id: str) -> Spec:
    return steps.send_email(step_id, "t", "Subject")


def pause(step_id: str) -> Spec:
    return steps.wait(step_id, {"hours": 1})


def branch(step_id: str, *gotos: str, when: str = "contact.bounced") -> Spec:
    """A branch whose last goto is its default."""
    arms = [{"when": when, "goto": goto} for goto in gotos[:-1]]
    return steps.branch(step_id, [*arms, {"when": "default", "goto": gotos[-1]}])


def end(step_id: str) -> Spec:
    return steps.end(step_id, "over")


def faults_of(specs: Sequence[Spec], **more: Any) -> tuple[PlanFault, ...]:
    with pytest.raises(PlanValidationError) as caught:
        create_plan(**{"id": "p", "name": "P", "steps": specs, **more})
    assert all(fault.remedy for fault in caught.value.faults)
    return caught.value.faults


def fault_of(specs: Sequence[Spec], **more: Any) -> PlanFault:
    faults = faults_of(specs, **more)
    assert len(faults) == 1, faults
    return faults[0]


def edges(text: str) -> dict[str, object]:
    """ "a>b c>d=label" as explicit transitions."""
    found: list[dict[str, str]] = []
    for edge in text.split():
        source, _, rest = edge.partition(">")
        target, _, label = rest.partition("=")
        found.append({"from": source, "to": target, **({"condition": label} if label else {})})
    return transitions.explicit(found)


# --- linear transitions -------------------------------------------------------------------------


def test_a_linear_edge_into_the_middle_of_an_arm() -> None:
    specs = [branch("check", "a", "b"), email("a"), email("a2"), email("b"), email("b2"), end("z")]
    assert fault_of(specs) == PlanFault(
        "a2",
        "its linear edge would lead into the arm of 'b', at 'b2'",
        "say where it leads: explicit(), in a file `transitions: [{from: A, to: B}]`",
    )


def test_the_step_after_the_last_arm_belongs_to_that_arm() -> None:
    fault = fault_of([branch("check", "a", "b"), email("a"), email("b"), email("c"), end("z")])
    assert (fault.step_id, "arm of 'b', at 'c'" in fault.problem) == ("a", True)


def test_the_arm_that_is_named_is_the_one_the_edge_leads_into_not_one_it_passes() -> None:
    arms = [branch("check", "a", "b", "c"), email("a"), email("b"), email("c"), email("d")]
    faults = faults_of([*arms, end("z")])
    assert [fault.step_id for fault in faults] == ["a", "b"]
    assert all("arm of 'c', at 'd'" in fault.problem for fault in faults)


def test_a_linear_edge_past_the_head_of_a_loop() -> None:
    specs = [email("intro"), email("loop"), pause("w"), branch("check", "z", "loop"), end("z")]
    fault = fault_of(specs)
    assert (fault.step_id, "arm of 'loop', at 'w'" in fault.problem) == ("intro", True)


@pytest.mark.parametrize("after", [[], [email("c"), end("z")]])
def test_a_linear_edge_over_an_end_step(after: list[Spec]) -> None:
    fault = faults_of([branch("check", "stop", "a"), email("a"), end("stop"), *after])[0]
    assert fault == PlanFault(
        "a",
        "its linear edge would jump the end step 'stop'",
        "say where it leads: explicit(), in a file `transitions: [{from: A, to: B}]`",
    )


def test_what_linear_cannot_say_explicit_can() -> None:
    specs = [branch("check", "a", "b"), email("a"), email("b"), email("c"), end("z")]
    plan = create_plan(id="p", name="P", steps=specs, transitions=edges("a>c b>c c>z"))
    assert plan.graph.remaining_from_start == 4


def test_nothing_follows_although_there_are_end_steps() -> None:
    fault = fault_of([branch("check", "z", "a"), end("z"), email("a")])
    assert (fault.step_id, fault.remedy) == ("a", "lead it to an end step")
    specs = [branch("check", "z", "a"), end("z"), email("a")]
    assert fault_of(specs, transitions=edges("")).step_id == "a"


# --- the graph ----------------------------------------------------------------------------------


def test_an_unknown_goto() -> None:
    faults = faults_of([branch("check", "engagd", "cold"), email("engaged"), email("cold")])
    assert faults == (
        PlanFault(
            "check",
            "`conditions[0].goto` names the unknown step 'engagd'",
            "did you mean 'engaged'?",
        ),
        PlanFault(
            "engaged",
            "no way leads to this step",
            "lead to it from a step or a branch, or remove it",
        ),
    )


def test_duplicate_ids() -> None:
    assert fault_of([email("a"), email("a"), email("a")]) == PlanFault(
        "a", "3 steps have this id", "give each step its own id"
    )


@pytest.mark.parametrize("arms", ["anything", [{"when": "default"}], [{"goto": "b"}, "b"]])
def test_where_a_branch_cannot_be_read_no_step_is_called_unreachable(arms: object) -> None:
    """Its arms may be what leads there: whoever mends them would be told what was never wrong."""
    odd: Spec = {"type": "branch", "id": "check", "conditions": arms}
    faults = faults_of([odd, email("a"), end("x"), email("b"), end("y")])
    assert {fault.step_id for fault in faults} == {"check"}


def test_unreachable_steps() -> None:
    faults = faults_of([email("a"), end("y"), email("b"), end("z")])
    assert [fault.step_id for fault in faults] == ["b", "z"]
    assert {fault.problem for fault in faults} == {"no way leads to this step"}


@pytest.mark.parametrize(
    "conditions, problem",
    [
        ([("contact.bounced", "z")], "the branch has no `default`"),
        ([("default", "z"), ("contact.bounced", "z")], "`default` is not the last condition"),
        ([("default", "z"), ("default", "z")], "the branch has `default` 2 times"),
        ([], "`conditions` is empty"),
    ],
)
def test_default_comes_last_and_once(conditions: list[tuple[str, str]], problem: str) -> None:
    arms = [{"when": when, "goto": goto} for when, goto in conditions]
    faults = faults_of([steps.branch("check", arms), end("z")])
    assert (faults[0].step_id, faults[0].problem) == ("check", problem)


def test_a_cycle_without_a_wait() -> None:
    specs = [email("a"), email("b"), branch("check", "z", "a"), end("z")]
    assert fault_of(specs) == PlanFault(
        "a", "a cycle without a wait: a, b, check", "put a wait step into the cycle"
    )
    assert fault_of([branch("check", "z", "check"), end("z")]).problem.endswith(": check")


def test_a_wait_beside_the_cycle_does_not_help() -> None:
    specs = [pause("w"), email("a"), branch("check", "w", "a", "z"), end("z")]
    fault = fault_of(specs, transitions=edges("w>a a>check"))
    assert fault.problem == "a cycle without a wait: a, check"


def test_a_cycle_without_a_way_out() -> None:
    fault = fault_of([email("a"), pause("w")], transitions=edges("a>w w>a"))
    assert fault == PlanFault("a", "a cycle without a way out: a, w", "let a branch in it lead out")


def test_a_long_cycle_is_not_listed_in_full() -> None:
    ring = " ".join(f"s{n}>s{(n + 1) % 20}" for n in range(20))
    fault = fault_of([pause(f"s{n}") for n in range(20)], transitions=edges(ring))
    assert fault.problem.endswith("s6, s7, and 12 more")


def test_too_many_steps() -> None:
    fault = fault_of([email(f"s{n}") for n in range(MAX_STEPS + 1)])
    assert fault.step_id is None
    assert fault.problem == "1001 steps are more than the 1000 allowed"


def test_no_steps() -> None:
    assert fault_of([]) == PlanFault(None, "the plan has no steps", "add at least one step")


# --- explicit edges -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, step_id, problem, remedy",
    [
        ("intr>z", "intr", "leads from the unknown step 'intr'", "did you mean 'intro'?"),
        ("intro>nobody", "intro", "leads to the unknown step 'nobody'", "name a step"),
        ("z>intro", "z", "leads out of this end step", "remove the edge"),
        ("intro>check=a", "intro", "this step is no branch", "branch first"),
        ("check>a=c", "check", "'c' matches none of the branch's gotos", "use one of: a, b"),
        ("check>z", "check", "leads to 'z', where no condition", "lead to one of: a, b"),
        ("check>b=a", "check", "for 'a' leads to 'b' instead", "lead it to 'a'"),
        ("a>z", "a", "2 edges lead out of this step", "choose between them in a branch"),
    ],
)
def test_edges(text: str, step_id: str, problem: str, remedy: str) -> None:
    specs = [email("intro"), branch("check", "a", "b"), email("a"), email("b"), end("z")]
    fine = "intro>check check>a=a check>b a>z b>z "
    assert create_plan(id="p", name="P", steps=specs, transitions=edges(fine)).version == 0
    found = [
        fault
        for fault in faults_of(specs, transitions=edges(fine + text))
        if fault.step_id == step_id and problem in fault.problem
    ]
    assert len(found) == 1
    assert remedy in found[0].remedy


# --- conditions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "when, problem, remedy",
    [
        ("variables.x = 1", "`conditions[0].when`: column 13: ", "at column 13"),
        ("default", "the branch has `default` 2 times", "keep the last one only"),
        (
            'events.hasOpen("intr")',
            'events.hasOpen("intr") names an unknown step',
            "did you mean 'intro'?",
        ),
        (
            'events.hasOpen("z")',
            'events.hasOpen("z") asks about a step of type end',
            "name a send_email step",
        ),
        (
            "call.outcome('intro') == 'busy'",
            'call.outcome("intro") asks about a step of type send_email',
            "name a send_voice step",
        ),
    ],
)
def test_bad_conditions(when: str, problem: str, remedy: str) -> None:
    fault = fault_of([email("intro"), branch("check", "z", "z", when=when), end("z")])
    assert fault.step_id == "check"
    assert problem in fault.problem
    assert remedy in fault.remedy


def test_bad_exit_conditions() -> None:
    exits = [
        {"when": "default", "outcome": "o"},
        {"when": "events.hasReply('nobody')", "outcome": "o"},
        {"when": "(", "outcome": "o"},
        {"when": "contact.bounced", "outcom": "o"},
    ]
    faults = faults_of([email("a")], exit_conditions=exits)
    assert [(fault.step_id, fault.problem) for fault in faults] == [
        (None, "exitConditions[3]: `outcome` is missing"),
        (None, "exitConditions[3]: unknown key `outcom`"),
        (None, "`exitConditions[0].when`: `default` would end every run at once"),
        (None, '`exitConditions[1].when`: events.hasReply("nobody") names an unknown step'),
        (None, "`exitConditions[2].when`: column 2: expected a value, found the end"),
    ]
    assert faults[1].remedy == "did you mean `outcome`?"


# --- together -----------------------------------------------------------------------------------


def test_every_fault_is_reported_at_once_in_definition_order() -> None:
    specs: list[Spec] = [
        {**email("intro"), "subject": 3},
        branch("check", "nobody", "cold", when="variables.x ="),
        steps.wait("cold", {"days": 0}),
        email("cold"),
        email("lost one"),
        end("z"),
    ]
    faults = faults_of(specs, id="my plan", exit_conditions=[{"when": "x", "outcome": "o"}])
    assert [(fault.step_id, fault.problem.split(":")[0]) for fault in faults] == [
        (None, "`id` is not a well-formed id"),
        (None, "`exitConditions[0].when`"),
        ("intro", "`subject` must be text"),
        ("check", "`conditions[0].when`"),
        ("check", "`conditions[0].goto` names the unknown step 'nobody'"),
        ("cold", "`duration` is zero"),
        ("cold", "2 steps have this id"),
        ("lost one", "`id` is not a well-formed id"),
    ]


def test_the_message_names_plan_steps_and_remedies() -> None:
    with pytest.raises(PlanValidationError) as caught:
        create_plan(id="p", name="P", steps=[email("a"), email("a")])
    assert str(caught.value) == (
        "plan 'p' has 1 fault:\n  - step 'a': 2 steps have this id (give each step its own id)"
    )


def test_a_thousand_wrong_names_are_still_quick() -> None:
    specs = [branch(f"check-{n}", f"chek-{n}") for n in range(MAX_STEPS)]
    faults = faults_of(specs)
    hinted = [fault for fault in faults if fault.remedy.startswith("did you mean")]
    assert len(hinted) == 20
