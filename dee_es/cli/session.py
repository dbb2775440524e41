"""What all commands share: the global options, and the engine they are carried out on."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from dee_es.bootstrap import Engine
    from dee_es.config import EngineConfig


@dataclass(frozen=True, slots=True)
class Session:
    """The global options of one call of `dee`."""

    database: str | None = None
    keys: str | None = None
    actor_given: str | None = None

    @property
    def actor(self) -> str:
        """Who acts, for the log: as given, else the operating system's name of the user."""
        if self.actor_given is not None:
            return self.actor_given
        try:
            return getpass.getuser()
        except (KeyError, OSError):
            # A container may run under a number that has no name.
            return f"uid {os.getuid()}"

    def config(self, **settings: Any) -> EngineConfig:
        """The settings: flags, then `DEE_*` variables, then `dee.toml`."""
        from dee_es.config import load_config

        config = load_config({"database": self.database, "keys": self.keys, **settings})
        if config.database == ":memory:":
            raise click.UsageError(
                ":memory: would be gone when the command ends; name a file or a PostgreSQL database"
            )
        return config

    @contextmanager
    def engine(self, **settings: Any) -> Iterator[Engine]:
        """The engine on an existing database: a mistyped path never makes a new one."""
        config = self.config(create=False, **settings)
        from dee_es.bootstrap import Engine

        with Engine(config) as engine:
            yield engine


pass_session = click.make_pass_decorator(Session)
