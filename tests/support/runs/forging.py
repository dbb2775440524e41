"""Run files that nobody exported: changed in their JSON, or in what their events say."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from dee_es.core import codec
from dee_es.core.evidence import chain

Change = Callable[[dict[str, Any]], object]


def changed(content: bytes, change: Change) -> bytes:
    """The file with something changed in its JSON."""
    document = json.loads(content)
    change(document)
    return json.dumps(document).encode()


def forged(content: bytes, stream: str, change: Change, place: int = -1) -> bytes:
    """The file with an event of a stream changed, its last one if nothing else is said, and the
    chain made anew. What is changed is {"name", "meta", "data", "schema"}."""

    def change_one(document: dict[str, Any]) -> None:
        (found,) = (each for each in document["streams"] if each["id"] == stream)
        event = found["events"][place]
        public, hidden = codec.split(_payload(event), stream)
        payload = {**json.loads(public), "name": event["name"]}
        change(payload)
        event["name"] = payload.pop("name")
        # What stands for a byte that is no text becomes that byte.
        text = json.dumps(payload, ensure_ascii=False).encode(errors="surrogateescape")
        _reseal(found, event, codec.join(text, hidden))

    return changed(content, change_one)


def _payload(event: dict[str, Any]) -> bytes:
    return chain.unseal(base64.b64decode(event["state"]), "the file").payload


def _reseal(stream: dict[str, Any], other: dict[str, Any], payload: bytes) -> None:
    previous = chain.GENESIS
    for event in stream["events"]:
        held = payload if event is other else _payload(event)
        previous, state = chain.seal(stream["id"], event["version"], event["name"], previous, held)
        event["state"] = base64.b64encode(state).decode()
