"""The fonts of PDF documents, and text cut into pieces that one font can show.

Noto Sans and Roboto Mono (both under the SIL Open Font License) are embedded, as far as a document
uses them: Latin, Greek, Cyrillic, Vietnamese and Devanagari. Chinese, Japanese and Korean use fonts
that PDF readers have themselves. A character that none of them has is written as `[U+05D0]`.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Final, Literal, NamedTuple

import fontpkg
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFont

from dee_es.adapters.documents.text import code_point

Face = Literal["text", "fixed"]

_EMBEDDED: Final[dict[str, str]] = {"text": "Noto Sans", "fixed": "Roboto Mono"}
_ORDER: Final[dict[Face, tuple[str, ...]]] = {"text": ("text",), "fixed": ("fixed", "text")}
_JAPANESE: Final = "HeiseiKakuGo-W5"
_CHINESE: Final = "STSong-Light"
_KOREAN: Final = "HYGothic-Medium"
_KANA: Final = ((0x3040, 0x30FF), (0x31F0, 0x31FF), (0xFF00, 0xFFEF))
_HAN: Final = ((0x3000, 0x303F), (0x3100, 0x312F), (0x3400, 0x4DBF), (0x4E00, 0x9FFF))
_HANGUL: Final = ((0x1100, 0x11FF), (0x3130, 0x318F), (0xAC00, 0xD7AF))


class Glyph(NamedTuple):
    """A character, or what stands for one: the font that has it, and its width for size 1."""

    font: str
    text: str
    width: float


@lru_cache(maxsize=1)
def _fonts() -> dict[str, TTFont]:
    opened = {}
    for name, family in _EMBEDDED.items():
        opened[name] = TTFont(f"dee-{name}", str(fontpkg.path(family)))
        pdfmetrics.registerFont(opened[name])
    for name in (_JAPANESE, _CHINESE, _KOREAN):
        pdfmetrics.registerFont(UnicodeCIDFont(name))
    return opened


def glyphs(text: str, face: Face) -> list[Glyph]:
    """The characters of one line, each with a font that shows it."""
    composed = unicodedata.normalize("NFC", text)
    return [glyph for character in composed for glyph in _of(character, face)]


@lru_cache(maxsize=16384)
def _of(character: str, face: Face) -> tuple[Glyph, ...]:
    code = ord(character)
    fonts = _fonts()
    for name in _ORDER[face]:
        if code in fonts[name].face.charToGlyph:
            return (_glyph(fonts[name].fontName, character),)
    far = _far_eastern(code)
    if far is not None:
        # Their characters fill a square each; half-width forms are rare enough to be given one too.
        return (Glyph(far, character, 1.0),)
    return tuple(glyph for each in code_point(character) for glyph in _of(each, face))


def _glyph(font: str, text: str) -> Glyph:
    return Glyph(font, text, pdfmetrics.stringWidth(text, font, 1))


def _far_eastern(code: int) -> str | None:
    for font, ranges in ((_KOREAN, _HANGUL), (_JAPANESE, _KANA), (_CHINESE, _HAN)):
        if any(first <= code <= last for first, last in ranges):
            return font
    return None
