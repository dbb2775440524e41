"""Plans, templates, call scripts, the sender and the policy over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dee_es.client.reading import read
from dee_es.client.transport import Transport, part
from dee_es.core.gate import check_policy
from dee_es.core.messages.message import check_template
from dee_es.core.messages.script import check_script
from dee_es.core.plans.plan import ExecutionPlan
from dee_es.core.values import check_count, check_id, check_map
from dee_es.engine.api.base import checked_plan
from dee_es.engine.api.definitions import DefinitionKind, check_kind, checked_sender
from dee_es.engine.models import RenderedTemplate
from dee_es.errors import InvalidInput, UnknownEventVersion


class DefinitionsClient:
    """Definitions are immutable and versioned: publishing an equal one again changes nothing."""

    _http: Transport

    def publish_plan(self, plan: ExecutionPlan, *, command_id: str | None = None) -> ExecutionPlan:
        """Publish a plan; one equal to the latest version returns that. Runs that are there keep
        the version they began with."""
        return _published(
            self._http.post("/plans", checked_plan(plan).definition(), key=command_id)
        )

    def get_plan(self, plan_id: str, version: int | None = None) -> ExecutionPlan:
        """A published plan, by default its latest version."""
        if version is not None:
            check_count("version", version)
        return _published(self._http.get(f"/plans/{part('plan_id', plan_id)}", version=version))

    def list_plans(self) -> list[ExecutionPlan]:
        """The latest version of every plan, by id."""
        return [_published(each) for each in self._http.get("/plans")["plans"]]

    def plan_ids(self) -> list[str]:
        """The ids of all plans, in order, those that only newer code can read included."""
        return [each["id"] for each in self._http.get("/plans")["plans"]]

    def publish_template(
        self, id: str, *, text: str, html: str | None = None, command_id: str | None = None
    ) -> int:
        """Publish a message template; returns its version."""
        given = check_template({"text": text, **({} if html is None else {"html": html})})
        body = {"id": check_id("template id", id), **given}
        return int(self._http.post("/templates", body, key=command_id)["version"])

    def publish_script(
        self,
        id: str,
        *,
        greeting: str,
        steps: Sequence[Mapping[str, Any]] = (),
        command_id: str | None = None,
    ) -> int:
        """Publish a call script; returns its version."""
        given = check_script({"greeting": greeting, "steps": [dict(step) for step in steps]})
        body = {"id": check_id("script id", id), **given}
        return self._publish("script", body, command_id)

    def publish_sender(
        self,
        *,
        address: str,
        name: str | None = None,
        postal_address: str | None = None,
        unsubscribe_url: str | None = None,
        tracking: bool | Mapping[str, bool] | None = None,
        command_id: str | None = None,
    ) -> int:
        """Publish who messages come from; returns the version. `unsubscribe_url` is by default that
        of the server."""
        given = checked_sender(address, name, postal_address, unsubscribe_url, tracking)
        return self._publish("sender", given, command_id)

    def publish_policy(
        self, definition: Mapping[str, Any], *, command_id: str | None = None
    ) -> int:
        """Publish the policy that runs enrolled from now on keep to; returns its version."""
        return self._publish("policy", check_policy(definition), command_id)

    def _publish(self, kind: str, body: Mapping[str, Any], key: str | None) -> int:
        return int(self._http.post(f"/definitions/{kind}", body, key=key)["version"])

    def list_definitions(self, kind: DefinitionKind) -> dict[str, int]:
        """Ids of all templates, scripts, senders or policies with their latest versions."""
        check_kind(kind)
        found = self._http.get(f"/definitions/{kind}")["definitions"]
        return {each["id"]: each["version"] for each in found}

    def get_definition(
        self, kind: DefinitionKind, id: str, version: int | None = None
    ) -> dict[str, Any]:
        """A published template, script, sender or policy, by default in its latest version."""
        check_kind(kind)
        path = f"/definitions/{kind}/{part('id', id)}"
        found: dict[str, Any] = self._http.get(path, version=version)["definition"]
        return found

    def render_template(
        self,
        id: str,
        *,
        contact_id: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        variables: Mapping[str, Any] | None = None,
        subject: str | None = None,
        version: int | None = None,
    ) -> RenderedTemplate:
        """What a template comes to for a contact, or for attributes; nothing is sent."""
        given = {
            "contactId": contact_id,
            "attributes": None if attributes is None else check_map("attributes", attributes),
            "variables": check_map("variables", variables or {}),
            "subject": subject,
            "version": version,
        }
        path = f"/templates/{part('id', id)}/render"
        return read(RenderedTemplate, self._http.post(path, given, changes=False))


def _published(found: dict[str, Any]) -> ExecutionPlan:
    definition = {name: value for name, value in found.items() if name != "version"}
    try:
        return ExecutionPlan.from_definition(definition, found["version"])
    except InvalidInput as error:
        raise UnknownEventVersion(
            f"plan {found['id']!r} version {found['version']} cannot be read ({error}); the "
            "server is newer than this program: upgrade dee-es"
        ) from None
