"""Parts of pages that are plain functions: messages to be read, comparisons, times, addresses."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dee_es.errors import InvalidInput
from dee_es.web.pages import inputs
from dee_es.web.pages.messages import reading_view
from dee_es.web.pages.rendering import address, brief
from dee_es.web.pages.side_by_side import side_by_side
from tests.support.web.world import MARKUP, Page

NOW = datetime(2026, 1, 10, 12, tzinfo=UTC)


def test_the_reading_view_keeps_text_and_nothing_that_acts() -> None:
    page = Page(reading_view(MARKUP))
    assert (page.faults, page.links) == ([], [])
    assert "Hello {{contact.firstName}}" in page.text
    assert "read" in page.text
    assert "alert" not in page.text
    assert "color" not in page.text


@pytest.mark.parametrize(
    "markup",
    [
        "<scr<script>ipt>alert(1)</scr</script>ipt>",
        "<p><svg><script>alert(1)</script></svg>",
        "<b onmouseover=alert(1)>x",
        "<!--><img src=x onerror=alert(1)>-->",
        "<p/onclick=alert(1)>x</p>",
        "</body></html><script>alert(1)</script>",
        "<div>" * 5_000,
        "<a href='data:text/html,x'>x</a><form action=/logout><input name=x></form>",
        "<base href=//x><meta http-equiv=refresh content='0;url=//x'><link href=//x>",
    ],
)
def test_nothing_hostile_survives_in_the_reading_view(markup: str) -> None:
    page = Page(reading_view(markup))
    assert (page.faults, page.links, page.forms) == ([], [], [])


def test_a_number_is_told_with_its_name() -> None:
    assert brief({"steps_remaining": 5, "cause": None}) == "steps remaining 5"
    told = brief({"until_tick": 86_400, "late": True, "result": "delivered", "x": [1]})
    assert told == "until tick 86400; late"


def test_the_reading_view_closes_what_is_open() -> None:
    assert reading_view("<p><b>x</p>y").endswith("<p><b>x</b></p>y</body></html>")


@pytest.mark.parametrize(
    "markup, shown",
    [
        ("<p title='a > b'>x</p>", "<p>x</p>"),
        ("<p title=it's>x</p><p>y</p>", "<p>x</p><p>y</p>"),
        ("a<br/>b<BR>c", "a<br>b<br>c"),
        ("1 < 2 &amp; 3 &gt; 2", "1 &lt; 2 &amp; 3 &gt; 2"),
        ("<style>p > b { color: red } </p></style>x", "x"),
        ("<SCRIPT>if (a<b) '</p>'</Script >x", "x"),
        ("<!-- <p> -->x<!-- unfinished <p>", "x"),
        ("<!DOCTYPE html><?xml version='1.0'?>x</>", "x"),
        ("<table><tr><td>x</table>y", "<table><tr><td>x</td></tr></table>y"),
        ("<svg><title>t</title><p>hidden</svg>x", "x"),
        ("x<p unfinished", "x<p></p>"),
        ("&lt;script&gt;", "&lt;script&gt;"),
    ],
)
def test_the_reading_view_reads_what_mail_is_made_of(markup: str, shown: str) -> None:
    begin = reading_view("").removesuffix("</body></html>")
    assert reading_view(markup) == f"{begin}{shown}</body></html>"


@pytest.mark.parametrize(
    "part",
    ["<p ", "<p", "</p ", "<", "<!", "<!--", "<![", "<?", "<p a='", '<p a="', "<p a=", "= ", "&",
     "<script", "<script>", "</script", "<title>", "&#", "<b>", "</b>", "<p/", "<a b=' c=\""],
)  # fmt: skip
def test_the_reading_view_takes_no_more_time_for_hostile_mail(part: str) -> None:
    """A page is made while everybody else waits; what is stored of a message may be 256 KiB."""
    markup = part * (250_000 // len(part))
    began = time.process_time()
    assert reading_view(markup).endswith("</body></html>")
    assert time.process_time() - began < 2


def test_what_is_the_same_far_away_is_left_out() -> None:
    old = {"id": "p", "steps": list(range(40)), "name": "a"}
    pairs = side_by_side(old, {**old, "name": "b"})
    assert [pair.kind for pair in pairs] == ["gap", "same", "same", "same", "changed", "same"]
    assert pairs[0].skipped == len(range(40)) + 2 + 1 - 3 + 1
    changed = pairs[4]
    assert (changed.left, changed.right) == ('  "name": "a"', '  "name": "b"')
    assert changed.left_number == changed.right_number == 45


def test_added_and_removed_lines_stand_alone() -> None:
    kinds = [pair.kind for pair in side_by_side({"a": 1}, {"a": 1, "b": {"c": 2}})]
    assert "added" in kinds
    assert "removed" not in kinds
    back = [pair.kind for pair in side_by_side({"a": 1, "b": {"c": 2}}, {"a": 1})]
    assert "removed" in back
    assert "added" not in back


@given(
    st.lists(st.sampled_from("abcdef"), max_size=12),
    st.lists(st.sampled_from("abcdef"), max_size=12),
)
def test_either_side_is_there_whole_and_in_order(left: list[str], right: list[str]) -> None:
    pairs = side_by_side({"a": left}, {"a": right})
    for number, text, values in ("left_number", "left", left), ("right_number", "right", right):
        lines = json.dumps({"a": values}, indent=2).split("\n")
        at = 0
        for pair in pairs:
            if pair.kind == "gap":
                at += pair.skipped
            elif getattr(pair, text) is not None:
                at += 1
                assert (getattr(pair, number), getattr(pair, text)) == (at, lines[at - 1])
        assert at == len(lines)
    for pair in pairs:
        assert pair.kind == "gap" or (pair.kind == "same") == (pair.left == pair.right)


def test_lines_that_are_there_once_say_what_belongs_together() -> None:
    def step(name: str) -> dict[str, object]:
        return {"id": name, "type": "wait", "duration": {"days": 1}}

    old = {"steps": [step(name) for name in "abcd"]}
    new = {"steps": [step(name) for name in "axbcd"]}
    added = [pair.right for pair in side_by_side(old, new) if pair.kind != "same"]
    assert [line for line in added if line is not None and '"id"' in line] == ['      "id": "x",']


def test_versions_of_many_lines_that_look_the_same_are_compared_at_once() -> None:
    """The library alone takes hours for the two, which anybody who may publish a plan can make."""

    def version(changed: int) -> dict[str, object]:
        ways = [{"when": f"variables.{'ba'[n % changed > 0]}", "goto": "s"} for n in range(4_000)]
        return {"steps": [{"id": f"s{n}", "conditions": ways[n::20]} for n in range(20)]}

    pairs = side_by_side(version(5_000), version(2))
    changed = [pair for pair in pairs if pair.kind != "same" and "when" in (pair.right or "")]
    assert len(changed) >= 1_999


def test_two_equal_definitions_have_no_difference() -> None:
    assert {pair.kind for pair in side_by_side({"a": [1, 2, 3]}, {"a": [1, 2, 3]})} == {"gap"}


@pytest.mark.parametrize(
    "text, moment",
    [
        ("24h", NOW - timedelta(hours=24)),
        ("7d", NOW - timedelta(days=7)),
        ("1d12h", NOW - timedelta(hours=36)),
        ("2026-01-02", datetime(2026, 1, 2, tzinfo=UTC)),
        ("2026-01-02 03:04", datetime(2026, 1, 2, 3, 4, tzinfo=UTC)),
        ("2026-01-02T03:04Z", datetime(2026, 1, 2, 3, 4, tzinfo=UTC)),
        ("2026-01-02T03:04+02:00", datetime(2026, 1, 2, 1, 4, tzinfo=UTC)),
        (None, None),
    ],
)
def test_times_as_people_type_them(text: str | None, moment: datetime | None) -> None:
    assert inputs.moment("after", text, NOW) == moment


@pytest.mark.parametrize(
    "text", ["yesterday", "24", "99999d", "2026-13-01", "9999999999d", "0001-01-01T00:00+14:00"]
)
def test_what_is_no_time_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^after: must be a time such as"):
        inputs.moment("after", text, NOW)


def test_addresses_leave_out_what_is_not_given_and_quote_the_rest() -> None:
    assert address("/runs", {"status": ["a", "b"], "plan": None, "contact": ""}) == (
        "/runs?status=a&status=b"
    )
    assert address("/runs", {"plan": '"><&'}) == "/runs?plan=%22%3E%3C%26"
    assert address("/runs") == "/runs"
