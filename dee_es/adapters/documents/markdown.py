"""Markdown: CommonMark with the tables of GitHub's dialect."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from dee_es.adapters.documents.text import Anchors, line, lines, moment, table_rows
from dee_es.core.document import Block, Cell, Document, Facts, Heading, PageBreak, Paragraph, Table

_ALWAYS: Final = re.compile(r"[\\`*_{}\[\]~|$^#]")
_ENTITIES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_ENTITY: Final = re.compile("[&<>]")
# At the start of a line these begin a list, or make a heading or a rule of it.
_LEADING: Final = re.compile(r"\A(?:[-+=]|([0-9]+)([.)]))")
# What some readers make links of by themselves.
_ADDRESS: Final = re.compile(r"(?<=[A-Za-z])(?=://)|(?<=www)(?=\.)|(?=@)", re.IGNORECASE)


def escape(text: str) -> str:
    """The text as one line of Markdown that is read as exactly this text."""
    # A backslash goes before punctuation only, so an address is broken up at its own punctuation.
    escaped = _ADDRESS.sub("\\\\", _ALWAYS.sub(r"\\\g<0>", line(text)))
    escaped = _ENTITY.sub(lambda found: _ENTITIES[found[0]], escaped)
    return _LEADING.sub(
        lambda found: f"{found[1]}\\{found[2]}" if found[1] else f"\\{found[0]}", escaped
    )


def write_markdown(document: Document) -> str:
    """The document as Markdown."""
    anchors = Anchors(document)
    parts = [f"# {escape(document.title)}"]
    if document.subtitle:
        parts.append(escape(document.subtitle))
    parts.append(moment(document.made_at))
    parts += ["\n".join(_block(block, anchors)) for block in document.blocks]
    return "\n\n".join(part for part in parts if part) + "\n"


def _block(block: Block, anchors: Anchors) -> Iterator[str]:
    if isinstance(block, Heading):
        marks = "#" * (min(max(block.level, 1), 3) + 1)
        yield f"{marks} {_mark(block.anchor, anchors)}{escape(block.text)}"
    elif isinstance(block, Paragraph):
        yield from _paragraph(block, anchors)
    elif isinstance(block, Facts):
        for name, value in block.pairs:
            yield f"- **{escape(name) or '&nbsp;'}:** {escape(value)}".rstrip()
    elif isinstance(block, PageBreak):
        yield "---"
    else:
        yield from _table(block, anchors)


def _paragraph(block: Paragraph, anchors: Anchors) -> Iterator[str]:
    mark = _mark(block.anchor, anchors)
    if block.kind == "fixed":
        text = lines(block.text)
        # A fence ends at the first line that has as many backticks.
        longest = max((len(run) for each in text for run in re.findall("`+", each)), default=0)
        fence = "`" * max(3, longest + 1)
        if mark:
            yield mark
            yield ""
        yield fence
        yield from text
        yield fence
    elif block.kind == "warning":
        yield f"> **Warning:** {mark}{escape(block.text)}"
    else:
        yield mark + escape(block.text)


def _table(block: Table, anchors: Anchors) -> Iterator[str]:
    if not block.columns:
        return
    yield _row([escape(column.title) for column in block.columns])
    yield _row(["---:" if column.right else "---" for column in block.columns])
    for anchor, cells in table_rows(block):
        shown = [_cell(cell, anchors) for cell in cells]
        shown[0] = _mark(anchor, anchors) + shown[0]
        yield _row(shown)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(cell: Cell, anchors: Anchors) -> str:
    text = escape(cell.text)
    target = anchors.name(cell.link)
    return f"[{text}](#{target})" if target and text else text


def _mark(anchor: str | None, anchors: Anchors) -> str:
    name = anchors.name(anchor)
    return f'<a id="{name}"></a>' if name else ""
