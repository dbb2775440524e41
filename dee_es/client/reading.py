"""From the API's JSON to the engine's own answers."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.alias_generators import to_camel

_Kind = TypeVar("_Kind")


def read(kind: type[_Kind], value: Any) -> _Kind:
    """A model or dataclass of the engine out of its JSON; what a later server adds is left out."""
    found: _Kind = _read(kind, value)
    return found


def read_all(kind: type[_Kind], values: list[Any]) -> list[_Kind]:
    """The same for each of a list."""
    return [read(kind, value) for value in values]


def _read(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    if _is_model(hint):
        return hint.model_validate(value)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = get_type_hints(hint)
        given = {
            each.name: _read(hints[each.name], value[to_camel(each.name)])
            for each in dataclasses.fields(hint)
            if to_camel(each.name) in value
        }
        return hint(**given)
    if hint is datetime:
        return datetime.fromisoformat(value)
    several = get_origin(hint)
    if several in (tuple, list, set):
        return several(_read(get_args(hint)[0], each) for each in value)
    # `X | None` stands for X wherever there is a value.
    for each in get_args(hint):
        if each is datetime or dataclasses.is_dataclass(each) or _is_model(each):
            return _read(each, value)
    return value


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
