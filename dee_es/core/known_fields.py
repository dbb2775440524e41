"""What to say of a field that nobody knows: which one was meant, or which ones there are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel

_UNKNOWN: Final = "is not known here"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was most likely meant to be, if any comes close."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def keys_of(model: type[BaseModel]) -> tuple[str, ...]:
    """The names of a model's fields as they are written, in their order."""
    return tuple(info.alias or name for name, info in model.model_fields.items())


def unknown_field(model: type[BaseModel], location: Sequence[int | str]) -> str:
    """The problem with a field that the model does not have where `location` (as pydantic tells it)
    ends."""
    *path, name = location
    keys = _keys_at(model, path)
    if not keys:
        return _UNKNOWN
    near = nearest(str(name)[:64], keys)
    there = ", ".join(keys) if len(keys) < 2 else f"{', '.join(keys[:-1])} and {keys[-1]}"
    verb = "is" if len(keys) == 1 else "are"
    return f"{_UNKNOWN}; did you mean {near}?" if near else f"{_UNKNOWN}; there {verb} {there}"


def _keys_at(kind: object, path: Sequence[int | str]) -> tuple[str, ...]:
    """The fields of what lies at the end of the path; none if that is not known."""
    for part in path:
        kind = next(_parts(kind, part), None)
    return keys_of(kind) if isinstance(kind, type) and issubclass(kind, BaseModel) else ()


def _parts(kind: object, part: int | str) -> Iterator[object]:
    """What lies under one part of a path; a choice between models is one by the tag of its type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        yield from _parts(arguments[0], part)
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, info in kind.model_fields.items():
            if part in (name, info.alias):
                yield _bare(info.annotation)
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        yield _bare(arguments[1])
    elif origin in (tuple, list):
        yield _bare(arguments[0])
    else:
        for member in map(_bare, arguments):
            if isinstance(member, type) and issubclass(member, BaseModel) and _tag(member) == part:
                yield member


def _bare(kind: object) -> Any:
    """The type without notes, and without None."""
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    others = [each for each in get_args(kind) if each is not type(None)]
    optional = len(others) == 1 and len(get_args(kind)) == 2 and type(None) in get_args(kind)
    return _bare(others[0]) if optional else kind


def _tag(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("type")
    if field is None or get_origin(field.annotation) is not Literal:
        return None
    return str(get_args(field.annotation)[0])
