"""From the text of a template to its tree: split at the tags, trim white space, nest the blocks.

    {{path}}  {{{path}}}                      a value; three braces never escape
    {{#if path}} .. {{else if path}} .. {{else}} .. {{/if}}
    {{#unless path}} .. {{else}} .. {{/unless}}
    {{#each path}} .. {{this}} {{this.x}} {{@index}} {{@first}} {{@last}} .. {{else}} .. {{/each}}
    {{! comment }}  {{!-- comment with }} in it --}}
    {{~path~}}                                takes the white space on that side with it
    \\{{                                       two braces that mean themselves

A block tag or comment alone on its line takes the whole line with it, as in Handlebars.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from msgspec import Struct, field

MAX_SOURCE: Final = 200 * 1024
"""Longest text of a template, in characters."""
MAX_NESTING: Final = 32
"""Deepest nesting of blocks."""

_SEGMENT = r"""(?:\[[^\[\]\r\n]+\]|[^\s!"#%&'()*+,./;<=>@\[\\\]^`{|}~]+)"""
_PATH = re.compile(rf"{_SEGMENT}(?:\.{_SEGMENT})*")
_SEGMENTS = re.compile(_SEGMENT)
_COMMENT = re.compile(r"!(?:--(?P<long>.*?)--|(?!--)(?P<short>.*?))(?P<strip>~?)\}\}", re.DOTALL)
_LINE_REST = re.compile(r"[ \t]*(?:\r?\n|\Z)")
_BLOCKS: Final = frozenset({"if", "unless", "each"})
_REST_OF_TAG: Final = 40


Root = Literal["scope", "this", "@index", "@first", "@last"]
_ITEM_WORDS: Final[dict[str, Root]] = {
    "this": "this",
    "@index": "@index",
    "@first": "@first",
    "@last": "@last",
}


class TemplateError(ValueError):
    """A template cannot be parsed or rendered: `problem` says why, `line` and `column` where.

    Both count from 1. `part` names the text it happened in (`subject`, `text`, `html` ...), if the
    caller said so. Values are never part of the message, paths are.
    """

    def __init__(self, line: int, column: int, problem: str, part: str = "") -> None:
        self.line, self.column, self.problem, self.part = line, column, problem, part
        where = f"{part}, " if part else ""
        super().__init__(f"{where}line {line}, column {column}: {problem}")


class Path(Struct, frozen=True):
    """Where a value is found, and where in the template it was asked for.

    `root` is `scope`, or inside `#each` the item (`this`) or a word about it (`@index` ...).
    """

    source: str
    root: Root
    segments: tuple[str, ...]
    line: int
    column: int


class Value(Struct, frozen=True):
    """A value to insert; `raw` ones are not escaped."""

    path: Path
    raw: bool


class If(Struct, frozen=True):
    """Either `body` or `otherwise`; `negate` swaps them (`#unless`)."""

    path: Path
    negate: bool
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


class Each(Struct, frozen=True):
    """`body` once for each item of a list, `otherwise` if there is none."""

    path: Path
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


Node = str | Value | If | Each


class Template(Struct, frozen=True):
    """A parsed template: immutable, and the same for every contact."""

    nodes: tuple[Node, ...]


def parse(text: str) -> Template:
    """The tree of a template. Raises `TemplateError`."""
    if len(text) > MAX_SOURCE:
        raise TemplateError(1, 1, f"longer than {MAX_SOURCE} characters")
    texts, tags = _split(text)
    return Template(_nest(_trimmed(texts, tags), tags))


# --- splitting ----------------------------------------------------------------------------------


class _Tag(Struct, frozen=True):
    kind: Literal["value", "raw", "open", "else", "close", "comment"]
    words: str
    line: int
    column: int
    strip_left: bool
    strip_right: bool

    def error(self, problem: str) -> TemplateError:
        return TemplateError(self.line, self.column, problem)

    def shown(self) -> str:
        short = self.words[:_REST_OF_TAG]
        return repr(short if short == self.words else f"{short}...")


def _split(text: str) -> tuple[list[str], list[_Tag]]:
    """The texts around the tags, one more than there are tags, and the tags."""
    texts: list[str] = []
    tags: list[_Tag] = []
    held = ""  # literal text that an escape has split off
    at = line_start = counted = 0
    line = 1
    while (start := text.find("{{", at)) >= 0:
        slashes = 0 if start == at or text[start - 1] != "\\" else 1
        if slashes and start - 1 > at and text[start - 2] == "\\":
            slashes = 2
        if slashes == 1:
            held += text[at : start - 1] + "{{"
            at = start + 2
            continue
        breaks = text.count("\n", counted, start)
        if breaks:
            line, line_start = line + breaks, text.rfind("\n", counted, start) + 1
        counted = start
        # Two backslashes are one that means itself, followed by a tag.
        texts.append(held + text[at : start - (slashes == 2)])
        tag, at = _tag(text, start, line, start - line_start + 1)
        tags.append(tag)
        held = ""
    texts.append(held + text[at:])
    return texts, tags


def _tag(text: str, start: int, line: int, column: int) -> tuple[_Tag, int]:
    """The tag that begins at `start`, and where the text goes on behind it."""
    at = start + 2
    strip_left = text.startswith("~", at)
    at += strip_left
    if text.startswith("!", at):
        comment = _COMMENT.match(text, at)
        if comment is None:
            raise TemplateError(line, column, "the comment is not closed")
        strip_right = bool(comment["strip"]) or (comment["short"] or "").endswith("~")
        return _Tag("comment", "", line, column, strip_left, strip_right), comment.end()
    raw = text.startswith("{", at)
    close = "}" * (2 + raw)
    if raw and not strip_left and text.startswith("{{", at):
        raise TemplateError(line, column, "four braces (raw blocks) are not supported")
    if raw:  # {{~{path}~}} is how Handlebars writes it, so the closing may be split as well
        closing = re.compile(r"\}(~?)\}\}").search(text, at)
    else:
        closing = re.compile(r"(~?)\}\}").search(text, at)
    if closing is None or "{{" in text[at + raw : closing.start()]:
        raise TemplateError(line, column, f"the tag is not closed with {close}")
    words = text[at + raw : closing.start()].strip()
    tag = _Tag(
        "raw" if raw else _kind(words), words, line, column, strip_left, bool(closing.group(1))
    )
    return tag, closing.end()


def _kind(words: str) -> Literal["value", "open", "else", "close"]:
    if words.startswith("#"):
        return "open"
    if words.startswith("/"):
        return "close"
    return "else" if words == "^" or words.split(None, 1)[:1] == ["else"] else "value"


# --- white space --------------------------------------------------------------------------------


def _trimmed(texts: list[str], tags: list[_Tag]) -> list[str]:
    """The texts without the white space that the tags beside them take away."""
    starts, ends = [0] * len(texts), [len(text) for text in texts]
    for index, tag in enumerate(tags):
        left, right = texts[index], texts[index + 1]
        alone = _alone(left, right, first=index == 0, last=index == len(tags) - 1)
        takes_line = tag.kind in ("open", "else", "close", "comment") and alone is not None
        if tag.strip_left:
            ends[index] = len(left.rstrip())
        elif takes_line:
            ends[index] = len(left.rstrip(" \t"))
        if tag.strip_right:
            starts[index + 1] = len(right) - len(right.lstrip())
        elif takes_line:
            starts[index + 1] = alone or 0
    return [text[start:end] for text, start, end in zip(texts, starts, ends, strict=True)]


def _alone(left: str, right: str, *, first: bool, last: bool) -> int | None:
    """How much of `right` belongs to the tag's line if nothing else is on it, else None."""
    newline = left.rfind("\n")
    if (newline < 0 and not first) or left[newline + 1 :].strip(" \t"):
        return None
    rest = _LINE_REST.match(right)
    if rest is None or (not last and not rest.group().endswith("\n")):
        return None
    return rest.end()


# --- nesting ------------------------------------------------------------------------------------


class _Frame(Struct):
    """A block that is still open; `chained` ones are closed with the block they are the else of."""

    tag: _Tag | None
    kind: str = ""
    path: Path | None = None
    chained: bool = False
    in_each: bool = False
    body: list[Node] = field(default_factory=list)
    otherwise: list[Node] | None = None

    @property
    def nodes(self) -> list[Node]:
        return self.body if self.otherwise is None else self.otherwise


def _nest(texts: list[str], tags: list[_Tag]) -> tuple[Node, ...]:
    frames = [_Frame(None)]
    for text, tag in zip(texts, tags, strict=False):
        if text:
            frames[-1].nodes.append(text)
        if tag.kind == "open":
            _open(frames, tag, tag.words[1:], chained=False)
        elif tag.kind == "else":
            _else(frames, tag)
        elif tag.kind == "close":
            _close(frames, tag)
        elif tag.kind != "comment":
            path = _path(tag, tag.words, in_each=frames[-1].in_each)
            frames[-1].nodes.append(Value(path, tag.kind == "raw"))
    if frames[-1].tag is not None:
        raise frames[-1].tag.error(f"#{frames[-1].kind} is not closed")
    if texts[-1]:
        frames[-1].nodes.append(texts[-1])
    return tuple(frames[-1].nodes)


def _open(frames: list[_Frame], tag: _Tag, words: str, *, chained: bool) -> None:
    kind, _, rest = words.strip().partition(" ")
    if kind not in _BLOCKS:
        raise tag.error(f"there is no block {tag.shown()}, only #if, #unless and #each")
    if len(frames) > MAX_NESTING:
        raise tag.error(f"blocks are nested deeper than {MAX_NESTING} levels")
    outer = frames[-1]
    if not rest.strip():
        raise tag.error(f"#{kind} needs a path")
    # The else of an #each has no item, so only the body of the block itself is inside of it.
    path = _path(tag, rest.strip(), in_each=outer.in_each)
    frames.append(_Frame(tag, kind, path, chained, kind == "each" or outer.in_each))


def _else(frames: list[_Frame], tag: _Tag) -> None:
    frame = frames[-1]
    if frame.tag is None:
        raise tag.error("else stands outside of a block")
    if frame.otherwise is not None:
        raise tag.error(f"#{frame.kind} has a second else")
    frame.otherwise = []
    if frame.kind == "each":
        frame.in_each = frames[-2].in_each
    rest = tag.words.partition("else")[2].strip()
    if rest:
        _open(frames, tag, rest, chained=True)


def _close(frames: list[_Frame], tag: _Tag) -> None:
    kind = tag.words[1:].strip()
    while frames[-1].chained:
        _finish(frames)
    frame = frames[-1]
    if frame.tag is None:
        raise tag.error(f"{tag.shown()} closes nothing")
    if kind != frame.kind:
        raise tag.error(f"{tag.shown()} does not close #{frame.kind} of line {frame.tag.line}")
    _finish(frames)


def _finish(frames: list[_Frame]) -> None:
    frame = frames.pop()
    if frame.path is None:
        raise AssertionError("only blocks, which have a path, are ever closed")
    body, otherwise = tuple(frame.body), tuple(frame.otherwise or ())
    frames[-1].nodes.append(
        Each(frame.path, body, otherwise)
        if frame.kind == "each"
        else If(frame.path, frame.kind == "unless", body, otherwise)
    )


# --- paths --------------------------------------------------------------------------------------


def _path(tag: _Tag, words: str, *, in_each: bool) -> Path:
    root = _ITEM_WORDS.get("this" if words.startswith("this.") else words, "scope")
    if root != "scope" and not in_each:
        raise tag.error(f"{tag.shown()} has a meaning only inside #each")
    if root not in ("scope", "this"):
        return Path(words, root, (), tag.line, tag.column)
    if not _PATH.fullmatch(words):
        raise tag.error(_refusal(tag, words))
    segments = [segment.strip("[]") for segment in _SEGMENTS.findall(words)]
    return Path(words, root, tuple(segments[root == "this" :]), tag.line, tag.column)


def _refusal(tag: _Tag, words: str) -> str:
    """What is wrong with words that are no path, in the terms of whoever wrote them."""
    if not words:
        return "the tag is empty"
    if words.startswith(">"):
        return f"partials are not supported: {tag.shown()}"
    if words.startswith(("../", "./")):
        return f"relative paths are not supported: {tag.shown()}; outer names are seen as they are"
    if words.startswith("@"):
        return f"{tag.shown()} is not one of @index, @first and @last"
    first = words.split(None, 1)[0]
    if first != words and _PATH.fullmatch(first):
        return f"helpers are not supported: {tag.shown()}"
    return f"{tag.shown()} is not a path such as contact.firstName"
