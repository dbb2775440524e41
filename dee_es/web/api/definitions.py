"""Call scripts, the sender and the policy: published; and every kind of definition but plans, as it
was published."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import Body, Path, Query
from pydantic import Field

from dee_es.engine.models import Answer
from dee_es.web.api.models import Flag, Given, GivenId, Values
from dee_es.web.api.plans import Version
from dee_es.web.routing import (
    ADMIN,
    OPERATOR,
    VIEWER,
    ActorDep,
    CommandDep,
    EngineDep,
    Id,
    api_router,
)

router: Final = api_router("definitions")

Kind = Annotated[Literal["template", "script", "sender", "policy"], Path()]
_POLICY: Final = {
    "consent": {"required": ["voice"]},
    "limits": {"perDay": {"contact": 2}},
}
PolicyBody = Annotated[dict[str, Any], Body(examples=[_POLICY])]


class DefinitionVersion(Answer):
    """A definition's id and the version that is meant."""

    id: str
    version: int


class DefinitionList(Answer):
    """All definitions of a kind with their latest versions, by id."""

    definitions: tuple[DefinitionVersion, ...]


class DefinitionView(DefinitionVersion):
    """A definition in the form in which it is kept."""

    kind: str
    definition: Values


class ScriptGiven(Given):
    """A call script to publish: what is said first, and the steps that follow."""

    id: GivenId
    greeting: str
    steps: list[Values] = Field(default_factory=list)


class Tracked(Given):
    """What is to be observed of emails; what is not said is true."""

    opens: Flag = True
    clicks: Flag = True


class SenderGiven(Given):
    """Who messages come from. `tracking` is for emails whose step does not say; `unsubscribeUrl` is
    by default this server's, if it has one."""

    address: str
    name: str | None = None
    postal_address: str | None = None
    unsubscribe_url: str | None = None
    tracking: Flag | Tracked | None = None


@router.get("/definitions/{kind}", openapi_extra=VIEWER, summary="List definitions")
def list_definitions(engine: EngineDep, kind: Kind) -> DefinitionList:
    """All definitions of a kind; there is at most one sender and one policy, named `default`."""
    found = engine.list_definitions(kind).items()
    return DefinitionList(
        definitions=tuple(DefinitionVersion(id=name, version=version) for name, version in found)
    )


@router.get("/definitions/{kind}/{definition_id}", openapi_extra=VIEWER, summary="One definition")
def get_definition(
    engine: EngineDep, kind: Kind, definition_id: Id, given: Annotated[Version, Query()]
) -> DefinitionView:
    """A definition, by default in its latest version."""
    version = given.version
    if version is None:
        version = engine.list_definitions(kind).get(definition_id, 0)
    definition = engine.get_definition(kind, definition_id, version)
    return DefinitionView(id=definition_id, version=version, kind=kind, definition=definition)


@router.post("/definitions/script", openapi_extra=OPERATOR, summary="Publish a call script")
def publish_script(
    engine: EngineDep, actor: ActorDep, command: CommandDep, given: ScriptGiven
) -> DefinitionVersion:
    """Publish a call script; one that equals the latest version returns that."""
    version = engine.publish_script(
        given.id,
        greeting=given.greeting,
        steps=given.steps,
        actor=actor.name,
        command_id=command,
    )
    return DefinitionVersion(id=given.id, version=version)


@router.post("/definitions/sender", openapi_extra=ADMIN, summary="Publish the sender")
def publish_sender(
    engine: EngineDep, actor: ActorDep, command: CommandDep, given: SenderGiven
) -> DefinitionVersion:
    """Publish who messages come from, for runs that are enrolled from now on."""
    tracking = given.tracking
    version = engine.publish_sender(
        address=given.address,
        name=given.name,
        postal_address=given.postal_address,
        unsubscribe_url=given.unsubscribe_url,
        tracking=dict(tracking) if isinstance(tracking, Tracked) else tracking,
        actor=actor.name,
        command_id=command,
    )
    return DefinitionVersion(id="default", version=version)


@router.post("/definitions/policy", openapi_extra=ADMIN, summary="Publish the policy")
def publish_policy(
    engine: EngineDep, actor: ActorDep, command: CommandDep, given: PolicyBody
) -> DefinitionVersion:
    """Publish the rules that every send of runs enrolled from now on has to keep to."""
    version = engine.publish_policy(given, actor=actor.name, command_id=command)
    return DefinitionVersion(id="default", version=version)
