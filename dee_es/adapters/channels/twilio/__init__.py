"""Calls through Twilio Voice: the channel, its callbacks and a host for them."""

from dee_es.adapters.channels.twilio.adapter import TwilioChannel
from dee_es.adapters.channels.twilio.callbacks import (
    ChannelEvent,
    Reply,
    ScriptSource,
    TwilioCallbacks,
)
from dee_es.adapters.channels.twilio.calls import ProviderCalls
from dee_es.adapters.channels.twilio.recording import RecordedCallbacks
from dee_es.adapters.channels.twilio.script import script_in
from dee_es.adapters.channels.twilio.server import CallbackServer, serve_callbacks
from dee_es.adapters.channels.twilio.settings import TwilioSettings
from dee_es.adapters.channels.twilio.tokens import CallRef

__all__ = [
    "CallRef",
    "CallbackServer",
    "ChannelEvent",
    "ProviderCalls",
    "RecordedCallbacks",
    "Reply",
    "ScriptSource",
    "TwilioCallbacks",
    "TwilioChannel",
    "TwilioSettings",
    "script_in",
    "serve_callbacks",
]
