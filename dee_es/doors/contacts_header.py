"""What the columns of a contacts file mean, read from the names that people give them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from dee_es.errors import InvalidInput

Kind = Literal["number", "boolean"]
"""What an attribute's cells are read as, where it is not text."""
_DELIMITERS: Final = ",;\t"
_FOREIGN: Final = "|^~"
"""What other programs put between columns, and no id or address holds; such a file is refused."""
DELIMITER_NAMES: Final = {",": "commas", ";": "semicolons", "\t": "tabs"}
"""What may stand between columns, as people call it."""

# Names are compared without case, white space and punctuation: "E-mail" and "email" are one.
_MEANING: Final = {
    "id": "id",
    "contactid": "id",
    "email": "email",
    "emailaddress": "email",
    "phone": "phone",
    "phonenumber": "phone",
    "telephone": "phone",
    "timezone": "timezone",
    "tz": "timezone",
}
# Exports often have both "Phone" and "Mobile": the latter is the number only where it is alone.
_SECOND_CHOICE: Final = {
    "mobile": "phone",
    "mobilephone": "phone",
    "mobilenumber": "phone",
}

_QUOTED = re.compile(r'"[^"]*"?')
_WORD_BREAK = re.compile(r"\s+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class Columns:
    """Where each value of a contact stands in a record; positions count from 0."""

    titles: tuple[str, ...]
    """How a refusal names each column, the nameless ones too."""
    id: int | None
    email: int | None
    phone: int | None
    timezone: int | None
    attributes: tuple[tuple[str, int, Kind | None], ...]
    """The attribute each other named column becomes, its position, and its kind unless it is text.
    """
    nameless: tuple[int, ...]
    named_width: int
    """How many columns there are up to the last one that has a name."""
    delimiter: str = ","
    """What separates the columns."""


def choose_delimiter(header: str, file: str) -> str:
    """Return what separates the columns that the header line names: a comma, semicolon or tab.

    It is the one between which a column for an id or an address stands, or of several such the one
    that is there most often outside quotes; where that leaves a choice, a comma. Raises
    `InvalidInput` naming `file` and what is between its columns instead, if that is clear.
    """
    bare = _QUOTED.sub("", header)
    chosen = max(_DELIMITERS, key=lambda each: (_names_somebody(header, each), bare.count(each)))
    if not _names_somebody(header, chosen):
        for foreign in _FOREIGN:
            if foreign in bare and _names_somebody(header, foreign):
                raise InvalidInput(
                    file,
                    f"has {foreign} between its columns; "
                    "save it with commas, semicolons or tabs there",
                )
    return chosen


def _names_somebody(header: str, delimiter: str) -> bool:
    """Whether a column for an id or an address stands in the header, its columns so separated."""
    keys = [_key(cell) for cell in header.split(delimiter)]
    return any(key in _MEANING and _MEANING[key] != "timezone" for key in keys) or any(
        key in _SECOND_CHOICE for key in keys
    )


def read_header(
    cells: Sequence[str],
    file: str,
    kinds: Mapping[str, Kind] | None = None,
    delimiter: str = ",",
) -> Columns:
    """Return what the columns mean, or raise `InvalidInput` naming `file` and the problem.

    `kinds` names columns that hold something else than text, by any spelling of their names. Before
    a column for an id or an address is found, no cell is shown: a file without a header starts with
    somebody's data.
    """
    names = [unicodedata.normalize("NFC", cell).strip() for cell in cells]
    if any("\0" in name or not _is_utf8(name) for name in names):
        raise InvalidInput(file, "is not UTF-8 text; save it as CSV in UTF-8")
    keys = [_key(name) for name in names]
    meanings = [_MEANING.get(key) for key in keys]
    for at, key in enumerate(keys):
        choice = _SECOND_CHOICE.get(key)
        if choice not in meanings:
            meanings[at] = meanings[at] or choice
    if not {"id", "email", "phone"} & set(meanings):
        raise InvalidInput(
            file, "has no column named id, email or phone; the first line has to name the columns"
        )
    _refuse_duplicates(names, keys, meanings, file)

    attributes = [at for at, key in enumerate(keys) if key and meanings[at] is None]
    kind_of = _kinds(kinds or {}, {keys[at] for at in attributes}, file)

    def position(meaning: str) -> int | None:
        return meanings.index(meaning) if meaning in meanings else None

    return Columns(
        titles=tuple(
            f'column "{name}"' if key else f"column {at + 1}"
            for at, (name, key) in enumerate(zip(names, keys, strict=True))
        ),
        id=position("id"),
        email=position("email"),
        phone=position("phone"),
        timezone=position("timezone"),
        attributes=tuple((camel_case(names[at]), at, kind_of.get(keys[at])) for at in attributes),
        nameless=tuple(at for at, key in enumerate(keys) if not key),
        named_width=max(at for at, key in enumerate(keys) if key) + 1,
        delimiter=delimiter,
    )


def camel_case(name: str) -> str:
    """Return the attribute a column stands for: "First Name" and first_name are firstName."""
    first, *rest = (word for word in _WORD_BREAK.split(_words_only(name)) if word)
    return first.lower() + "".join(word[0].upper() + word[1:].lower() for word in rest)


def _key(name: str) -> str:
    """The form under which two spellings of one column's name compare equal."""
    return _words_only(unicodedata.normalize("NFC", name)).replace(" ", "").casefold()


def _kinds(kinds: Mapping[str, Kind], attributes: set[str], file: str) -> dict[str, Kind]:
    found: dict[str, Kind] = {}
    for name, kind in kinds.items():
        if _key(name) not in attributes:
            raise InvalidInput(
                file, f'has no column "{name}" of an attribute that could be a {kind}'
            )
        if found.setdefault(_key(name), kind) != kind:
            raise InvalidInput(file, f'has a column "{name}" that cannot be number and boolean')
    return found


def _refuse_duplicates(
    names: Sequence[str], keys: Sequence[str], meanings: Sequence[str | None], file: str
) -> None:
    seen: dict[str, str] = {}
    for name, key, meaning in zip(names, keys, meanings, strict=True):
        if not key:
            continue
        same = meaning or key
        if same in seen:
            raise InvalidInput(
                file, f'has two columns of one meaning, "{seen[same]}" and "{name}"; keep one'
            )
        seen[same] = name


def _words_only(name: str) -> str:
    """Return the name with a space for whatever is no part of a word."""
    # Marks belong to the letter before them: without its vowel signs नाम would be another word.
    return "".join(
        char if char.isalnum() or unicodedata.category(char).startswith("M") else " "
        for char in name
    )


def _is_utf8(text: str) -> bool:
    return not any("\udc80" <= char <= "\udcff" for char in text)
