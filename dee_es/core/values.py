"""What may enter the log: refuses, at the door, every value that would poison a later reader."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeGuard, TypeVar

from dee_es.errors import InvalidInput

JsonScalar = str | int | float | bool | None
JsonValue = object
"""A JSON value: scalars, lists of values, and maps from text to values."""
_ChoiceT = TypeVar("_ChoiceT", bound=str)

_TEXT: Final = frozenset({str})
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_HELD: Final[dict[type, Callable[[Any], Any]]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
}
"""What a value of a class of its own holds; what it says about itself may be something else."""
MAX_SAFE_INTEGER: Final = 2**53
"""Integers beyond this lose digits in readers that keep numbers as doubles."""
MAX_DEPTH: Final = 64
"""Deepest nesting of lists and maps."""
MAX_PAYLOAD_BYTES: Final = 256 * 1024
"""Largest stored payload of one event, in bytes."""
MAX_ACTOR: Final = 200
"""Longest name of an actor, in characters."""

ID_PATTERN: Final = "^[A-Za-z0-9._:-]{1,128}$"
"""What an opaque id looks like, for those who describe what they take."""
ID_RULE: Final = "must be 1 to 128 characters out of A-Z a-z 0-9 . _ : -"
"""The same in words."""

_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")
_VERSIONED = re.compile(r"[A-Za-z0-9._:-]{1,128}@[0-9]{1,9}\Z")
_ALL_VERSIONS: Final = ", which stands for all versions of the plan"
_WORD = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_URL = re.compile(r"https?://[!#$%&'()*+,./0-9:;=?@A-Z\[\]_a-z~-]{1,2000}\Z")
# A name is shown within a line: nothing in it may end the line or change its direction.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# NUL ends a text in PostgreSQL and in C readers; a lone surrogate has no UTF-8 form.
_POISON = re.compile("[\x00\ud800-\udfff]")


def check_id(field: str, value: object) -> str:
    """Return `value` if it is a well-formed opaque id, else raise `InvalidInput` naming `field`."""
    if not isinstance(value, str) or not _ID.match(value):
        raise InvalidInput(field, ID_RULE)
    return _plain_text(value)


def check_plan_id(field: str, value: object, version: str = "") -> str:
    """The same for the id of a plan. One that names a version, as `trial@1` does, is told as such:
    `version` is the parameter that takes it, where there is one."""
    if isinstance(value, str) and names_version(value):
        raise InvalidInput(field, plan_id_fault(version))
    return check_id(field, value)


def names_version(value: str) -> bool:
    """Whether a text is the id of a plan with a version, as those write it who name one plan."""
    return _VERSIONED.match(value) is not None


def plan_id_fault(version: str = "") -> str:
    """What is wrong with such a text where a plan's id is meant."""
    and_so = f", and the version as `{version}`" if version else _ALL_VERSIONS
    return f"is an id with a version; give the id alone{and_so}"


def check_text(field: str, value: object, *, blank: bool = True) -> str:
    """Return `value` if it is text any reader can hold, whatever class of text it is of;
    `blank=False` also refuses white space."""
    if not isinstance(value, str):
        raise InvalidInput(field, f"must be text, not {type(value).__name__}")
    _check_characters(field, value)
    if not blank and not value.strip():
        raise InvalidInput(field, "must not be blank")
    return _plain_text(value)


def check_actor(field: str, value: object) -> str:
    """Return `value` if it can name who acts: a line of at most `MAX_ACTOR` characters, not blank,
    without control characters."""
    actor = check_text(field, value, blank=False)
    if len(actor) > MAX_ACTOR:
        raise InvalidInput(field, f"must not be longer than {MAX_ACTOR} characters")
    if _CONTROL.search(actor):
        raise InvalidInput(field, "must be one line without control characters")
    return actor


def check_count(field: str, value: object, most: int = MAX_SAFE_INTEGER, least: int = 1) -> int:
    """Return `value` if it is a whole number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        too_much = isinstance(value, int) and value > most
        upper = "or more" if most == MAX_SAFE_INTEGER and not too_much else f"to {most}"
        raise InvalidInput(field, f"must be a whole number, {least} {upper}")
    return value


def check_flag(field: str, value: object) -> bool:
    """Return `value` if it is true or false; what only counts as one is refused."""
    if not isinstance(value, bool):
        raise InvalidInput(field, f"must be true or false, not {type(value).__name__}")
    return value


def check_one_of(field: str, value: object, known: Sequence[_ChoiceT]) -> _ChoiceT:
    """Return the one of `known` that `value` is."""
    for each in known:
        if isinstance(value, str) and each == _plain_text(value):
            return each
    first, last = ", ".join(repr(each) for each in known[:-1]), repr(known[-1])
    raise InvalidInput(field, f"must be {first} or {last}")


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a number, NaN and the infinities included."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_url(field: str, value: str) -> str:
    """Return `value` if it is an http or https address that a mail header can hold."""
    if not _URL.match(value):
        raise InvalidInput(field, "must be an http or https URL of printable ASCII without spaces")
    return value


def check_value(field: str, value: JsonValue, depth: int = 0) -> None:
    """Raise `InvalidInput`, naming the path to the culprit, unless `value` is safe JSON."""
    if isinstance(value, str):
        _check_characters(field, value)
    elif value is None or isinstance(value, bool):
        return
    elif isinstance(value, int):
        if abs(value) > MAX_SAFE_INTEGER:
            raise InvalidInput(field, "integer beyond 2^53 cannot be kept exactly; send it as text")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidInput(field, "NaN and infinities are not JSON numbers")
    elif type(value) is dict or isinstance(value, Mapping):
        _check_depth(field, depth)
        for key, item in value.items():
            if type(key) is str and type(item) is str and _harmless(key) and _harmless(item):
                continue  # nearly all there is: no need to put into words where it stands
            if not isinstance(key, str):
                raise InvalidInput(field, f"keys must be text, not {type(key).__name__}")
            _check_characters(f"{field} (a key)", key)
            # A name of somebody's own making could be anything, an address too.
            shown = key if _WORD.match(key) else "(a key)"
            check_value(f"{field}.{shown}", item, depth + 1)
    elif isinstance(value, (list, tuple)):
        _check_depth(field, depth)
        for index, item in enumerate(value):
            check_value(f"{field}[{index}]", item, depth + 1)
    else:
        raise InvalidInput(field, f"{type(value).__name__} is not a JSON value")


def check_map(field: str, value: object) -> dict[str, JsonValue]:
    """Return a copy of `value` in plain types if it is a map of safe JSON values.

    So what is decided by now is what is read back later, whatever classes of text, numbers and maps
    a caller's libraries have.
    """
    if type(value) is not dict and not isinstance(value, Mapping):
        raise InvalidInput(field, f"must be a map, not {type(value).__name__}")
    plain = _TEXT.issuperset(map(type, value))
    texts = plain and _TEXT.issuperset(map(type, value.values()))
    # Nearly all there is, looked at in one go: what is wrong, and where, is told below.
    if texts and _harmless("".join((*value, *value.values()))):
        return dict(value)
    check_value(field, value)
    if plain and _SCALARS.issuperset(map(type, value.values())):
        return dict(value)  # nothing in it has to be made plain
    return {_plain(key): _plain(item) for key, item in value.items()}


def check_payload_size(field: str, size: int) -> None:
    """Refuse a payload above `MAX_PAYLOAD_BYTES`."""
    if size > MAX_PAYLOAD_BYTES:
        raise InvalidInput(field, f"{size} bytes are more than the {MAX_PAYLOAD_BYTES} allowed")


def _plain(value: Any) -> Any:
    """A copy of a value that was checked, down to the plain types of JSON."""
    if type(value) in _SCALARS:
        return value
    for plain in (str, int, float):
        if isinstance(value, plain):
            return _HELD[plain](value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value]


def _plain_text(text: str) -> str:
    return text if type(text) is str else _HELD[str](text)


def _harmless(text: str) -> bool:
    """What `_check_characters` asks, without a place to name."""
    return len(text) <= MAX_PAYLOAD_BYTES and not _is_poison(text)


def _is_poison(text: str) -> bool:
    # Of plain ASCII, as most is, it is known without a search that there are no surrogates.
    return "\x00" in text if text.isascii() else _POISON.search(text) is not None


def _check_characters(field: str, text: str) -> None:
    # Measured before the scan: a text this long can never fit a payload.
    if len(text) > MAX_PAYLOAD_BYTES:
        raise InvalidInput(field, f"text is longer than {MAX_PAYLOAD_BYTES} bytes")
    if _is_poison(text):
        raise InvalidInput(field, "holds a NUL or a lone surrogate, which readers cannot keep")


def _check_depth(field: str, depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise InvalidInput(field, f"nested deeper than {MAX_DEPTH} levels")
