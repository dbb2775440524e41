"""One attempt: what is handed to a channel, and what that answers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from dee_es.core import commands as c
from dee_es.core import events as e
from dee_es.core.runs.state import Intent
from dee_es.engine.definitions import Definitions
from dee_es.engine.links import Links
from dee_es.engine.run_cache import LoadedRun
from dee_es.engine.scheduling.answers import kept
from dee_es.engine.scheduling.tracking import Observed, Sending, leaving, unsubscribe_link
from dee_es.errors import ChannelFailed, StoreUnavailable
from dee_es.ports import Action, Channel, ChannelResult, SendContext

_log: Final = logging.getLogger(__name__)
NO_SENDER: Final = "noreply@localhost"
"""The From address when no sender has been published."""


def intent_of(run: LoadedRun) -> Intent:
    """What a run that is being sent has committed to."""
    assert run.state.intent is not None, "only a run with an intent is sent"
    return run.state.intent


class Attempts:
    """Makes attempts whose intents are committed; safe to share between threads."""

    def __init__(
        self, definitions: Definitions, channels: Mapping[str, Channel], links: Links | None
    ) -> None:
        self._definitions = definitions
        self._channels = channels
        self._links = links

    def make(self, run: LoadedRun) -> ChannelResult:
        """Make the attempt whose intent this run holds; whatever goes wrong is its result."""
        result = kept(self._call(run))
        if result.status in ("failed", "unknown"):
            step = intent_of(run).step_id
            about = {"run": run.state.run_id, "step": step, "error": result.error}
            _log.warning("send_" + result.status, extra=about)
        if result.ours:
            at_fault = {"channel": intent_of(run).channel, "error": result.error}
            _log.error("channel_settings_at_fault", extra=at_fault)
        return result

    def _call(self, run: LoadedRun) -> ChannelResult:
        intent = intent_of(run)
        if intent.message is None:
            return ChannelResult("failed", error="the contact was erased")
        channel = self._channels.get(intent.channel)
        if channel is None:
            # The fault of whoever put this engine together, as a missing setting is.
            error = f"no channel serves {intent.channel!r}"
            return ChannelResult("failed", error=error, ours=True)
        try:
            action = self._action(run, intent, intent.message)
            context = self._context(run, action)
        except Exception as error:
            # Nothing has left yet, whatever it was.
            passing = isinstance(error, StoreUnavailable)
            text = f"the message could not be made ready: {type(error).__name__}"
            return ChannelResult("failed", error=text, retryable=passing)
        try:
            return channel.send(action, context)
        except ChannelFailed as error:
            # The channel says that it could not even begin.
            return ChannelResult("failed", error=str(error))
        except Exception as error:
            # Anything else may have happened after the message left: fail closed.
            return ChannelResult("unknown", error=f"the channel raised {type(error).__name__}")

    def _action(self, run: LoadedRun, intent: Intent, message: e.Message) -> Action:
        """What is handed to the channel: an email gets its contact's own links only here, since no
        secret may decide what is in the log."""
        state = run.state
        if self._links is not None and intent.channel == "email":
            materials = self._materials(run)
            sender: Mapping[str, Any] = materials.sender or {}
            observed = Observed.of(materials.plan.graph.step(intent.step_id), sender)
            sending = Sending(state.contact_id, state.run_id, intent.step_id, intent.key)
            general = sender.get("unsubscribeUrl")
            message = leaving(message, self._links, sending, observed, general)
        return Action(
            state.run_id, intent.step_id, intent.channel, intent.key, intent.attempt, message
        )

    def _context(self, run: LoadedRun, action: Action) -> SendContext:
        state, materials = run.state, self._materials(run)
        sender: Mapping[str, Any] = materials.sender or {}
        unsubscribe = sender.get("unsubscribeUrl")
        if self._links is not None and action.channel == "email":
            sending = Sending(state.contact_id, action.run_id, action.step_id, action.key)
            unsubscribe = unsubscribe_link(self._links, sending)
        return SendContext(
            sender_address=sender.get("address", NO_SENDER),
            sender_name=sender.get("name"),
            postal_address=sender.get("postalAddress"),
            time_ms=int(materials.scale.time(state.last_tick).timestamp() * 1000),
            unsubscribe_url=unsubscribe,
        )

    def _materials(self, run: LoadedRun) -> c.Materials:
        state = run.state
        return self._definitions.materials(state.plan_id, state.plan_version, state.pins)
