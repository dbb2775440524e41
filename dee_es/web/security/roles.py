"""Who may do what."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Role(StrEnum):
    """A viewer reads; an operator also acts on runs, contacts and plans; an admin also erases,
    rebuilds, and looks after policies, keys and users."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        """Whether somebody of this role may do what needs the other."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who makes a request, how that is known, and the CSRF token of the browser session.

    `how` is `local` (the only user of a server without users), `session` or `token`.
    """

    name: str
    role: Role
    how: Literal["local", "session", "token"]
    csrf: str | None = None
