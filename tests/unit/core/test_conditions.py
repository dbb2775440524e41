"""Conditions: what parses, to what, where it fails, and when it holds."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from dee_es.core.conditions.condition import (
    MAX_DEPTH,
    MAX_LENGTH,
    And,
    Compare,
    ConditionError,
    Default,
    Literal,
    Lookup,
    Not,
    Or,
    evaluate,
    lookups,
    parse,
    unparse,
)

REPLY = Lookup("events.hasReply", "intro")
OPEN = Lookup("events.hasOpen", "intro")
X = Lookup("variables", "x")


def holds(text: str, **values: object) -> bool:
    """Evaluate with variables given by name; every other lookup is missing."""

    def read(lookup: Lookup) -> object:
        return values.get(lookup.name or "") if lookup.kind == "variables" else None

    return evaluate(parse(text), read)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text, tree",
    [
        ("default", Default()),
        ("  default\n", Default()),
        ('events.hasReply("intro")', REPLY),
        ("events.hasReply('intro')", REPLY),
        ("events.hasReply ( any )", Lookup("events.hasReply", None)),
        ('events.hasReply("any")', Lookup("events.hasReply", "any")),
        ("events.hasClick(any)", Lookup("events.hasClick", None)),
        ("events.hasBounce(any)", Lookup("events.hasBounce", None)),
        ('contact.emailReplied("intro")', REPLY),
        ('contact.emailOpened("intro")', OPEN),
        ('contact.emailClicked("intro")', Lookup("events.hasClick", "intro")),
        ("contact.emailOpened(any)", Lookup("events.hasOpen", None)),
        ("contact.unsubscribed", Lookup("contact.unsubscribed")),
        ("contact.bounced", Lookup("contact.bounced")),
        ("variables.x", X),
        ("variables.default", Lookup("variables", "default")),
        (
            "contact.attributes.größe == 3",
            Compare("==", Lookup("contact.attributes", "größe"), Literal(3)),
        ),
        (
            'call.outcome("c") == "answered"',
            Compare("==", Lookup("call.outcome", "c"), Literal("answered")),
        ),
        ("variables.x != null", Compare("!=", X, Literal(None))),
        ("variables.x<-1.5e2", Compare("<", X, Literal(-150.0))),
        ("1 <= variables.x", Compare("<=", Literal(1), X)),
        (r"""variables.x == 'a\'b"\\\n\u00e9'""", Compare("==", X, Literal("a'b\"\\\né"))),
        ("true", Literal(True)),
        ("not variables.x == 1", Not(Compare("==", X, Literal(1)))),
        ("not not variables.x", Not(Not(X))),
        ("true or false and variables.x", Or((Literal(True), And((Literal(False), X))))),
        ("(true or false) and variables.x", And((Or((Literal(True), Literal(False))), X))),
        ("not (true and false)", Not(And((Literal(True), Literal(False))))),
        ("((variables.x))", X),
    ],
)
def test_parses(text: str, tree: object) -> None:
    assert parse(text) == tree
    assert parse(unparse(parse(text))) == tree


@pytest.mark.parametrize(
    "text, column, problem",
    [
        ("", 1, "empty"),
        ("   ", 1, "empty"),
        ("default or true", 1, "whole condition"),
        ("not default", 5, "whole condition"),
        ("(default)", 2, "whole condition"),
        ("true and", 9, "found the end"),
        ("true false", 6, "expected 'and' or 'or'"),
        ("(true", 6, "expected ')'"),
        ("true)", 5, "found ')'"),
        ("events.hasReply(intro)", 17, "step id in quotes"),
        ("events.hasReply()", 17, "step id in quotes"),
        ("events.hasReply", 16, "expected '('"),
        ('events.hasreply("a")', 1, "did you mean 'events.hasReply'"),
        ("call.outcome(any) == 'x'", 14, "step id in quotes"),
        ("call.outcome('c')", 1, "never true; compare it"),
        ("variables.x or 'yes'", 16, "never true; compare it"),
        ("not 1", 5, "never true"),
        ("null", 1, "never true"),
        ("variables", 1, "variables.NAME"),
        ("variables.a.b == 1", 1, "single name"),
        ("contact.attributes == 1", 1, "contact.attributes.NAME"),
        ("contact.email == 'x'", 1, "unknown name"),
        ("variables.x = 1", 13, "write '=='"),
        ("variables.x && true", 13, "write 'and'"),
        ("!variables.x", 1, "write 'not'"),
        ("variables.x AND true", 13, "expected 'and' or 'or'"),
        ("1 < variables.x < 3", 17, "do not chain"),
        ("(variables.x) == 1", 15, "only values are compared"),
        ("variables.x == not true", 16, "expected a value"),
        ("variables.x == 'abc", 16, "never closed"),
        ("variables.x == 'a\nb'", 18, "as an escape"),
        ("variables.x == 'a\x00b'", 18, "as an escape"),
        ("variables.x == '\ud800'", 17, "as an escape"),
        (r"variables.x == '\x41'", 17, "unknown escape"),
        (r"variables.x == '\u00g0'", 17, "unknown escape"),
        (r"variables.x == '\u0000'", 17, "not text"),
        (r"variables.x == '\udc00'", 17, "not text"),
        ("variables.x == 1.", 16, "not a number"),
        ("variables.x == 12ab", 16, "not a number"),
        ("variables.x == 9007199254740993", 16, "2^53"),
        ("variables.x == 1e999", 16, "too large"),
        ("variables.x == @", 16, "unexpected '@'"),
        ("__import__('os')", 1, "unknown name"),
        ("variables.x" + " " * MAX_LENGTH, MAX_LENGTH + 1, "longer than"),
    ],
)
def test_refuses_and_says_where(text: str, column: int, problem: str) -> None:
    with pytest.raises(ConditionError) as caught:
        parse(text)
    assert caught.value.column == column
    assert problem in caught.value.problem
    assert str(caught.value) == f"column {column}: {caught.value.problem}"


@pytest.mark.parametrize("opening, closing", [("(", ")"), ("not ", "")])
def test_nesting_is_bounded(opening: str, closing: str) -> None:
    deepest = opening * MAX_DEPTH + "true" + closing * MAX_DEPTH
    assert holds(deepest) is (opening == "(" or MAX_DEPTH % 2 == 0)
    with pytest.raises(ConditionError, match="nested deeper"):
        parse(opening + deepest + closing)


def test_a_long_flat_condition_is_no_deep_one() -> None:
    text = " or ".join(["true"] * 500)
    assert holds(text)
    assert unparse(parse(text)) == text


@pytest.mark.parametrize(
    "text, value, expected",
    [
        ("variables.x", True, True),
        ("variables.x", 1, False),
        ("variables.x", "true", False),
        ("variables.x", None, False),
        ("variables.x == 1", 1, True),
        ("variables.x == 1", 1.0, True),
        ("variables.x == 1", True, False),
        ("variables.x == 1", "1", False),
        ("variables.x != 1", "1", True),
        ("variables.x == true", True, True),
        ("variables.x != false", False, False),
        ("variables.x == true", 1, False),
        ("variables.x == false", 0, False),
        ("variables.x == null", None, True),
        ("variables.x != null", None, False),
        ("variables.x == null", False, False),
        ("variables.x < 2", 1.5, True),
        ("variables.x < 2", "1", False),
        ("variables.x >= 2", "1", False),
        ("variables.x < 2", None, False),
        ("variables.x < 2", True, False),
        ("variables.x <= null", None, False),
        ("variables.x <= true", True, False),
        ("variables.x < 'b'", "a", True),
        ("variables.x < 'a'", "B", True),
        ("variables.x == variables.x", [1], False),
        ("variables.x != variables.x", {"a": 1}, True),
        ("variables.x < variables.x", [1], False),
        ("not variables.x < 2", "text", True),
    ],
)
def test_comparisons_are_strict(text: str, value: object, expected: bool) -> None:
    assert holds(text, x=value) is expected


@pytest.mark.parametrize("a", [True, False])
@pytest.mark.parametrize("b", [True, False])
def test_connectives(a: bool, b: bool) -> None:
    assert holds("variables.a and variables.b", a=a, b=b) is (a and b)
    assert holds("variables.a or variables.b", a=a, b=b) is (a or b)
    assert holds("not variables.a or variables.b", a=a, b=b) is (not a or b)


def test_default_always_holds() -> None:
    assert holds("default")


def test_reading_stops_when_the_result_is_known() -> None:
    asked: list[str] = []
    answers: Mapping[str, bool] = {"variables.a": True}

    def read(lookup: Lookup) -> bool:
        asked.append(lookup.key)
        return answers[lookup.key]

    assert evaluate(parse("variables.a or variables.b"), read)
    assert asked == ["variables.a"]


def test_lookups_come_in_order_of_appearance_with_stable_keys() -> None:
    text = (
        'contact.emailReplied("intro") and not (events.hasOpen(any) or contact.bounced) '
        'or call.outcome("c1") == "answered" or 3 < contact.attributes.tier '
        "or variables.x == variables.y or contact.unsubscribed"
    )
    assert [lookup.key for lookup in lookups(parse(text))] == [
        'events.hasReply("intro")',
        "events.hasOpen(any)",
        "contact.bounced",
        'call.outcome("c1")',
        "contact.attributes.tier",
        "variables.x",
        "variables.y",
        "contact.unsubscribed",
    ]
    assert lookups(parse("default")) == ()


def test_a_lookup_knows_the_step_it_is_about() -> None:
    assert REPLY.step_id == "intro"
    assert Lookup("call.outcome", "c").step_id == "c"
    assert Lookup("events.hasOpen", None).step_id is None
    assert X.step_id is None


def test_literals_of_different_types_differ() -> None:
    assert Literal(1) != Literal(True)
    assert Literal(1) != Literal(1.0)
    assert len({Literal(0), Literal(False), Literal(0.0)}) == 3
    assert Literal(1) != 1


@pytest.mark.parametrize(
    "text, canonical",
    [
        ("((true)and((false)))or(not(true))", "true and false or not true"),
        ("(true or true) or true", "(true or true) or true"),
        ("true and(true and true)", "true and (true and true)"),
        ("not(variables.x==1)", "not variables.x == 1"),
        ("variables.x=='q\"\\n'", 'variables.x == "q\\"\\u000a"'),
    ],
)
def test_canonical_text(text: str, canonical: str) -> None:
    assert unparse(parse(text)) == canonical
