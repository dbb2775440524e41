"""Definitions asked for by kind and id."""

from __future__ import annotations

from typing import Any

import pytest

from dee_es import Contact, ExecutionPlan, create_plan, steps
from dee_es.core.runs import rendering
from dee_es.engine import definitions
from dee_es.errors import InvalidInput, PlanValidationError
from tests.support.engines import open_engine, outreach, publish_basics


@pytest.mark.parametrize("kind", ["plan", "nope", "", None, ["template"]])
def test_a_kind_of_definition_that_there_is_not(kind: Any) -> None:
    with open_engine(":memory:") as engine:
        for ask in (
            lambda: engine.list_definitions(kind),
            lambda: engine.get_definition(kind, "x"),
        ):
            with pytest.raises(InvalidInput, match="kind: must be one of template, script"):
                ask()
        assert engine.list_definitions("template") == {}


def broken(**given: Any) -> ExecutionPlan:
    mail = {"subject": "Hello", **given}
    return create_plan(id="broken", name="Broken", steps=[steps.send_email("m", "intro", **mail)])


@pytest.mark.parametrize(
    "given, told",
    [
        ({"subject": "Hi {{contact.firstName"}, "`subject` is no template: line 1, column 4"),
        ({"subject": "Hi {{#if x}}"}, "`subject` is no template"),
        ({"subject": "a\tb {{x}}"}, "`subject` holds a line break or another control character"),
        ({"subject": "x" * 501}, "`subject` is longer than 500 characters"),
        ({"subject": "{{! nothing }}"}, "`subject` is blank"),
        ({"reply_to": "{{sender.}}"}, "`replyTo` is no template"),
        ({"reply_to": "nobody"}, "`replyTo` "),
        ({"reply_to": "A <a@example.com>, b@example.com"}, "`replyTo` "),
    ],
)
def test_a_text_that_can_become_no_message_is_refused_at_publishing(
    given: dict[str, Any], told: str
) -> None:
    with open_engine(":memory:") as engine:
        publish_basics(engine)
        for publish in (
            lambda: engine.publish_plan(broken(**given)),
            lambda: engine.execute(broken(**given), Contact(id="c1", email="a@example.com")),
        ):
            with pytest.raises(PlanValidationError) as caught:
                publish()
            (fault,) = caught.value.faults
            assert fault.step_id == "m"
            assert fault.problem.startswith(told), fault
        assert engine.list_plans() == []


def test_a_caller_id_that_no_call_can_have_is_refused_at_publishing() -> None:
    plan = create_plan(id="p", name="P", steps=[steps.send_voice("v", "call", caller_id="+1\t555")])
    with open_engine(":memory:") as engine:
        publish_basics(engine)
        with pytest.raises(PlanValidationError, match="callerId"):
            engine.publish_plan(plan)


def test_values_decide_what_templates_come_to() -> None:
    assert rendering.unrenderable(broken(subject="{{a}}", reply_to="{{a}} <{{b}}@c.example>")) == []


def test_what_was_published_before_goes_on_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = broken(subject="Hi {{contact.firstName")
    with open_engine(":memory:") as engine:
        publish_basics(engine)
        with monkeypatch.context() as before:
            before.setattr(definitions, "unrenderable", lambda _: [])
            assert engine.publish_plan(plan).version == 1
        assert engine.publish_plan(plan).version == 1
        run = engine.execute(plan, Contact(id="c1", email="a@example.com"))
        engine.tick()
        assert "subject, line 1" in str(engine.get_run(run.id).status_reason)
        assert engine.replay(run.id).identical


def test_a_policy_that_asks_for_what_nobody_can_grant_is_kept_to_where_it_was_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once any line of text was taken for a purpose; such a policy still stands in old logs."""
    asked = {"consent": {"required": ["email"], "purpose": "product news"}}
    with open_engine(":memory:") as engine:
        publish_basics(engine)
        with monkeypatch.context() as before:
            before.setattr("dee_es.core.gate.policy_input.check_id", lambda *_: None)
            assert engine.publish_policy(asked) == 1
        run = engine.execute(outreach(), Contact(id="c1", email="a@example.com"))
        engine.run_until_idle()
        rules = [each.rule for each in engine.get_timeline(run.id) if each.rule is not None]
        assert set(rules) == {"consent"}
        assert engine.replay(run.id).identical
