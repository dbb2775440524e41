"""What an email gets as it leaves, beyond what was rendered: links that are its contact's own.

The log holds a message as it was rendered, and a replay renders the same again: no secret decides
what is in the log. Links are signed by one, so they are put in where the message leaves. The same
message of the same attempt, under the same secret, leaves with the same bytes.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from dee_es.core.events import Message
from dee_es.core.messages.message import message_id
from dee_es.core.steps import SendEmail, Step
from dee_es.engine.links import Links
from dee_es.errors import InvalidInput

# What may begin: a comment, a link, or an element whose content is text and not markup.
_OPENING = re.compile(
    r"<(?:(?P<comment>!--)|(?P<link>a|area)(?=[\s/>])"
    r"|(?P<text>script|style|textarea|title|xmp)(?=[\s/>]))",
    re.IGNORECASE,
)
_TAG = re.compile(r"""<(?:[^>"']++|"[^"]*+"|'[^']*+')*+>""")
_ATTRIBUTE = re.compile(
    r"""(?<=[\s/"'])(?P<name>[^\s"'>/=]+)"""
    r"""(?:\s*=\s*(?P<value>"[^"]*"|'[^']*'|[^\s"'>][^\s>]*))?"""
)
_BODY_END = re.compile(r"</body\s*>", re.IGNORECASE)
_WEB = re.compile(r"https?://", re.IGNORECASE)
# A URL that goes on is another one. What ends a sentence or an emphasis is no part of it, nor are
# letters that no URL has: some languages put no space between words.
_BEGINS: Final = r"(?<![A-Za-z0-9%/&?-])"
_GOES_ON = re.compile(r"[*_~-]*[A-Za-z0-9/#=&%$@+]|[.,:;!']\w|\?[\w/=&%$@+*~.-]", re.ASCII)
_REFERENCE = re.compile(r"&#?\w+;", re.ASCII)
_AHEAD: Final = 40
"""Characters that tell whether a URL goes on, with room for the longest character reference."""


class Sending(Struct, frozen=True):
    """One message of a step: for whom, of which run and step, and under which key."""

    contact_id: str
    run_id: str
    step_id: str
    key: str


class Observed(Struct, frozen=True):
    """What is observed about a message once it is sent; by default nothing."""

    opens: bool = False
    clicks: bool = False

    @classmethod
    def of(cls, step: Step, sender: Mapping[str, Any]) -> Observed:
        """As the step says, else as the sender does."""
        if isinstance(step, SendEmail) and step.tracking is not None:
            return cls(step.tracking.opens, step.tracking.clicks)
        return cls(**sender.get("tracking", {}))


def leaving(
    message: Message, links: Links, sending: Sending, observed: Observed, general: str | None
) -> Message:
    """An email as it leaves. `general` is the sender's address for unsubscribing: where the message
    has it, its contact's own link takes its place."""
    unsubscribe = unsubscribe_link(links, sending)
    text, markup = message.text, message.html
    if general is not None:
        text = text and _replaced(text, {general}, unsubscribe, str)
        forms = {general, html.escape(general, quote=False), _as_rendered(general)}
        markup = markup and _replaced(markup, forms, unsubscribe, _as_shown)
    if markup and observed.clicks:
        markup = _with_clicks(markup, links, sending)
    if markup and observed.opens:
        markup = _with_pixel(markup, links, sending)
    return replace(message, text=text, html=markup)


def unsubscribe_link(links: Links, sending: Sending) -> str:
    """Where the contact of a message unsubscribes, by one click."""
    return links.unsubscribe(sending.contact_id, run_id=sending.run_id, step_id=sending.step_id)


def _replaced(text: str, forms: set[str], link: str, shown: Callable[[str], str]) -> str:
    """The text with a URL replaced, in whichever form it stands there; what comes behind it is
    looked at as it is `shown`."""

    def own(found: re.Match[str]) -> str:
        behind = shown(text[found.end() : found.end() + _AHEAD])
        return link if _GOES_ON.match(behind) is None else found[0]

    # The longest first: one may begin like another.
    known = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
    return re.sub(rf"{_BEGINS}(?:{known})", own, text)


def _as_shown(markup: str) -> str:
    """The text between tags as browsers show it, where its character references are complete."""
    return _REFERENCE.sub(lambda found: html.unescape(found[0]), markup)


def _as_rendered(url: str) -> str:
    """The URL as templates escape it inside HTML."""
    escaped = html.escape(url, quote=True)
    return escaped.replace("`", "&#x60;").replace("=", "&#x3D;")


def _with_pixel(markup: str, links: Links, sending: Sending) -> str:
    source = links.open(
        sending.contact_id,
        run_id=sending.run_id,
        step_id=sending.step_id,
        message_id=message_id(sending.key),
    )
    pixel = f'<img src="{source}" width="1" height="1" alt="">'
    ends = list(_BODY_END.finditer(markup))
    at = ends[-1].start() if ends else len(markup)
    return markup[:at] + pixel + markup[at:]


def _with_clicks(markup: str, links: Links, sending: Sending) -> str:
    """The markup with its links on to the web signed; nothing else of it changes.

    What was never closed reaches to the end, and is left as it is. To unsubscribe is no click, by
    whichever link: one may have come with the contact's attributes.
    """
    stop = links.general_unsubscribe

    def signed(target: str) -> str | None:
        if target == stop or target.startswith(f"{stop}/") or _WEB.match(target) is None:
            return None
        try:
            return links.click(
                sending.contact_id,
                _WEB.sub(lambda found: found[0].lower(), target, count=1),
                run_id=sending.run_id,
                step_id=sending.step_id,
                message_id=message_id(sending.key),
            )
        except InvalidInput:
            # Too long, or with a user name: as it was, it still leads where it should.
            return None

    parts: list[str] = []
    at = 0
    while (opening := _OPENING.search(markup, at)) is not None:
        end = _end_of(opening, markup)
        if end is None:
            break
        parts.append(markup[at : opening.start()])
        piece = markup[opening.start() : end]
        parts.append(piece if opening["link"] is None else _tag(piece, signed))
        at = end
    parts.append(markup[at:])
    return "".join(parts)


def _end_of(opening: re.Match[str], markup: str) -> int | None:
    if opening["comment"] is not None:
        # Browsers end a comment that has nothing in it at once: `<!-->`.
        end = markup.find("-->", opening.start() + 2)
        return None if end < 0 else end + 3
    if opening["link"] is not None:
        tag = _TAG.match(markup, opening.start())
        return None if tag is None else tag.end()
    close = re.compile(rf"</{opening['text']}(?=[\s/>])", re.IGNORECASE)
    found = close.search(markup, opening.end())
    return None if found is None else found.end()


def _tag(tag: str, signed: Callable[[str], str | None]) -> str:
    """A link's tag with its address signed; of two addresses browsers take the first."""
    for attribute in _ATTRIBUTE.finditer(tag):
        if attribute["name"].lower() != "href":
            continue
        value = attribute["value"]
        if value is None:
            return tag
        bare = value[1:-1] if value[0] in "\"'" else value
        link = signed(html.unescape(bare).strip())
        if link is None:
            return tag
        return f'{tag[: attribute.start("value")]}"{link}"{tag[attribute.end("value") :]}'
    return tag
