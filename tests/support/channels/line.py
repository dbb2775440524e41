"""A line from the channel to Twilio and back: one call at a time, and the events that it brings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dee_es.adapters.channels.twilio import (
    CallRef,
    ChannelEvent,
    ProviderCalls,
    Reply,
    TwilioCallbacks,
    TwilioChannel,
    TwilioSettings,
    serve_callbacks,
)
from dee_es.core.messages.message import message_id
from dee_es.core.messages.script import check_script
from dee_es.ports import ChannelResult
from tests.support.channels.mail import CONTEXT, a_call, key
from tests.support.channels.twilio import (
    ACCOUNT,
    FROM,
    SECRET,
    TOKEN,
    Placed,
    RunningTwilio,
    running_twilio,
)

MENU = check_script(
    {
        "greeting": "Hello Jane",
        "steps": [
            {
                "type": "gather",
                "name": "wish",
                "prompt": "Press 1 or 2.",
                "attempts": 2,
            },
            {
                "type": "branch",
                "on": "wish",
                "cases": {
                    "1": [
                        {"type": "speak", "text": "You want to talk."},
                        {
                            "type": "gather",
                            "name": "time",
                            "prompt": "When? End with hash.",
                            "maxDigits": 4,
                        },
                        {"type": "speak", "text": "Until then."},
                    ],
                    "2": [{"type": "speak", "text": "No more calls."}],
                },
                "default": [{"type": "speak", "text": "Nothing chosen."}],
            },
            {"type": "speak", "text": "Good-bye."},
        ],
    }
)
PLAIN = check_script({"greeting": "Hello Jane", "steps": [{"type": "speak", "text": "Good-bye"}]})
HEARD_BY_MACHINE = ["Hello Jane", "Nothing chosen.", "Good-bye."]


class Doors:
    """Callbacks whose settings, with the port in them, are known only after they are served."""

    def __init__(self) -> None:
        self.callbacks: TwilioCallbacks | None = None

    def handle(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        assert self.callbacks is not None
        return self.callbacks.handle(method, url, headers, body)

    def recorded(self, reply: Reply) -> None:
        assert self.callbacks is not None
        self.callbacks.recorded(reply)


@dataclass
class Line:
    """A channel, Twilio at its other end, and the events that come back."""

    twilio: RunningTwilio
    settings: TwilioSettings
    calls: ProviderCalls
    doors: Doors
    events: list[ChannelEvent] = field(default_factory=list)
    scripts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    failures: int = 0
    errors: list[Exception] = field(default_factory=list)

    def configure(self, **changes: Any) -> TwilioChannel:
        """A channel with these settings, whose callbacks are answered by them."""
        self.settings = replace(self.settings, **changes)
        self.doors.callbacks = TwilioCallbacks(
            self.settings, self.calls, lambda call: self.scripts.get(call.key)
        )
        return TwilioChannel(self.settings, self.calls)

    def record(self, event: ChannelEvent) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("the database is away")
        self.events.append(event)

    def send(self, script: Mapping[str, Any], seed: object = 0, **settings: Any) -> ChannelResult:
        channel = self.configure(**settings)
        self.scripts[key(seed)] = script
        return channel.send(a_call(seed, script=dict(script)), CONTEXT)

    def call(self, script: Mapping[str, Any], **settings: Any) -> Placed:
        """Place the call; it is over when this returns."""
        assert self.send(script, **settings) == ChannelResult("pending", message_id(key(0)))
        placed = self.twilio.call()
        assert placed.problems == []
        return placed

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]

    def last(self) -> dict[str, Any]:
        """The data of the event that ended the call, without what every event has."""
        (event,) = {each.event_id: each for each in self.events if each.over}.values()
        data = dict(event.data)
        assert data.pop("message_id") == message_id(key(0))
        assert data.pop("attempt") == 1
        return data


@contextlib.contextmanager
def running_line(folder: Path) -> Iterator[Line]:
    """A line with a Twilio and a server for callbacks of its own; its table is in `folder`."""
    doors = Doors()
    made: list[Line] = []
    calls = ProviderCalls(folder / "calls.db")
    with (
        running_twilio() as twilio,
        serve_callbacks(
            doors,
            lambda event: made[0].record(event),
            on_error=lambda error: made[0].errors.append(error),
        ) as server,
    ):
        settings = TwilioSettings(
            ACCOUNT,
            TOKEN,
            FROM,
            f"http://127.0.0.1:{server.port}/twilio",
            SECRET,
            api_url=twilio.url,
            timeout_s=20,
        )
        made.append(Line(twilio, settings, calls, doors))
        yield made[0]
    calls.close()


def reference() -> CallRef:
    """The attempt that `Line.call` makes."""
    action = a_call(0)
    return CallRef(action.run_id, action.step_id, action.key, action.attempt)
