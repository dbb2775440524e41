"""Groups whose commands are imported when they are called, so that help and errors come at once."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click


@dataclass(frozen=True, slots=True)
class Lazy:
    """Where a command is, as `module:name` in `dee_es.cli.commands`, and its line in the help."""

    place: str
    help: str


class LazyGroup(click.Group):
    """A group that knows its commands by name; listing them imports none."""

    def __init__(self, *args: Any, lazy: Mapping[str, Lazy] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of their table, which is that of their use."""
        return [*self._lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; None if there is none of this name."""
        known = self._lazy.get(cmd_name)
        if known is None:
            return super().get_command(ctx, cmd_name)
        module, _, name = known.place.partition(":")
        found = getattr(importlib.import_module(f"dee_es.cli.commands.{module}"), name)
        assert isinstance(found, click.Command), f"{known.place} is a command"
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table, where click would import each."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, known.help) for name, known in self._lazy.items()])
