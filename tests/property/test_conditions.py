"""Conditions, whatever is written and whatever the data holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dee_es.core.conditions.condition import (
    MAX_LENGTH,
    Compare,
    Condition,
    ConditionError,
    Lookup,
    evaluate,
    lookups,
    parse,
    unparse,
)
from dee_es.core.conditions.tree import quote

FRAGMENTS = [
    *["and", "or", "not", "default", "any", "true", "false", "null", "(", ")", "((", "not not"],
    *["==", "!=", "<", "<=", ">", ">=", "=", "1", "-2.5e3", '"a"', "'b", "\\", ".", " ", "\u00a0"],
    *["events.hasReply", 'events.hasOpen("s")', "events.hasClick(any)", "call.outcome('c')"],
    *["contact.unsubscribed", "contact.attributes.tier", "variables.x", "variables"],
]
TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12)
NAME = st.from_regex(r"[a-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
NUMBER = st.one_of(
    st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False).map(float)
)
LITERAL = st.one_of(TEXT.map(quote), NUMBER.map(repr), st.sampled_from(["true", "false", "null"]))
TRUTH = st.one_of(
    st.sampled_from(["true", "false", "contact.unsubscribed", "contact.bounced"]),
    st.builds(
        "events.{}({})".format,
        st.sampled_from(["hasReply", "hasOpen", "hasClick", "hasBounce"]),
        st.one_of(st.just("any"), TEXT.map(quote)),
    ),
    st.builds("{}.{}".format, st.sampled_from(["variables", "contact.attributes"]), NAME),
)
VALUE = st.one_of(LITERAL, TRUTH, TEXT.map(lambda text: f"call.outcome({quote(text)})"))
COMPARISON = st.builds(
    "{} {} {}".format, VALUE, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), VALUE
)
CONDITION = st.recursive(
    st.one_of(TRUTH, COMPARISON),
    lambda inner: st.one_of(
        st.builds("({})".format, inner),
        st.builds("not {}".format, inner),
        st.builds("{} and {}".format, inner, inner),
        st.builds("{} or {}".format, inner, inner),
    ),
    max_leaves=12,
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(st.one_of(st.text(), st.lists(st.sampled_from(FRAGMENTS), max_size=12).map(" ".join)))
def test_any_text_parses_or_fails_at_a_column_of_its_own(text: str) -> None:
    try:
        tree = parse(text)
    except ConditionError as error:
        assert 1 <= error.column <= len(text) + 1  # noqa: PT017
        assert error.problem  # noqa: PT017
    else:
        assert parse(unparse(tree)) == tree


@given(CONDITION)
def test_canonical_text_parses_to_the_same_tree(text: str) -> None:
    tree = parse(text)
    canonical = unparse(tree)
    assert len(canonical) <= MAX_LENGTH
    assert parse(canonical) == tree
    assert unparse(parse(canonical)) == canonical


@given(CONDITION, st.data())
def test_evaluation_is_total_and_repeatable(text: str, data: st.DataObject) -> None:
    tree = parse(text)
    facts = {lookup: data.draw(JSON) for lookup in lookups(tree)}
    assert evaluate(tree, facts.__getitem__) is evaluate(tree, facts.__getitem__)
    assert evaluate(parse(unparse(tree)), facts.__getitem__) is evaluate(tree, facts.__getitem__)


@given(JSON, JSON)
def test_unequal_is_the_negation_of_equal(left: object, right: object) -> None:
    facts = {Lookup("variables", "a"): left, Lookup("variables", "b"): right}

    def holds(operator: str) -> bool:
        tree: Condition = parse(f"variables.a {operator} variables.b")
        assert isinstance(tree, Compare)
        return evaluate(tree, facts.__getitem__)  # type: ignore[arg-type]

    assert holds("!=") is not holds("==")
    assert not (holds("<") and holds(">="))
    assert not (holds("<") and holds(">"))


@given(TEXT)
def test_any_text_survives_quoting(text: str) -> None:
    (lookup,) = lookups(parse(f"events.hasReply({quote(text)})"))
    assert lookup == Lookup("events.hasReply", text)
    assert lookup.key == f"events.hasReply({quote(text)})"
