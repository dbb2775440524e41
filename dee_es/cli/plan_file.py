"""Plan files: a plan in YAML or JSON, and beside it what it refers to.

    id: welcome
    name: Welcome
    steps: [...]
    templates: {hello: {text: "Hello {{contact.firstName}}"}}
    scripts: {call: {greeting: "Hello", steps: [...]}}
    sender: {address: hello@example.com, name: ..., postalAddress: ..., unsubscribeUrl: ...}
    policy: {limits: {perDay: {contact: 1}}}

The sender may have `tracking` too, true, false or {opens, clicks}, for steps that do not say.
The last four are published before the plan. Every command that takes a plan reads it here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import click

from dee_es.errors import InvalidInput, PlanFault, PlanNotFound, PlanValidationError

if TYPE_CHECKING:
    from dee_es.bootstrap import Engine
    from dee_es.core.plans.plan import ExecutionPlan

_SUFFIXES: Final = (".yaml", ".yml", ".json")
_SENDER: Final = {
    "address": "address",
    "name": "name",
    "postalAddress": "postal_address",
    "postal_address": "postal_address",
    "unsubscribeUrl": "unsubscribe_url",
    "unsubscribe_url": "unsubscribe_url",
    "tracking": "tracking",
}
_REFERENCE = re.compile(r"(?P<id>[A-Za-z0-9._:-]{1,128})(?:@(?P<version>[1-9][0-9]{0,8}))?\Z")


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A plan and its bundle, checked."""

    plan: ExecutionPlan
    templates: dict[str, dict[str, Any]] = field(default_factory=dict)
    scripts: dict[str, dict[str, Any]] = field(default_factory=dict)
    sender: dict[str, Any] | None = None
    policy: dict[str, Any] | None = None

    def missing(self, engine: Engine | None = None) -> list[PlanFault]:
        """References to what is neither in the file nor, if an engine is given, published."""
        from dee_es.core.plans.plan import missing_references

        templates, scripts = set(self.templates), set(self.scripts)
        if engine is not None:
            templates |= engine.list_definitions("template").keys()
            scripts |= engine.list_definitions("script").keys()
        return missing_references(self.plan, templates, scripts)

    def require_renderable(self) -> None:
        """Raises `PlanValidationError` if a text of a step could never become a message."""
        from dee_es.core.runs.rendering import unrenderable

        if faults := unrenderable(self.plan):
            raise PlanValidationError(self.plan.id, faults)

    def require_publishable(self, engine: Engine) -> None:
        """Raises `PlanValidationError` for what publishing the plan would find out, before anything
        beside it is published: a plan and its bundle go together. What is published stays so."""
        if faults := self.missing(engine):
            raise PlanValidationError(self.plan.id, faults)
        if not _is_published(engine, self.plan):
            self.require_renderable()


@dataclass(frozen=True, slots=True)
class Published:
    """A definition that is published now, and whether it was already."""

    kind: str
    id: str
    version: int
    unchanged: bool


def read_plan_file(path: str) -> PlanFile:
    """Read and check a plan file. Raises `PlanValidationError` with every fault of all its parts,
    and `InvalidInput`, with line and column, for a file that is neither YAML nor JSON."""
    from dee_es.cli.documents import read_document

    document = read_document(path)
    if not isinstance(document, Mapping):
        raise InvalidInput(path, "holds no plan: its outermost level must be a mapping")
    given = dict(document)
    faults: list[PlanFault] = []
    templates = _section(given, "templates", _template, faults)
    scripts = _section(given, "scripts", _script, faults)
    sender = _sender(given.pop("sender", None), faults)
    policy = _policy(given.pop("policy", None), faults)
    from dee_es.core.plans.plan import load_plan

    try:
        plan = load_plan(given)
    except PlanValidationError as error:
        raise PlanValidationError(error.plan_id, [*error.faults, *faults]) from None
    if faults:
        raise PlanValidationError(plan.id, faults)
    return PlanFile(plan, templates, scripts, sender, policy)


def read_sender(path: str) -> dict[str, Any]:
    """Read and check a sender in a file of its own; what `publish_sender` takes. Raises
    `InvalidInput` naming the file or the fault."""
    from dee_es.cli.documents import read_document

    document = read_document(path)
    faults: list[PlanFault] = []
    found = _sender({} if document is None else document, faults)
    if found is None:
        raise InvalidInput(path, faults[0].problem)
    return found


def find_plan(reference: str, engine: Engine) -> PlanFile:
    """The plan that a file holds, or a published one by `id` or `id@version`.

    Raises `PlanNotFound` if it is neither.
    """
    here = os.path.exists(reference) and not os.path.isdir(reference)
    if here or reference.endswith(_SUFFIXES) or os.sep in reference:
        return read_plan_file(reference)
    plan_id, version = split_reference(reference)
    try:
        return PlanFile(engine.get_plan(plan_id, version))
    except PlanNotFound as error:
        raise PlanNotFound(f"{error}, and there is no file of this name either") from None


def split_reference(reference: str) -> tuple[str, int | None]:
    """`welcome@3` as id and version; without a version the latest is meant."""
    found = _REFERENCE.match(reference)
    if found is None:
        raise click.UsageError(f"{reference[:128]!r} is neither an id nor an id@version")
    version = found["version"]
    return found["id"], None if version is None else int(version)


def _is_published(engine: Engine, plan: ExecutionPlan) -> bool:
    try:
        latest = engine.get_plan(plan.id).version
    except PlanNotFound:
        return False
    return any(engine.get_plan(plan.id, n).same_as(plan) for n in range(latest, 0, -1))


def publish_bundle(engine: Engine, file: PlanFile) -> list[Published]:
    """Publish what the file holds beside its plan."""
    done = []
    known = engine.list_definitions("template")
    for name, template in file.templates.items():
        version = engine.publish_template(name, **template)
        done.append(Published("template", name, version, known.get(name) == version))
    known = engine.list_definitions("script")
    for name, script in file.scripts.items():
        version = engine.publish_script(name, **script)
        done.append(Published("script", name, version, known.get(name) == version))
    if file.sender is not None:
        known = engine.list_definitions("sender")
        version = engine.publish_sender(**file.sender)
        done.append(Published("sender", "default", version, version in known.values()))
    if file.policy is not None:
        known = engine.list_definitions("policy")
        version = engine.publish_policy(file.policy)
        done.append(Published("policy", "default", version, version in known.values()))
    return done


# --- the parts of a bundle --------------------------------------------------------------------


def _section(
    given: dict[str, Any],
    section: str,
    check: Callable[[Any], dict[str, Any]],
    faults: list[PlanFault],
) -> dict[str, dict[str, Any]]:
    """Take a section out of the document; what is wrong with an entry becomes a fault."""
    from dee_es.core.values import check_id

    entries = given.pop(section, None)
    if entries is None:
        return {}
    if not isinstance(entries, Mapping):
        faults.append(PlanFault(None, f"{section} must be a mapping", "write ids with definitions"))
        return {}
    found: dict[str, dict[str, Any]] = {}
    for name, entry in entries.items():
        try:
            found[check_id("id", name)] = check(entry)
        except InvalidInput as error:
            where = f"{section}.{str(name)[:128]}"
            faults.append(PlanFault(None, f"{where}: {error}", "correct it"))
    return found


def _template(entry: Any) -> dict[str, Any]:
    from dee_es.core.messages.message import check_template

    return check_template(entry)


def _script(entry: Any) -> dict[str, Any]:
    from dee_es.core.messages.script import check_script

    return check_script(entry)


def _sender(entry: Any, faults: list[PlanFault]) -> dict[str, Any] | None:
    if entry is None:
        return None
    problem = ""
    if not isinstance(entry, Mapping):
        problem = "sender must be a mapping"
    elif unknown := [str(name)[:64] for name in entry if name not in _SENDER]:
        known = "address, name, postalAddress, unsubscribeUrl and tracking"
        problem = f"sender.{unknown[0]} is not known; there are {known}"
    elif "address" not in entry:
        problem = "sender has no address"
    elif wrong := [
        name for name, value in entry.items() if not isinstance(value, str) and name != "tracking"
    ]:
        problem = f"sender.{wrong[0]} must be text"
    elif entry.get("tracking") is not None:
        problem = _tracking_fault(entry["tracking"])
    if problem:
        faults.append(PlanFault(None, problem, "correct it"))
        return None
    return {_SENDER[name]: value for name, value in entry.items()}


def _tracking_fault(given: Any) -> str:
    from dee_es.engine.api.definitions import checked_tracking

    try:
        checked_tracking("sender.tracking", given)
    except InvalidInput as error:
        return str(error)
    return ""


def _policy(entry: Any, faults: list[PlanFault]) -> dict[str, Any] | None:
    if entry is None:
        return None
    from dee_es.bootstrap import check_policy_here

    try:
        return check_policy_here(entry)
    except InvalidInput as error:
        faults.append(PlanFault(None, str(error), "correct it"))
        return None
