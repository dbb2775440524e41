"""The messages of a run, as they were handed to their channels, and HTML mail made fit to be read.

The reading view keeps what carries text and nothing else: no attribute, no style, no image, no
link that could be followed. It is shown in a frame that runs no scripts and reaches nothing, so
that this is for legibility and a second safeguard, not the only one.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from dee_es.engine.models import LogEntry

_KEPT: Final = re.compile(
    "p|br|hr|div|span|b|strong|i|em|u|s|small|sub|sup|blockquote|pre|code|ul|ol|li|dl|dt|dd|"
    "h[1-6]|table|thead|tbody|tfoot|tr|td|th|caption|center"
)
_DROPPED: Final = re.compile(
    "script|style|template|noscript|iframe|object|embed|svg|math|title|head|select|textarea"
)
# Each alternative, once begun, takes all up to its end or to the end of all, and so no character is
# looked at more than a few times; a parser that tries again from the next bracket takes minutes.
_PIECE: Final = re.compile(
    r"<!--(?:-?>|.*?(?:--!?>|\Z))"
    r"|<(?P<raw>script|style|textarea|title|iframe)(?![^\s/>])"
    r".*?(?:</(?P=raw)(?![^\s/>])[^>]*>?|\Z)"
    r"|<(?P<end>/?)(?P<tag>[a-z][^\s/>]*)"
    r"""(?P<rest>(?:[^>=]+|=\s*"[^"]*"?|=\s*'[^']*'?|=)*)>?"""
    r"|<[!?/][^>]*>?"
    r"|(?P<text>[^<]+|<)",
    re.ASCII | re.DOTALL | re.IGNORECASE,
)
"""A comment, an element that holds no markup, a tag, another declaration, or text."""
_EMPTY: Final = frozenset({"br", "hr"})
_BEGIN: Final = '<!doctype html><html lang="en"><title>Message</title><body>'
_MOST_DEPTH: Final = 200
_ENDS: Final = {
    "step.executed": "delivered",
    "step.pending": "pending",
    "error.occurred": "failed",
    "error.retried": "failed, to be tried again",
    "error.outcome_unknown": "unknown",
}


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message of a run; `erased` if its text can no longer be read."""

    version: int
    time: datetime
    tick: int
    step: str
    channel: str
    attempt: int
    outcome: str
    to: str | None
    subject: str | None
    text: str | None
    html: str | None
    reading: str | None
    script: Any
    erased: bool


def messages_of(log: Sequence[LogEntry]) -> list[SentMessage]:
    """The messages that a run handed to a channel, in order, each with what became of it."""
    found: list[SentMessage] = []
    for place, entry in enumerate(log):
        if entry.action == "step.dispatched":
            found.append(_message(entry, _outcome(log[place + 1 :], entry)))
    return found


def _message(entry: LogEntry, outcome: str) -> SentMessage:
    data = entry.data
    personal: dict[str, Any] = data.get("personal") or {}
    markup = personal.get("html")
    return SentMessage(
        version=entry.version,
        time=entry.time,
        tick=entry.tick,
        step=entry.step_id or "",
        channel=str(data.get("channel", "")),
        attempt=int(data.get("attempt", 1)),
        outcome=outcome,
        to=personal.get("to"),
        subject=personal.get("subject"),
        text=personal.get("text"),
        html=markup,
        reading=None if markup is None else reading_view(markup),
        script=personal.get("script"),
        erased=entry.erased,
    )


def _outcome(later: Sequence[LogEntry], sent: LogEntry) -> str:
    resend = bool(sent.data.get("resend"))
    for entry in later:
        same = entry.step_id == sent.step_id and bool(entry.data.get("resend")) == resend
        if same and entry.action == "step.dispatched":
            break
        if same and entry.action in _ENDS:
            return _ENDS[entry.action]
    return "under way"


def reading_view(markup: str) -> str:
    """An HTML document of the text in `markup`, with its structure and without anything else."""
    reader = _Reader()
    for piece in _PIECE.finditer(markup):
        tag = (piece["tag"] or "").lower()
        if piece["text"] is not None:
            reader.text(html.unescape(piece["text"]))
        elif piece["end"]:
            reader.end(tag)
        elif tag in _EMPTY or (tag and not piece["rest"].endswith("/")):
            reader.start(tag)
    return f"{_BEGIN}{reader.document()}</body></html>"


class _Reader:
    """Copies texts and the tags that are kept."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._open: list[str] = []
        self._hidden = 0

    def document(self) -> str:
        """What was kept, with every tag closed."""
        return "".join(self._parts) + "".join(f"</{tag}>" for tag in reversed(self._open))

    def start(self, tag: str) -> None:
        """Keep the tag, without its attributes."""
        if _DROPPED.fullmatch(tag):
            self._hidden += 1
        elif _KEPT.fullmatch(tag) and not self._hidden and len(self._open) < _MOST_DEPTH:
            self._parts.append(f"<{tag}>")
            if tag not in _EMPTY:
                self._open.append(tag)

    def end(self, tag: str) -> None:
        """Close what is open."""
        if _DROPPED.fullmatch(tag):
            self._hidden = max(0, self._hidden - 1)
        elif tag in self._open and not self._hidden:
            while True:
                last = self._open.pop()
                self._parts.append(f"</{last}>")
                if last == tag:
                    return

    def text(self, text: str) -> None:
        """Keep the text."""
        if not self._hidden:
            self._parts.append(html.escape(text))
