"""What all commands share: the global options, and the engine they are carried out on."""

from __future__ import annotations

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
    actor: str | None = None

    def config(self, **settings: Any) -> EngineConfig:
        """The settings: flags, then `DEE_*` variables, then `dee.toml`."""
        from dee_es.config import load_config

        given = {"database": self.database, "keys": self.keys, "actor": self.actor}
        config = load_config({**given, **settings})
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
