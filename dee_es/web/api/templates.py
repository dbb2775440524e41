"""Message templates: published, looked at, and rendered without sending anything."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Query
from pydantic import Field

from dee_es.engine.models import Answer, RenderedTemplate
from dee_es.web.api.models import Given, GivenId, Numbered, Values, shown
from dee_es.web.api.plans import Version
from dee_es.web.problems import Refused
from dee_es.web.routing import (
    OPERATOR,
    VIEWER,
    ActorDep,
    CommandDep,
    EngineDep,
    Id,
    api_router,
)

router: Final = api_router("templates")


class TemplateVersion(Answer):
    """A template's id and its latest version."""

    id: str
    version: int


class TemplateList(Answer):
    """All templates, by id."""

    templates: tuple[TemplateVersion, ...]


class TemplateView(TemplateVersion):
    """A template as it was published."""

    text: str
    html: str | None = None


class TemplateGiven(Given):
    """A template to publish."""

    id: GivenId
    text: str
    html: str | None = None


class Rendering(Given):
    """For whom: a contact as enrolled last, or attributes; and the variables of the run."""

    contact_id: GivenId | None = None
    attributes: Values | None = None
    variables: Values = Field(default_factory=dict)
    subject: str | None = None
    version: Annotated[Numbered, Field(strict=True, le=2**31)] | None = None


@router.get("/templates", openapi_extra=VIEWER, summary="List templates")
def list_templates(engine: EngineDep) -> TemplateList:
    """All templates with their latest versions."""
    found = engine.list_definitions("template").items()
    return TemplateList(
        templates=tuple(TemplateVersion(id=name, version=version) for name, version in found)
    )


@router.post("/templates", openapi_extra=OPERATOR, summary="Publish a template")
def publish(
    engine: EngineDep, actor: ActorDep, command: CommandDep, given: TemplateGiven
) -> TemplateVersion:
    """Publish a template; one that equals the latest version returns that."""
    version = engine.publish_template(
        given.id, text=given.text, html=given.html, actor=actor.name, command_id=command
    )
    return TemplateVersion(id=given.id, version=version)


@router.get("/templates/{template_id}", openapi_extra=VIEWER, summary="One template")
def get_template(
    engine: EngineDep, template_id: Id, given: Annotated[Version, Query()]
) -> TemplateView:
    """A template, by default its latest version."""
    known = engine.list_definitions("template").get(template_id, 0)
    if not known:
        raise Refused(404, "TemplateNotFound", "no template of this id has been published")
    version = known if given.version is None else given.version
    definition = engine.get_definition("template", template_id, version)
    return TemplateView(id=template_id, version=version, **definition)


@router.post(
    "/templates/{template_id}/render",
    openapi_extra=VIEWER,
    response_model=shown(RenderedTemplate),
    summary="Render a template",
)
def render(engine: EngineDep, template_id: Id, given: Rendering) -> RenderedTemplate:
    """What a template comes to; nothing is written or sent."""
    return engine.render_template(
        template_id,
        contact_id=given.contact_id,
        attributes=given.attributes,
        variables=given.variables,
        subject=given.subject,
        version=given.version,
    )
