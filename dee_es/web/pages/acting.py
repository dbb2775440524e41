"""What every form that changes something brings: who sends it, and which command it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypedDict

from fastapi import Depends

from dee_es.engine.facade import EngineApi
from dee_es.web.idempotency import command_id_of
from dee_es.web.pages import inputs
from dee_es.web.routing import ActorDep, EngineDep
from dee_es.web.security.roles import Actor


class By(TypedDict):
    """Who acts, under which command, as the engine's calls take it."""

    actor: str
    command_id: str


@dataclass(frozen=True, slots=True)
class Act:
    """Somebody sends a form; sent twice, it is one command."""

    engine: EngineApi
    actor: Actor
    command: str
    reason: str | None

    @property
    def by(self) -> By:
        """For a call of the engine."""
        return {"actor": self.actor.name, "command_id": self.command}

    @property
    def why(self) -> str:
        """The reason; raises `InvalidInput` without one."""
        return inputs.required_reason(self.reason or "")


async def _act(
    engine: EngineDep, actor: ActorDep, key: inputs.Key, reason: inputs.Text = ""
) -> Act:
    return Act(engine, actor, command_id_of(actor.name, key), inputs.optional(reason))


ActDep = Annotated[Act, Depends(_act)]
