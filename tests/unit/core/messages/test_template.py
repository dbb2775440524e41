"""The template dialect, by example."""

from __future__ import annotations

from typing import Any

import pytest

from dee_es.core.messages.template import (
    MAX_NESTING,
    MAX_OUTPUT_BYTES,
    MAX_SOURCE,
    TemplateError,
    message_scope,
    parse,
    paths,
    render,
)

SCOPE: dict[str, Any] = {
    "name": "Jane",
    "html": "<b>\"J\" & 'x' `y`=</b>",
    "yes": True,
    "no": False,
    "zero": 0,
    "half": 0.5,
    "big": 10**15,
    "blank": "",
    "null": None,
    "empty": [],
    "map": {"a": {"b": "deep"}, "first name": "F", "__class__": "only a key", "x-y": 1},
    "items": [{"name": "one", "tags": ["a", "b"]}, {"name": "two", "tags": []}],
    "words": ["x", "y", "z"],
}


def shown(text: str, *, escape: bool = False) -> str:
    return render(parse(text), SCOPE, escape=escape)


@pytest.mark.parametrize(
    "text, result",
    [
        ("", ""),
        ("plain { } text }}", "plain { } text }}"),
        ("Hi {{name}}!", "Hi Jane!"),
        ("{{ name }}{{\n name\t}}", "JaneJane"),
        ("{{map.a.b}} {{map.[first name]}} {{map.x-y}}", "deep F 1"),
        ("{{map.__class__}}", "only a key"),
        ("{{items.1.name}} {{words.0}}", "two x"),
        ("{{yes}} {{no}} {{zero}} {{half}} {{big}}", "true false 0 0.5 1000000000000000"),
        ("[{{blank}}]", "[]"),
        ("{{! a comment }}{{!-- with }} and {{name}} --}}x", "x"),
        (r"\{{name}} \\{{name}} \x", r"{{name}} \Jane \x"),
        ("a {{~name~}} b", "aJaneb"),
        ("a {{~{name}~}} b {{~! c ~}} d", "aJanebd"),
    ],
)
def test_values_and_text(text: str, result: str) -> None:
    assert shown(text) == result


@pytest.mark.parametrize(
    "text, result",
    [
        ("{{#if yes}}a{{else}}b{{/if}}", "a"),
        ("{{#if nobody.knows}}a{{else}}b{{/if}}", "b"),
        ("{{#if null}}a{{/if}}{{#if zero}}b{{/if}}{{#if blank}}c{{/if}}{{#if empty}}d{{/if}}", ""),
        ("{{#if map}}a{{/if}}{{#if words}}b{{/if}}{{#if half}}c{{/if}}", "abc"),
        ("{{#unless no}}a{{else}}b{{/unless}}{{#unless missing}}c{{/unless}}", "ac"),
        ("{{#if no}}a{{else if zero}}b{{else if name}}c{{else}}d{{/if}}", "c"),
        ("{{#if no}}a{{^}}b{{/if}}", "b"),
        ("{{#if yes}}{{#if no}}a{{else}}b{{/if}}{{/if}}", "b"),
        ("{{#each words}}{{@index}}{{this}}{{#unless @last}},{{/unless}}{{/each}}", "0x,1y,2z"),
        ("{{#each words}}{{#if @first}}<{{/if}}{{this}}{{/each}}", "<xyz"),
        ("{{#each empty}}a{{else}}none{{/each}}", "none"),
        (
            "{{#each items}}{{this.name}}:{{#each this.tags}}{{this}}{{/each}};{{/each}}",
            "one:ab;two:;",
        ),
        ("{{#each items}}{{name}} {{/each}}", "Jane Jane "),
        ("{{#each empty}}{{else}}{{#each words}}{{this}}{{/each}}{{/each}}", "xyz"),
    ],
)
def test_blocks(text: str, result: str) -> None:
    assert shown(text) == result


def test_a_block_tag_alone_on_its_line_takes_the_line_with_it() -> None:
    text = "Hi\n  {{#if yes}}\nwelcome\n  {{else}}\nno\n{{/if}}\t\r\n{{! gone }}\nbye\n"
    text += "{{#if no}}\nx\n{{/if}}"
    assert shown(text) == "Hi\nwelcome\nbye\n"
    assert shown("a {{#if yes}}\nb{{/if}}\n") == "a \nb\n"
    assert shown("{{name}}\n") == "Jane\n"


def test_only_values_in_html_are_escaped() -> None:
    assert shown("<p>{{html}}</p>") == f"<p>{SCOPE['html']}</p>"
    escaped = "&lt;b&gt;&quot;J&quot; &amp; &#x27;x&#x27; &#x60;y&#x60;&#x3D;&lt;/b&gt;"
    assert shown("<p>{{html}}</p>", escape=True) == f"<p>{escaped}</p>"
    assert shown("{{{html}}}", escape=True) == SCOPE["html"]


@pytest.mark.parametrize(
    "text, line, column, problem",
    [
        ("Hi {{missing}}", 1, 4, "no value for missing"),
        ("a\nb\n  {{map.a.nothing}}", 3, 3, "no value for map.a.nothing"),
        ("{{null}}", 1, 1, "no value for null"),
        ("{{name.__class__}}", 1, 1, "no value for name.__class__"),
        ("{{words.9}}", 1, 1, "no value for words.9"),
        ("{{words.x}}", 1, 1, "no value for words.x"),
        ("{{words.-1}}", 1, 1, "no value for words.-1"),
        ("{{words.append}}", 1, 1, "no value for words.append"),
        ("{{map}}", 1, 1, "map is a map"),
        ("{{words}}", 1, 1, "words is a list"),
        ("{{#each name}}{{/each}}", 1, 1, "name is text, not a list"),
        ("{{#each map}}{{/each}}", 1, 1, "map is a map, not a list"),
        ("{{#each missing}}{{/each}}", 1, 1, "no value for missing"),
        ("{{#each items}}\n{{this.secret}}{{/each}}", 2, 1, "no value for this.secret"),
    ],
)
def test_what_is_missing_is_named(text: str, line: int, column: int, problem: str) -> None:
    template = parse(text)
    with pytest.raises(TemplateError) as raised:
        render(template, SCOPE, escape=False)
    assert (raised.value.line, raised.value.column) == (line, column)
    assert problem in raised.value.problem
    assert str(raised.value) == f"line {line}, column {column}: {raised.value.problem}"
    assert "Jane" not in str(raised.value)


@pytest.mark.parametrize(
    "text, problem",
    [
        ("{{", "not closed"),
        ("{{name", "not closed"),
        ("{{name {{name}}", "not closed"),
        ("{{{name}}", "not closed"),
        ("{{!-- x }}", "comment is not closed"),
        ("{{}}", "empty"),
        ("{{#if yes}}", "#if is not closed"),
        ("{{/if}}", "closes nothing"),
        ("{{#if yes}}{{/each}}", "does not close #if of line 1"),
        ("{{else}}", "outside of a block"),
        ("{{#if yes}}{{else}}{{else}}{{/if}}", "second else"),
        ("{{#if}}{{/if}}", "needs a path"),
        ("{{#with map}}{{/with}}", "no block"),
        ("{{> header}}", "partials are not supported"),
        ("{{upper name}}", "helpers are not supported"),
        ("{{#if (eq a b)}}{{/if}}", "not a path"),
        ("{{{{raw}}}}", "four braces"),
        ("{{../name}}", "relative paths"),
        ("{{this}}", "only inside #each"),
        ("{{@index}}", "only inside #each"),
        ("{{#each words}}{{else}}{{this}}{{/each}}", "only inside #each"),
        ("{{#each words}}{{@key}}{{/each}}", "not one of @index"),
        ("{{a..b}}", "not a path"),
        ("{{a.b()}}", "not a path"),
        ("{{'text'}}", "not a path"),
        ("{{&name}}", "not a path"),
        ("{{#if a}}" * (MAX_NESTING + 1), "nested deeper"),
        ("x" * (MAX_SOURCE + 1), "longer than"),
    ],
)
def test_what_is_no_template_is_refused(text: str, problem: str) -> None:
    with pytest.raises(TemplateError, match=problem.replace("(", r"\(")):
        parse(text)


def test_the_place_of_a_fault_is_counted_in_characters() -> None:
    with pytest.raises(TemplateError) as raised:
        parse("é\n\n\u00fc日 {{#nope}}")
    assert (raised.value.line, raised.value.column) == (3, 4)


@pytest.mark.parametrize("value", [object(), float("nan"), float("inf"), 2**60, b"bytes", {1}])
def test_only_json_can_be_printed(value: object) -> None:
    with pytest.raises(TemplateError, match="not a JSON value"):
        render(parse("{{x}}"), {"x": value}, escape=False)


def test_output_and_work_have_limits() -> None:
    big = {"x": "é" * (MAX_OUTPUT_BYTES // 2), "many": [0] * 1_000}
    assert len(render(parse("{{x}}"), big, escape=False)) == MAX_OUTPUT_BYTES // 2
    with pytest.raises(TemplateError, match="larger than"):
        render(parse("{{x}}é"), big, escape=False)
    with pytest.raises(TemplateError, match="larger than"):
        render(parse("{{#each many}}" + "x" * 300 + "{{/each}}"), big, escape=False)
    for_ever = "{{#each many}}" * 4 + "{{/each}}" * 4
    with pytest.raises(TemplateError, match="pieces"):
        render(parse(for_ever), big, escape=False)


def test_paths_are_those_of_the_scope() -> None:
    text = "{{a.b}}{{#if c}}{{d}}{{else if e}}{{/if}}{{d}}"
    text += "{{#each f}}{{this.g}}{{@index}}{{{h}}}{{/each}}"
    assert paths(parse(text)) == ("a.b", "c", "d", "e", "f", "h")
    assert paths(parse("plain")) == ()


def test_what_a_message_may_speak_of() -> None:
    scope = message_scope(
        contact={"id": "c1", "email": "j@example.com", "phone": None, "timezone": None},
        variables={"plan": "gold", "contact": "not me", "city": "variable"},
        attributes={"firstName": "Jane", "city": "attribute", "email": "other", "first": "F"},
        sender={"name": "Acme"},
        previous_step=None,
        run={"id": "run_1"},
        unsubscribe_url="https://u.example",
    )

    def show(text: str) -> str:
        return render(parse(text), scope, escape=False)

    assert (
        show("{{contact.firstName}} {{firstName}} {{contact.attributes.firstName}}")
        == "Jane Jane Jane"
    )
    assert show("{{contact.id}} {{contact.email}} {{sender.name}} {{run.id}}") == (
        "c1 j@example.com Acme run_1"
    )
    assert show("{{plan}} {{city}} {{contact.city}} {{first}}") == "gold variable attribute F"
    assert show("{{unsubscribeUrl}}") == "https://u.example"
    for text in ("{{contact.phone}}", "{{previousStep.result}}", "{{contact}}", "{{nobody}}"):
        with pytest.raises(TemplateError):
            show(text)
