"""What a template comes to for a contact, without a run doing anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dee_es.core.messages.message import build_email
from dee_es.core.messages.template import TemplateError, message_scope
from dee_es.core.views import RunFilter
from dee_es.engine.definitions import SENDER_ID, Definitions
from dee_es.engine.models import RenderedTemplate
from dee_es.engine.queries import Queries
from dee_es.engine.transact import Runs
from dee_es.errors import InvalidInput

_FIELDS: Final = ("id", "email", "phone", "timezone")
# What a step has and a preview may lack; neither is shown.
_SUBJECT: Final = "-"
_TO: Final = "nobody@example.invalid"


class Preview:
    """Renders published templates as a step would: whatever is missing is an error."""

    def __init__(self, definitions: Definitions, runs: Runs, queries: Queries) -> None:
        self._definitions = definitions
        self._runs = runs
        self._queries = queries

    def render(
        self,
        template_id: str,
        version: int | None,
        subject: str | None,
        contact: str | Mapping[str, Any],
        variables: Mapping[str, Any],
    ) -> RenderedTemplate:
        """The template for a contact: by id, as its newest run knows it, or by its attributes.

        Raises `InvalidInput` naming the part and the path of what is missing.
        """
        wanted = self._definitions.latest("template", template_id) if version is None else version
        definition = self._definitions.get("template", template_id, wanted).definition
        if isinstance(contact, str):
            scope = self._of_run(contact, variables)
        else:
            scope = self._of_attributes(contact, variables)
        try:
            message = build_email(_SUBJECT if subject is None else subject, definition, scope, _TO)
        except TemplateError as error:
            raise InvalidInput(f"template {template_id!r}", str(error)) from None
        return RenderedTemplate(
            template_id,
            wanted,
            None if subject is None else message.subject,
            message.text or "",
            message.html,
        )

    def _of_run(self, contact_id: str, variables: Mapping[str, Any]) -> Mapping[str, object]:
        rows = self._queries.rows(RunFilter(contact_id=contact_id), limit=1)
        if not rows:
            raise InvalidInput("contact_id", "has no run that its data could come from")
        state = self._runs.load(rows[0].run_id).state
        person = state.contact
        if state.erased:
            raise InvalidInput("contact_id", "was erased, so there is nothing to render")
        fields = {
            "id": contact_id,
            "email": person.email,
            "phone": person.phone,
            "timezone": person.timezone,
        }
        run = {"id": state.run_id, "planId": state.plan_id, "enrollment": state.enrollment}
        return self._scope(fields, person.attributes, {**person.variables, **variables}, run)

    def _of_attributes(
        self, given: Mapping[str, Any], variables: Mapping[str, Any]
    ) -> Mapping[str, object]:
        fields = {name: given[name] for name in _FIELDS if name in given}
        attributes = {name: value for name, value in given.items() if name not in _FIELDS}
        return self._scope(fields, attributes, variables, {})

    def _scope(
        self,
        fields: Mapping[str, Any],
        attributes: Mapping[str, Any],
        variables: Mapping[str, Any],
        run: Mapping[str, Any],
    ) -> Mapping[str, object]:
        version = self._definitions.latest("sender", SENDER_ID)
        sender: Mapping[str, Any] = {}
        if version:
            sender = self._definitions.get("sender", SENDER_ID, version).definition
        return message_scope(
            contact=fields,
            variables=variables,
            attributes=attributes,
            sender=sender,
            previous_step=None,
            run=run,
            unsubscribe_url=sender.get("unsubscribeUrl"),
        )
