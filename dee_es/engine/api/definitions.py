"""Publishing and reading plans, templates, call scripts and senders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, get_args

from dee_es.core.channels import CHANNELS
from dee_es.core.gate import check_policy, read_policy, required
from dee_es.core.messages.message import check_header, check_mailbox, check_template
from dee_es.core.messages.script import check_script
from dee_es.core.plans.plan import ExecutionPlan
from dee_es.core.values import (
    check_count,
    check_id,
    check_map,
    check_plan_id,
    check_text,
    check_url,
)
from dee_es.engine.api.base import ApiBase, checked_plan
from dee_es.engine.definitions import POLICY_ID, SENDER_ID
from dee_es.engine.models import RenderedTemplate
from dee_es.errors import InvalidInput
from dee_es.ports import ZoneSource

DefinitionKind = Literal["template", "script", "sender", "policy"]
_KINDS: Final = get_args(DefinitionKind)


class DefinitionsApi(ApiBase):
    """Definitions are immutable and versioned: publishing an equal one again changes nothing."""

    def publish_plan(
        self, plan: ExecutionPlan, *, actor: str | None = None, command_id: str | None = None
    ) -> ExecutionPlan:
        """Publish a plan; one equal to the latest version returns that. Runs that are there keep
        the version they began with. Raises `PlanValidationError` for templates or scripts that are
        not published."""
        meta = self._meta("publish", command_id, actor, None)
        return self._definitions.publish_plan(checked_plan(plan), meta)

    def get_plan(self, plan_id: str, version: int | None = None) -> ExecutionPlan:
        """A published plan, by default its latest version; raises `PlanNotFound`, and
        `UnknownEventVersion` for one that only newer code can read."""
        if version is not None:
            check_count("version", version)
        return self._definitions.plan(check_plan_id("plan_id", plan_id, "version"), version)

    def list_plans(self) -> list[ExecutionPlan]:
        """The latest version of every plan, by id; raises as `get_plan` does."""
        return self._definitions.plans()

    def plan_ids(self) -> list[str]:
        """The ids of all plans, in order, those that only newer code can read included."""
        return self._definitions.ids("plan")

    def publish_template(
        self,
        id: str,
        *,
        text: str,
        html: str | None = None,
        actor: str | None = None,
        command_id: str | None = None,
    ) -> int:
        """Publish a message template; returns its version."""
        given = {"text": text, **({} if html is None else {"html": html})}
        return self._publish("template", id, check_template(given), actor, command_id)

    def publish_script(
        self,
        id: str,
        *,
        greeting: str,
        steps: Sequence[Mapping[str, Any]] = (),
        actor: str | None = None,
        command_id: str | None = None,
    ) -> int:
        """Publish a call script; returns its version."""
        given = {"greeting": greeting, "steps": steps}
        return self._publish("script", id, check_script(given), actor, command_id)

    def publish_sender(
        self,
        *,
        address: str,
        name: str | None = None,
        postal_address: str | None = None,
        unsubscribe_url: str | None = None,
        tracking: bool | Mapping[str, bool] | None = None,
        actor: str | None = None,
        command_id: str | None = None,
    ) -> int:
        """Publish who messages come from; returns the version.

        `tracking`, true, false or {opens, clicks} (of which what is not said is true), is for
        emails whose step does not say; without it nothing is observed. With settings for links
        `unsubscribe_url` is by default that of this engine's server, and in every email its
        contact's own link takes its place.
        """
        if unsubscribe_url is None and self.links is not None:
            unsubscribe_url = self.links.general_unsubscribe
        kept = checked_sender(address, name, postal_address, unsubscribe_url, tracking)
        return self._publish("sender", SENDER_ID, kept, actor, command_id)

    def publish_policy(
        self,
        definition: Mapping[str, Any],
        *,
        actor: str | None = None,
        command_id: str | None = None,
    ) -> int:
        """Publish the policy that runs enrolled from now on keep to; returns its version.

        Raises `InvalidInput` naming the rule and field, for a zone nobody knows too.
        """
        checked = checked_policy(definition, self._parts.zones)
        return self._publish("policy", POLICY_ID, checked, actor, command_id)

    def list_definitions(self, kind: DefinitionKind) -> dict[str, int]:
        """Ids of all templates, scripts or senders with their latest versions."""
        check_kind(kind)
        return {name: self._definitions.latest(kind, name) for name in self._definitions.ids(kind)}

    def get_definition(
        self,
        kind: DefinitionKind,
        id: str,
        version: int | None = None,
    ) -> dict[str, Any]:
        """A published template, script or sender, by default in its latest version."""
        check_kind(kind)
        check_id("id", id)
        if version is None:
            wanted = self._definitions.latest(kind, id)
        else:
            # 0 is the version of what was never published, which is told as that.
            wanted = check_count("version", version, least=0)
        return dict(self._definitions.get(kind, id, wanted).definition)

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
        """What a template comes to for a contact: as enrolled last, or as given in `attributes`.

        Attributes named id, email, phone and timezone are the contact's own fields; `variables` go
        before those of the contact's run. Nothing is written or sent. Raises `InvalidInput` naming
        the part and the value that is missing, as the step would fail.
        """
        if (contact_id is None) == (attributes is None):
            raise InvalidInput("contact_id", "give either a contact or attributes")
        if subject is not None:
            check_text("subject", subject)
        contact: str | dict[str, Any]
        if contact_id is not None:
            contact = check_id("contact_id", contact_id)
        else:
            contact = check_map("attributes", attributes)
        given = check_map("variables", {} if variables is None else variables)
        if version is not None:
            check_count("version", version)
        return self._preview.render(check_id("id", id), version, subject, contact, given)

    def _publish(
        self,
        kind: str,
        name: str,
        definition: dict[str, Any],
        actor: str | None,
        command_id: str | None = None,
    ) -> int:
        meta = self._meta("publish", command_id, actor, None)
        return self._definitions.publish(kind, name, definition, meta)


def checked_sender(
    address: str,
    name: str | None,
    postal_address: str | None,
    unsubscribe_url: str | None,
    tracking: bool | Mapping[str, bool] | None,
) -> dict[str, Any]:
    """Who messages come from, in its stored form; raises `InvalidInput`."""
    given = {
        "address": check_mailbox("sender.address", address),
        "name": name,
        "postalAddress": postal_address,
        "unsubscribeUrl": unsubscribe_url,
    }
    kept: dict[str, Any] = {
        field: check_text(f"sender.{field}", value, blank=False)
        for field, value in given.items()
        if value is not None
    }
    if name is not None:
        check_header("sender.name", name)
    if unsubscribe_url is not None:
        check_url("sender.unsubscribeUrl", unsubscribe_url)
    if tracking is not None:
        kept["tracking"] = checked_tracking("sender.tracking", tracking)
    return kept


def checked_tracking(field: str, given: object) -> dict[str, bool]:
    """What is to be observed, in its stored form; raises `InvalidInput`."""
    if isinstance(given, bool):
        return {"opens": given, "clicks": given}
    if not isinstance(given, Mapping) or not all(isinstance(each, bool) for each in given.values()):
        raise InvalidInput(field, "must be true, false, or opens and clicks with true or false")
    unknown = [str(name)[:64] for name in given if name not in ("opens", "clicks")]
    if unknown:
        raise InvalidInput(f"{field}.{unknown[0]}", "is not known; there are opens and clicks")
    return {name: bool(given.get(name, True)) for name in ("opens", "clicks")}


def checked_policy(definition: object, zones: ZoneSource) -> dict[str, Any]:
    """A policy in its stored form; raises `InvalidInput`, for a zone nobody knows too."""
    checked = check_policy(definition)
    policy = read_policy(checked)
    for channel in CHANNELS:
        zone = required(policy, channel).default_zone
        if zone is not None and zones(zone, 0, 1) is None:
            raise InvalidInput(
                f"policy.windows.channels.{channel}.onUnknownZone",
                f"the zone database knows no zone {zone!r}",
            )
    return checked


def check_kind(kind: object) -> None:
    """Raise `InvalidInput` for what is no kind of definition."""
    if kind not in _KINDS:
        raise InvalidInput("kind", f"must be one of {', '.join(_KINDS)}")
