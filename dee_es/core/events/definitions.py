"""Definitions that were published: plans, templates, call scripts, senders and policies."""

from __future__ import annotations

from typing import Any

import msgspec

from dee_es.core.events.base import Event


class Published(Event, frozen=True, omit_defaults=True):
    """A new version of a definition; the version is the event's version in its stream."""

    definition: dict[str, Any]
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)


class PlanPublished(Published, frozen=True, omit_defaults=True):
    """A version of a plan."""


class TemplatePublished(Published, frozen=True, omit_defaults=True):
    """A version of a message template."""


class ScriptPublished(Published, frozen=True, omit_defaults=True):
    """A version of a call script."""


class SenderPublished(Published, frozen=True, omit_defaults=True):
    """A version of a sender."""


class PolicyPublished(Published, frozen=True, omit_defaults=True):
    """A version of a policy."""
