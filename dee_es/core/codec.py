"""The stored payload of an event: a public part in JSON, and what is personal behind it.

`payload = length of the public part (32 bits) | public JSON | personal`, where `personal` is empty
or the encrypted JSON of the event's personal part. Key order is fixed, so equal events give equal
bytes. Encryption itself is the key store's; this module only says what is encrypted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Protocol

import msgspec

from dee_es.core.events import Event, Meta
from dee_es.core.registry import NAMES, REGISTRY, Entry
from dee_es.core.upcasts import current_entry, lift, lift_personal
from dee_es.core.values import MAX_PAYLOAD_BYTES, check_payload_size
from dee_es.errors import IntegrityViolation, InvalidInput


class _Stored(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    schema: int
    meta: Meta
    data: Any


class _Envelope(msgspec.Struct, frozen=True, gc=False):
    schema: int
    meta: Meta
    data: msgspec.Raw


_encoder: Final = msgspec.json.Encoder(order="deterministic")
_envelope: Final = msgspec.json.Decoder(_Envelope)
_events: Final = {name: msgspec.json.Decoder(entry.cls) for name, entry in REGISTRY.items()}


class Current(Protocol):
    """The public part of an event in its current schema."""

    schema: int
    meta: Meta
    data: Any


def current_reader(name: str, entry: Entry) -> Callable[[bytes], Current]:
    """What reads the public part of an event in one pass, if it is in the entry's schema; raises
    one of `DECODING_ERRORS` if it is in another, or at fault."""
    schema = Annotated[int, msgspec.Meta(ge=entry.schema, le=entry.schema)]
    fields = [("schema", schema), ("meta", Meta), ("data", entry.cls)]
    shape: Any = msgspec.defstruct(f"Current{name}", fields, frozen=True, gc=False)
    decoder: msgspec.json.Decoder[Current] = msgspec.json.Decoder(shape)
    return decoder.decode


CURRENT: Final = {name: current_reader(name, entry) for name, entry in REGISTRY.items()}
"""A reader for each name: nearly every event is in its current schema. `decode` reads any other."""
READ_BACK: Final = frozenset(
    {
        "RunPaused",
        "StepResolved",
        "ContactSuppressed",
        "ContactUnsuppressed",
        "LogExported",
        "ClockStarted",
    }
)
"""Events with a field that holds one of a few values. Whatever should have checked what a caller
gave for it, no other enters the log, from which nothing can be taken out. They are seldom: it costs
the others next to nothing."""
DECODING_ERRORS: Final = (msgspec.DecodeError, ValueError, KeyError, RecursionError)
_personal: Final = {
    name: msgspec.json.Decoder(entry.cls.personal_type)
    for name, entry in REGISTRY.items()
    if entry.cls.personal_type is not None
}


def encode(event: Event, meta: Meta) -> tuple[str, bytes, bytes]:
    """Return name, public part and personal part (empty if there is none), both as plain JSON.

    Raises `InvalidInput` if they are larger together than a payload may be, and for a value that
    nobody could read back.
    """
    name = NAMES[type(event)]
    personal = b""
    held = getattr(event, "personal", None)
    if held is not None:
        personal = _encoder.encode(held)
        event = msgspec.structs.replace(event, personal=None)
    public = _encoder.encode(_Stored(REGISTRY[name].schema, meta, event))
    if name in READ_BACK:
        _check_read_back(name, public)
    size = len(public) + len(personal)
    # What it is of is put into words only where they are needed.
    if size > MAX_PAYLOAD_BYTES:
        check_payload_size(f"{name} payload", size)
    return name, public, personal


def _check_read_back(name: str, public: bytes) -> None:
    try:
        CURRENT[name](public)
    except DECODING_ERRORS as error:
        raise InvalidInput(f"{name} payload", f"could not be read back: {error}") from None


def join(public: bytes, personal: bytes) -> bytes:
    """Put the public part and the encrypted personal part together as one payload."""
    return b"".join((len(public).to_bytes(4, "big"), public, personal))


def split(payload: bytes, where: object) -> tuple[bytes, bytes]:
    """Take a payload apart again; raises `IntegrityViolation` naming `where` if it is cut."""
    size = int.from_bytes(payload[:4], "big")
    if len(payload) < 4 + size:
        raise IntegrityViolation(f"{where}: the stored payload is cut short")
    return payload[4 : 4 + size], payload[4 + size :]


def decode(name: str, public: bytes, personal: bytes | None, where: object) -> tuple[Event, Meta]:
    """Rebuild an event in its current shape; `personal` is decrypted JSON, or None.

    Raises `UnknownEventVersion` for a name or schema this code does not know, and
    `IntegrityViolation` for a payload that is not one; both name `where`.
    """
    # Nearly every event is of the current shape; any other, or a fault, is read with more care.
    try:
        stored = CURRENT[name](public)
        if not personal:
            return stored.data, stored.meta
        part = _personal[name].decode(personal)
        return msgspec.structs.replace(stored.data, personal=part), stored.meta
    except DECODING_ERRORS:
        pass  # What it is instead is found out below.
    try:
        envelope = _envelope.decode(public)
        entry = current_entry(name, envelope.schema, where)
        if envelope.schema == entry.schema:
            event: Event = _events[name].decode(envelope.data)
        else:
            old: dict[str, Any] = msgspec.json.decode(envelope.data)
            event = msgspec.convert(lift(name, envelope.schema, old), entry.cls)
        if personal:
            held = _personal_part(name, envelope.schema, entry.schema, personal)
            event = msgspec.structs.replace(event, personal=held)
    except DECODING_ERRORS as error:
        raise IntegrityViolation(f"{where}: the payload is not that of a {name}") from error
    return event, envelope.meta


def _personal_part(name: str, schema: int, current: int, personal: bytes) -> msgspec.Struct:
    decoder = _personal[name]
    if schema == current:
        held: msgspec.Struct = decoder.decode(personal)
    else:
        old: dict[str, Any] = msgspec.json.decode(personal)
        held = msgspec.convert(lift_personal(name, schema, old), decoder.type)
    return held
