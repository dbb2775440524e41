"""What an engine answers, or a client of its twin, kept in a form in which the two compare."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final

import msgspec
from pydantic import BaseModel

from dee_es import Engine
from dee_es.client import DeeClient
from dee_es.core.plans.plan import ExecutionPlan
from dee_es.errors import DeeError

Api = Engine | DeeClient
# What names a command or is computed from one: a server makes the ids of commands itself, out of
# who calls and of the key.
COMMANDS: Final = {
    "command_id", "checksum", "previous_checksum", "head", "recorded_at", "id", "digest",
    "certificate", "digest_old", "digest_new", "note", "root",
}  # fmt: skip
GIVEN: Final = ("o1", "e1")
MEASURED: Final = {"seconds", "rate", "seconds_left", "last_rebuild", "bytes"}


def plain(value: Any) -> Any:
    """A value as plain data with the class of each answer, without what names commands."""
    if isinstance(value, ExecutionPlan):
        return ("ExecutionPlan", value.version, plain(value.definition()))
    if isinstance(value, BaseModel):
        names: Any = type(value).model_fields
    elif isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
    elif dataclasses.is_dataclass(value):
        names = [each.name for each in dataclasses.fields(value)]
    elif isinstance(value, dict):
        return {
            name: _listed(plain(each))
            for name, each in value.items()
            # An event without an id of its own has that of its command.
            if name != "event_id" or each in GIVEN
        }
    elif isinstance(value, list | tuple):
        return (type(value).__name__, [plain(each) for each in value])
    else:
        return value
    told = {
        name: plain(getattr(value, name))
        for name in names
        if name not in MEASURED
        and (name not in COMMANDS or not _told(value))
        # An archive is named by its root.
        and (type(value).__name__, name) != ("Archive", "name")
    }
    return (type(value).__name__, told)


def _told(value: Any) -> bool:
    """Whether ids in it are those of commands: a run's and a template's own are compared."""
    return type(value).__name__ not in ("ExecutionRun", "RenderedTemplate", "ReplayedStep")


def _listed(value: Any) -> Any:
    """What stands in a map has the kinds of JSON, which knows one kind of list."""
    if isinstance(value, tuple) and value[0] in ("tuple", "list"):
        return ("list", [_listed(each) for each in value[1]])
    return value


class Told:
    """The answers of one telling, and what it raised."""

    def __init__(self, api: Api, tick: Callable[[], object]) -> None:
        self.api, self.tick = api, tick
        self.answers: list[tuple[str, Any]] = []

    def ask(self, what: str, *arguments: Any, **named: Any) -> Any:
        """Call a method and keep what came of it."""
        return self.ask_of(self.api, what, *arguments, **named)

    def ask_of(self, whom: Any, what: str, *arguments: Any, **named: Any) -> Any:
        """The same with a method of something that a method gave."""
        call = whom
        for name in what.split("."):
            call = getattr(call, name)
        try:
            answer = call(*arguments, **named)
        except DeeError as error:
            self.answers.append((what, (type(error).__name__, str(error), vars(error))))
            return None
        self.answers.append((what, plain(answer)))
        return answer
