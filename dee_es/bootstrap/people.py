"""Who acts where nobody says, and who may sign in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dee_es.adapters.system import current_user
from dee_es.config import EngineConfig
from dee_es.core.values import check_actor

if TYPE_CHECKING:
    pass
from dee_es.bootstrap.databases import sqlite_path


def actor_of(config: EngineConfig) -> str:
    """Who acts where a call does not say: as configured, else the operating system's user."""
    return check_actor("actor", current_user() if config.actor is None else config.actor)


def users_path(config: EngineConfig) -> Path:
    """The file of those who may sign in: as configured, else beside an SQLite database, else in
    the working folder."""
    if config.users is not None:
        return Path(config.users)
    path = sqlite_path(config.database)
    return Path("dee.users") if path is None else path.with_name(path.stem + ".users")
