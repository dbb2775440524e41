"""HTML: one file that needs nothing else, runs nothing and asks nobody."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape as _escape
from typing import Final

from dee_es.adapters.documents.text import Anchors, line, lines, moment, table_rows
from dee_es.core.document import Block, Cell, Document, Facts, Heading, PageBreak, Paragraph, Table

_STYLE: Final = """
:root { color-scheme: light dark; --text: #1a1a1a; --soft: #5c5c5c; --page: #fff; --line: #cfcfcf;
  --head: #f1f1ef; --link: #0b4f9e; --warn: #8a1c1c; --warn-page: #fdf1f0; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e8e8e6; --soft: #a8a8a4; --page: #16181a; --line: #3c4044; --head: #24282b;
    --link: #8ab8f0; --warn: #ffb4ab; --warn-page: #33201e; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 2rem 1.5rem 4rem; color: var(--text);
  background: var(--page); font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0; }
h2 { font-size: 1.3rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.1rem; margin: 1.6rem 0 .5rem; }
h4 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
header p, footer { color: var(--soft); margin: .2rem 0 0; }
a { color: var(--link); }
:target { background: var(--head); outline: 2px solid var(--link); }
.warning { color: var(--warn); background: var(--warn-page); border-left: 4px solid var(--warn);
  padding: .6rem .9rem; }
pre { background: var(--head); padding: .6rem .8rem; white-space: pre-wrap;
  font: .9rem/1.45 ui-monospace, monospace; }
dl { display: grid; grid-template-columns: minmax(9rem, auto) 1fr; gap: .25rem 1.2rem; }
dt { color: var(--soft); } dd { margin: 0; }
table { border-collapse: collapse; width: 100%; margin: .8rem 0 1.2rem; font-size: .93em; }
th, td { text-align: left; vertical-align: top; padding: .3rem .55rem;
  border: 1px solid var(--line); unicode-bidi: plaintext; }
th { background: var(--head); }
.n { text-align: right; font-variant-numeric: tabular-nums; }
.break { break-before: page; border: 0; margin: 0; }
@media print {
  :root { --text: #000; --soft: #444; --page: #fff; --line: #999; --head: #eee; --link: #000;
    --warn: #000; --warn-page: #fff; }
  @page { size: A4; margin: 18mm 16mm; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  thead { display: table-header-group; } tr, pre, .warning { break-inside: avoid; }
  h2, h3, h4 { break-after: avoid; }
}
"""


def escape(text: str) -> str:
    """The text as one line that is read as exactly this text, also inside an attribute."""
    return _escape(line(text))


def write_html(document: Document) -> str:
    """The document as one HTML file."""
    anchors = Anchors(document)
    title, subtitle = escape(document.title), escape(document.subtitle)
    head = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        # A reader that minds it loads and runs nothing, whatever the file should hold.
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>",
        f"<style>{_STYLE}</style>",
        "</head>",
        "<body>",
        f"<header><h1>{title}</h1>",
        *([f"<p>{subtitle}</p>"] if subtitle else []),
        f"<p>{moment(document.made_at)}</p></header>",
        "<main>",
    ]
    body = [part for block in document.blocks for part in _block(block, anchors)]
    return "\n".join([*head, *body, "</main>", "</body>", "</html>", ""])


def _block(block: Block, anchors: Anchors) -> Iterator[str]:
    if isinstance(block, Heading):
        tag = f"h{min(max(block.level, 1), 3) + 1}"
        yield f"<{tag}{_id(block.anchor, anchors)}>{escape(block.text)}</{tag}>"
    elif isinstance(block, Paragraph):
        mark = _id(block.anchor, anchors)
        if block.kind == "fixed":
            # A break right behind the tag would be dropped, so the text's own is kept by ours.
            yield f"<pre{mark}>\n{_escape(chr(10).join(lines(block.text)))}</pre>"
        elif block.kind == "warning":
            yield f'<p{mark} class="warning" role="note">{escape(block.text)}</p>'
        else:
            yield f"<p{mark}>{escape(block.text)}</p>"
    elif isinstance(block, Facts):
        yield "<dl>"
        for name, value in block.pairs:
            yield f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
        yield "</dl>"
    elif isinstance(block, PageBreak):
        yield '<hr class="break">'
    else:
        yield from _table(block, anchors)


def _table(block: Table, anchors: Anchors) -> Iterator[str]:
    whole = sum(max(column.share, 1) for column in block.columns) or 1
    yield "<table>"
    shares = (f"{max(column.share, 1) * 100 / whole:.2f}" for column in block.columns)
    yield "<colgroup>" + "".join(f'<col style="width:{each}%">' for each in shares) + "</colgroup>"
    heads = (f'<th scope="col"{_right(c.right)}>{escape(c.title)}</th>' for c in block.columns)
    yield "<thead><tr>" + "".join(heads) + "</tr></thead>"
    yield "<tbody>"
    right = [_right(column.right) for column in block.columns]
    for anchor, cells in table_rows(block):
        shown = (
            f"<td{side}>{_cell(cell, anchors)}</td>"
            for side, cell in zip(right, cells, strict=True)
        )
        yield f"<tr{_id(anchor, anchors)}>" + "".join(shown) + "</tr>"
    yield "</tbody></table>"


def _cell(cell: Cell, anchors: Anchors) -> str:
    text = escape(cell.text)
    target = anchors.name(cell.link)
    return f'<a href="#{target}">{text}</a>' if target and text else text


def _id(anchor: str | None, anchors: Anchors) -> str:
    name = anchors.name(anchor)
    return f' id="{name}"' if name else ""


def _right(right: bool) -> str:
    return ' class="n"' if right else ""
