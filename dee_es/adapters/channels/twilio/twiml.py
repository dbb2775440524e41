"""A call script as TwiML: the documents by which Twilio speaks and asks.

Documents are built as trees and written by the library's serializer, so a text stays a text
whatever it holds. Limits are Twilio's own: 4,000 characters in a request, 64 kB in an answer, and
per `<Say>` what its most limited voice can take.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from xml.etree import ElementTree

from dee_es.adapters.channels.twilio.script import every_step, finish_key, walk
from dee_es.adapters.channels.twilio.tokens import Place
from dee_es.errors import InvalidInput

MAX_INLINE: Final = 4_000
"""Characters of a document that goes with the request which places the call."""
MAX_DOCUMENT: Final = 64_000
"""Bytes of a document that is fetched."""
MAX_URL: Final = 2_000
"""Characters of a callback URL; a script may not gather more than fits in there."""
_MAX_SAY: Final = 1_200
"""Bytes in one `<Say>`: 3,000 are allowed, but 4,500 when escaped as in a URL, too."""
_TAG_BYTES: Final = 200
"""What the tags around a text take at most, but for a callback URL."""

NextUrl = Callable[[Place], str]
"""Gives the callback URL that a gather at this place leads to."""

# XML 1.0 has no way to write these, not even escaped.
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SPACE = re.compile(r"\s+")


class Writer:
    """Writes the documents of calls in one voice and language; None leaves either to Twilio."""

    def __init__(self, voice: str | None = None, language: str | None = None) -> None:
        given = {"voice": voice, "language": language}
        self._speech = {name: value for name, value in given.items() if value is not None}

    def document(self, script: Mapping[str, Any], place: Place, next_url: NextUrl) -> bytes:
        """What is said and asked from `place` on, up to the next gather or the end of the call.

        Raises `LookupError` for a place that the script does not have.
        """
        root = ElementTree.Element("Response")
        if not place.path:
            self._say(root, script["greeting"])
        for path, step in walk(script, place):
            if step["type"] == "speak":
                self._say(root, step["text"])
                continue
            # A place with an attempt beyond the first is that of the gather itself.
            here = Place(path, place.attempt, place.gathered)
            self._gather(root, script, step, next_url(here))
            return _written(root)
        return _ended(root)

    def message(self, script: Mapping[str, Any]) -> bytes:
        """What is left on a machine: what somebody hears who presses nothing, but no prompts."""
        root = ElementTree.Element("Response")
        self._say(root, script["greeting"])
        for _, step in walk(script, Place()):
            if step["type"] == "speak":
                self._say(root, step["text"])
        return _ended(root)

    def inline(self, script: Mapping[str, Any]) -> str | None:
        """The whole call in one document that fits into the request; None if there is none."""
        if any(step["type"] == "gather" for step in every_step(script)):
            return None
        text = self.document(script, Place(), _no_url).decode()
        return text if len(text) <= MAX_INLINE else None

    def _gather(
        self, parent: ElementTree.Element, script: Mapping[str, Any], step: Any, url: str
    ) -> None:
        settings = {
            "input": "dtmf",
            "numDigits": str(step["maxDigits"]),
            "timeout": str(step["timeout"]),
            "finishOnKey": finish_key(script, step),
            "action": url,
            "method": "POST",
            # Silence is an answer too: without this Twilio would go on by itself.
            "actionOnEmptyResult": "true",
        }
        self._say(ElementTree.SubElement(parent, "Gather", settings), step["prompt"])

    def _say(self, parent: ElementTree.Element, text: str) -> None:
        for part in _parts(text):
            ElementTree.SubElement(parent, "Say", self._speech).text = part


def hangup() -> bytes:
    """The document that ends the call."""
    return _ended(ElementTree.Element("Response"))


def check_fits(script: Mapping[str, Any], longest_url: int) -> None:
    """Raise `InvalidInput` if a document of this script might be more than Twilio takes.

    `longest_url` is the length in characters of the longest callback URL it can need.
    """
    texts = [script["greeting"]]
    texts += [step.get("text") or step.get("prompt") or "" for step in every_step(script)]
    said = [part for text in texts for part in _parts(text)]
    size = sum(len(_escaped(part)) for part in said) + _TAG_BYTES * (len(said) + len(texts))
    if size + longest_url > MAX_DOCUMENT:
        raise InvalidInput("script", f"has more than the {MAX_DOCUMENT} bytes one call can take")
    if longest_url > MAX_URL:
        raise InvalidInput("script", "gathers more than a call can keep while it goes on")


def _escaped(text: str) -> bytes:
    element = ElementTree.Element("a")
    element.text = text
    written: bytes = ElementTree.tostring(element, "utf-8")
    return written


def _parts(text: str) -> Iterator[str]:
    """The text in pieces that one `<Say>` can hold, cut at spaces where there are any."""
    piece = b""
    for word in _SPACE.split(_UNWRITABLE.sub(" ", text).strip()):
        for bite in _bites(word.encode()):
            if piece and len(piece) + 1 + len(bite) > _MAX_SAY:
                yield piece.decode()
                piece = bite
            else:
                piece = piece + b" " + bite if piece else bite
    if piece:
        yield piece.decode()


def _bites(word: bytes) -> Iterator[bytes]:
    while len(word) > _MAX_SAY:
        end = _MAX_SAY
        while word[end] & 0xC0 == 0x80:  # not inside of a character
            end -= 1
        yield word[:end]
        word = word[end:]
    yield word


def _ended(root: ElementTree.Element) -> bytes:
    ElementTree.SubElement(root, "Hangup")
    return _written(root)


def _written(root: ElementTree.Element) -> bytes:
    written: bytes = ElementTree.tostring(root, "utf-8")
    return b'<?xml version="1.0" encoding="UTF-8"?>' + written


def _no_url(_: Place) -> str:
    raise AssertionError("a script without a gather needs no callback")
