"""Where steps lead, and how long the way ahead is."""

from __future__ import annotations

import time

import pytest

from dee_es.core.builders import steps, transitions
from dee_es.core.conditions.condition import Default, Lookup
from dee_es.core.plans.graph import cycles, longest_ways
from dee_es.core.plans.plan import ExecutionPlan, create_plan


def email(step_id: str) -> dict[str, object]:
    return steps.send_email(step_id, f"t-{step_id}", "Subject")


def pause(step_id: str) -> dict[str, object]:
    return steps.wait(step_id, {"hours": 1})


def branch(step_id: str, *gotos: str) -> dict[str, object]:
    """A branch whose last goto is its default."""
    arms = [{"when": "contact.bounced", "goto": goto} for goto in gotos[:-1]]
    return steps.branch(step_id, [*arms, {"when": "default", "goto": gotos[-1]}])


def end(step_id: str) -> dict[str, object]:
    return steps.end(step_id, f"outcome-{step_id}")


def plan(*specs: dict[str, object], edges: str | None = None) -> ExecutionPlan:
    """A plan of these steps; `edges` such as "a>b b>c" makes its transitions explicit."""
    pairs = [edge.split(">") for edge in (edges or "").split()]
    explicit = transitions.explicit([{"from": source, "to": target} for source, target in pairs])
    chosen = transitions.linear() if edges is None else explicit
    return create_plan(id="p", name="P", steps=specs, transitions=chosen)


def following(made: ExecutionPlan) -> dict[str, str | None]:
    return {step.id: made.graph.next_after(step.id) for step in made.steps}


def remaining(made: ExecutionPlan) -> dict[str, int]:
    return {step.id: made.graph.remaining(step.id) for step in made.steps}


QUICKSTART = (
    email("intro"),
    pause("wait"),
    branch("check", "engaged", "cold"),
    email("engaged"),
    email("cold"),
    end("done"),
)


def test_the_engaged_mail_does_not_fall_into_the_cold_one() -> None:
    made = plan(*QUICKSTART)
    assert following(made) == {
        "intro": "wait",
        "wait": "check",
        "check": None,
        "engaged": "done",
        "cold": "done",
        "done": None,
    }
    assert remaining(made) == {
        "intro": 5,
        "wait": 4,
        "check": 3,
        "engaged": 2,
        "cold": 2,
        "done": 1,
    }
    assert made.graph.remaining_from_start == 5
    assert made.graph.entry == "intro"


def test_arms_of_several_steps_that_end_by_themselves() -> None:
    made = plan(
        branch("check", "a", "b"),
        email("a"),
        email("a2"),
        end("a3"),
        email("b"),
        pause("b2"),
        end("b3"),
    )
    assert following(made) == {
        "check": None,
        "a": "a2",
        "a2": "a3",
        "a3": None,
        "b": "b2",
        "b2": "b3",
        "b3": None,
    }


def test_arms_meet_again_at_an_end_step() -> None:
    made = plan(branch("check", "a", "b"), email("a"), email("a2"), email("b"), end("over"))
    assert following(made)["a2"] == "over"
    assert following(made)["b"] == "over"


def test_an_arm_may_branch_again() -> None:
    made = plan(
        branch("one", "a", "two"),
        email("a"),
        branch("two", "b", "c"),
        email("b"),
        email("c"),
        end("z"),
    )
    assert following(made) | {} == {
        "one": None,
        "a": "z",
        "two": None,
        "b": "z",
        "c": "z",
        "z": None,
    }


def test_a_plan_without_end_steps_stops_after_the_last_step_of_each_way() -> None:
    made = plan(email("intro"), branch("check", "a", "b"), email("a"), email("b"))
    assert following(made) == {"intro": "check", "check": None, "a": None, "b": None}
    assert remaining(made) == {"intro": 3, "check": 2, "a": 1, "b": 1}
    assert not made.graph.has_end_steps


def test_explicit_edges_override_the_order() -> None:
    made = plan(email("a"), email("b"), end("z"), email("c"), edges="a>c c>b b>z")
    assert following(made) == {"a": "c", "c": "b", "b": "z", "z": None}
    assert remaining(made) == {"a": 4, "c": 3, "b": 2, "z": 1}


def test_edges_out_of_a_branch_only_repeat_its_gotos() -> None:
    specs = (branch("check", "a", "b"), end("a"), end("b"))
    labelled = create_plan(
        id="p",
        name="P",
        steps=specs,
        transitions=transitions.explicit([{"from": "check", "to": "a", "condition": "a"}]),
    )
    assert labelled.graph == plan(*specs).graph
    assert labelled.graph.next_after("check") is None


def test_a_loop_counts_once() -> None:
    made = plan(
        email("intro"),
        email("again"),
        pause("wait"),
        branch("check", "over", "again"),
        end("over"),
        edges="intro>again again>wait wait>check",
    )
    assert remaining(made) == {"intro": 5, "again": 4, "wait": 3, "check": 2, "over": 1}


def test_a_wait_that_a_branch_leads_back_to() -> None:
    made = plan(pause("wait"), branch("check", "over", "wait"), end("over"))
    assert remaining(made) == {"wait": 3, "check": 2, "over": 1}


def test_what_a_plan_needs() -> None:
    made = create_plan(
        id="p",
        name="P",
        steps=[email("a"), steps.send_voice("b", "script"), email("c"), end("z")],
        exit_conditions=[
            {"when": "contact.unsubscribed", "outcome": "gone"},
            {"when": "events.hasReply(any)", "outcome": "replied"},
        ],
    )
    assert made.graph.templates == {"t-a", "t-c"}
    assert made.graph.scripts == {"script"}
    assert made.graph.channels == {"email", "voice"}
    assert made.graph.has_end_steps
    assert made.graph.exits == (
        (Lookup("contact.unsubscribed"), "gone"),
        (Lookup("events.hasReply"), "replied"),
    )


def test_branches_are_parsed_once() -> None:
    graph = plan(*QUICKSTART).graph
    assert graph.arms("check") == ((Lookup("contact.bounced"), "engaged"), (Default(), "cold"))
    assert graph.step("cold").id == "cold"


@pytest.mark.parametrize("ask", ["step", "next_after", "arms", "remaining"])
def test_an_unknown_step_is_a_key_error(ask: str) -> None:
    with pytest.raises(KeyError):
        getattr(plan(*QUICKSTART).graph, ask)("nobody")


def test_the_graph_is_computed_once() -> None:
    made = plan(*QUICKSTART)
    assert made.graph is made.graph
    assert made.with_version(2).graph is made.graph


def test_a_thousand_steps_are_quick_and_need_no_deep_stack() -> None:
    specs = [email(f"s{n}") for n in range(999)]
    start = time.perf_counter()
    made = plan(*specs, end("z"))
    assert made.graph.remaining_from_start == 1000
    # Measured at 30 ms; the bound only catches an algorithm that is no longer linear.
    assert time.perf_counter() - start < 1


def test_back_edges_are_found_depth_first_in_the_given_order() -> None:
    # "b" and "c" lead to each other: the one met first keeps its edge, the other's is a back edge.
    assert longest_ways({"a": ["b", "c"], "b": ["c"], "c": ["b"]}) == {"a": 3, "b": 2, "c": 1}
    assert longest_ways({"a": ["c", "b"], "b": ["c"], "c": ["b"]}) == {"a": 3, "b": 1, "c": 2}


def test_cycles_are_groups_of_steps() -> None:
    graph = {"a": ["b"], "b": ["a", "c"], "c": ["d"], "d": ["d"], "e": ["c"]}
    assert cycles(graph) == [["a", "b"], ["d"]]
    assert cycles({"a": ["b"], "b": []}) == []
