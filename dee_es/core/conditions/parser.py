"""From the text of a condition to its tree: a tokenizer and a recursive descent.

    condition  = "default" | or
    or         = and { "or" and }
    and        = not { "and" not }
    not        = "not" not | "(" or ")" | comparison
    comparison = value [ ( "==" | "!=" | "<" | "<=" | ">" | ">=" ) value ]
    value      = literal | lookup

A value that stands alone has to be able to be true: text, numbers and null are refused there, and
so is `call.outcome(...)`, which is text.
"""

from __future__ import annotations

import difflib
import math
import re
from typing import Final, cast

from msgspec import Struct

from dee_es.core.conditions.tree import (
    And,
    Compare,
    Condition,
    Default,
    Literal,
    Lookup,
    LookupKind,
    Not,
    Operator,
    Or,
)
from dee_es.core.values import MAX_SAFE_INTEGER, JsonScalar

MAX_LENGTH: Final = 4096
"""Longest text of a condition, in characters."""
MAX_DEPTH: Final = 64
"""Deepest nesting of parentheses and `not`."""

_TOKEN = re.compile(
    r"""
    (?P<number> -?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.]) )
  | (?P<word>   [^\W\d]\w*(?:\.[^\W\d]\w*)* )
  | (?P<operator> == | != | <= | >= | < | > )
  | (?P<mark>   [()] )
  | (?P<quote>  ["'] )
    """,
    re.VERBOSE,
)
_SPACE = re.compile(r"[ \t\r\n]*")
_PLAIN_TEXT = re.compile(r"[^\"'\\\x00-\x1f\x7f\ud800-\udfff]+")
_UNICODE_ESCAPE = re.compile(r"u([0-9A-Fa-f]{4})")
_ESCAPES: Final = {"\\": "\\", '"': '"', "'": "'", "n": "\n", "r": "\r", "t": "\t"}

_CONSTANTS: Final[dict[str, JsonScalar]] = {"true": True, "false": False, "null": None}
_STANDS_ALONE: Final = frozenset({"contact.unsubscribed", "contact.bounced"})
_TAKES_A_STEP: Final[dict[str, LookupKind]] = {
    "events.hasReply": "events.hasReply",
    "events.hasOpen": "events.hasOpen",
    "events.hasClick": "events.hasClick",
    "events.hasBounce": "events.hasBounce",
    "contact.emailReplied": "events.hasReply",
    "contact.emailOpened": "events.hasOpen",
    "contact.emailClicked": "events.hasClick",
    "call.outcome": "call.outcome",
}
_TAKES_A_NAME: Final[tuple[LookupKind, ...]] = ("contact.attributes", "variables")
_KNOWN: Final = (*_TAKES_A_STEP, *_STANDS_ALONE, *_CONSTANTS, "and", "or", "not", "default")
_HABITS: Final = {"&": "and", "|": "or", "!": "not", "=": "=="}


class ConditionError(ValueError):
    """A condition cannot be parsed: `problem` says why, `column` where, counted from 1."""

    def __init__(self, column: int, problem: str) -> None:
        self.column = column
        self.problem = problem
        super().__init__(f"column {column}: {problem}")


def parse(text: str) -> Condition:
    """The tree of a condition.

    Raises `ConditionError`; its column is at most one more than the length of the text.
    """
    if len(text) > MAX_LENGTH:
        raise ConditionError(MAX_LENGTH + 1, f"longer than {MAX_LENGTH} characters")
    return _Parser(_tokens(text)).whole()


class _Token(Struct, frozen=True):
    kind: str  # number, word, operator, mark, text or end
    source: str
    column: int
    value: str = ""  # of a text: what it says once its escapes are undone

    def __str__(self) -> str:
        if self.kind == "end":
            return "the end"
        return repr(self.source if len(self.source) <= 40 else f"{self.source[:40]}...")


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = _end_of(_SPACE, text, 0)
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ConditionError(at + 1, _stray(text[at]))
        kind, end, value = str(match.lastgroup), match.end(), ""
        if kind == "quote":
            kind, (value, end) = "text", _string(text, at)
        tokens.append(_Token(kind, text[at:end], at + 1, value))
        at = _end_of(_SPACE, text, end)
    tokens.append(_Token("end", "", len(text) + 1))
    return tokens


def _end_of(pattern: re.Pattern[str], text: str, start: int) -> int:
    match = pattern.match(text, start)
    return match.end() if match else start


def _stray(character: str) -> str:
    if character in _HABITS:
        return f"unexpected {character!r}; write {_HABITS[character]!r}"
    if character in "-0123456789":
        return "not a number"
    return f"unexpected {character!r}"


def _string(text: str, start: int) -> tuple[str, int]:
    """The value of the string that opens at `start`, and the index behind its closing quote."""
    parts: list[str] = []
    at = start + 1
    while at < len(text):
        character = text[at]
        if character == text[start]:
            return "".join(parts), at + 1
        if character == "\\":
            part, end = _escaped(text, at)
        elif character in "\"'":
            part, end = character, at + 1
        else:
            end = _end_of(_PLAIN_TEXT, text, at)
            part = text[at:end]
        if end == at:
            raise ConditionError(at + 1, f"write {character!r} as an escape, or leave it out")
        parts.append(part)
        at = end
    raise ConditionError(start + 1, "this string is never closed")


def _escaped(text: str, at: int) -> tuple[str, int]:
    """The character that the escape at `at` stands for, and the index behind it."""
    if (letter := text[at + 1 : at + 2]) in _ESCAPES:
        return _ESCAPES[letter], at + 2
    match = _UNICODE_ESCAPE.match(text, at + 1)
    if match is None:
        raise ConditionError(at + 1, r"unknown escape; there are \\ \" \' \n \r \t and \u0000")
    code = int(match[1], 16)
    if code == 0 or 0xD800 <= code <= 0xDFFF:
        raise ConditionError(at + 1, "NUL and surrogates are not text")
    return chr(code), match.end()


class _Parser:
    """Holds the place in the tokens and how deep it is nested."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def whole(self) -> Condition:
        if self._next.kind == "end":
            raise ConditionError(1, "the condition is empty")
        if self._next.source == "default" and self._tokens[1].kind == "end":
            return Default()
        condition = self._or()
        if self._next.kind != "end":
            raise self._unexpected("'and' or 'or'")
        return condition

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._next
        self._at += 1
        return token

    def _took(self, source: str) -> bool:
        # Texts are told apart by their quotes, which no word, mark or operator has.
        found = self._next.source == source
        self._at += found
        return found

    def _expect(self, source: str) -> None:
        if not self._took(source):
            raise self._unexpected(repr(source))

    def _unexpected(self, expected: str) -> ConditionError:
        token = self._next
        return ConditionError(token.column, f"expected {expected}, found {token}")

    def _or(self) -> Condition:
        terms = [self._and()]
        while self._took("or"):
            terms.append(self._and())
        return terms[0] if len(terms) == 1 else Or(tuple(terms))

    def _and(self) -> Condition:
        terms = [self._not()]
        while self._took("and"):
            terms.append(self._not())
        return terms[0] if len(terms) == 1 else And(tuple(terms))

    def _not(self) -> Condition:
        token = self._next
        if token.source not in ("not", "("):
            return self._comparison()
        self._take()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ConditionError(token.column, f"nested deeper than {MAX_DEPTH} levels")
        condition = Not(self._not()) if token.source == "not" else self._group()
        self._depth -= 1
        return condition

    def _group(self) -> Condition:
        condition = self._or()
        self._expect(")")
        if self._next.kind == "operator":
            problem = "only values are compared, not what stands in parentheses"
            raise ConditionError(self._next.column, problem)
        return condition

    def _comparison(self) -> Condition:
        start = self._next
        left = self._value()
        if self._next.kind != "operator":
            return self._truth(left, start)
        operator = cast(Operator, self._take().source)
        right = self._value()
        if self._next.kind == "operator":
            raise ConditionError(self._next.column, "comparisons do not chain; join them with and")
        return Compare(operator, left, right)

    @staticmethod
    def _truth(value: Literal | Lookup, token: _Token) -> Condition:
        is_boolean = isinstance(value, Literal) and isinstance(value.value, bool)
        if is_boolean or (isinstance(value, Lookup) and value.kind != "call.outcome"):
            return value
        raise ConditionError(token.column, f"{token} alone is never true; compare it")

    def _value(self) -> Literal | Lookup:
        token = self._next
        if token.kind not in ("text", "number", "word") or token.source in ("and", "or", "not"):
            raise self._unexpected("a value")
        self._take()
        if token.kind == "text":
            return Literal(token.value)
        if token.kind == "number":
            return Literal(_number(token))
        if token.source in _CONSTANTS:
            return Literal(_CONSTANTS[token.source])
        return self._lookup(token)

    def _lookup(self, token: _Token) -> Lookup:
        word = token.source
        if word in _TAKES_A_STEP:
            return Lookup(_TAKES_A_STEP[word], self._step(word))
        if word in _STANDS_ALONE:
            return Lookup(cast(LookupKind, word))
        for kind in _TAKES_A_NAME:
            name = word.removeprefix(f"{kind}.")
            if name != word and "." not in name:
                return Lookup(kind, name)
        raise ConditionError(token.column, _unknown(word))

    def _step(self, word: str) -> str | None:
        self._expect("(")
        token = self._next
        is_any = token.source == "any" and word != "call.outcome"
        if not is_any and token.kind != "text":
            raise self._unexpected("a step id in quotes")
        self._take()
        self._expect(")")
        return None if is_any else token.value


def _number(token: _Token) -> int | float:
    if token.source.removeprefix("-").isdecimal():
        whole = int(token.source)
        if abs(whole) > MAX_SAFE_INTEGER:
            raise ConditionError(token.column, "an integer beyond 2^53 is not exact")
        return whole
    number = float(token.source)
    if not math.isfinite(number):
        raise ConditionError(token.column, "this number is too large")
    return number


def _unknown(word: str) -> str:
    if word == "default":
        return "'default' is a whole condition and cannot be combined"
    for kind in _TAKES_A_NAME:
        if word == kind or word.startswith(f"{kind}."):
            return f"write {kind}.NAME, with a single name"
    near = difflib.get_close_matches(word, _KNOWN, n=1) or [
        known for known in _KNOWN if known.lower() == word.lower()
    ]
    return f"unknown name {word!r}" + (f"; did you mean {near[0]!r}?" if near else "")
