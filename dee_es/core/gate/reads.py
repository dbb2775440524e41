"""A decision made again from what it noted: a replay needs the log and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import replace

from dee_es.core.gate.evaluate import counters
from dee_es.core.gate.model import Policy
from dee_es.core.gate.snapshot import ConsentFact, ReadValue, Snapshot
from dee_es.core.gate.suppression import facts_of
from dee_es.core.gate.zone import ZoneRules
from dee_es.errors import InvalidInput

_ADDRESSES: Final = ("email", "phone")


def snapshot_from(
    policy: Policy | None,
    send: Snapshot,
    reads: Mapping[str, ReadValue],
    personal: Mapping[str, ReadValue],
) -> Snapshot:
    """The snapshot a verdict was reached on, as far as the verdict read it.

    `send` says which send it was: tick, scale, channel, plan and contact, and if they are known the
    digests of its domain and addresses, so that counters have their own names again; nothing else
    in it counts. `policy` is the version that the run has pinned. `evaluate` comes to the same
    verdict on the result. Raises `InvalidInput` for reads that the gate did not note; a verdict
    whose personal part was erased cannot be reached again if it read a zone.
    """
    zone = _zone(reads, personal)
    own = reads.get("zone") == "contact"
    told = replace(
        send,
        suppressions=facts_of(_text(reads, "suppression")),
        consent=_consent(send.channel, reads),
        zone=zone if own else None,
        default_zone=None if own else zone,
        sender=_text(reads, "sender"),
        domain=send.domain or ("?" if "limit.domain" in reads else None),
        addresses=_addresses(send, reads),
        counters={},
        policy_version=_number(reads, "policy"),
        needed=None,
    )
    used = {
        counter.key: _number(reads, _noted_as(counter.kind)) for counter in counters(policy, told)
    }
    return replace(told, counters=used)


def _noted_as(kind: str) -> str:
    return kind if kind == "budget" else f"limit.{kind}"


def _addresses(send: Snapshot, reads: Mapping[str, ReadValue]) -> tuple[str, ...]:
    """The addresses that were counted, and no others: older verdicts counted none."""
    known = {address.partition(":")[0]: address for address in send.addresses}
    return tuple(
        known.get(kind, f"{kind}:?") for kind in _ADDRESSES if f"limit.contact.{kind}" in reads
    )


def _zone(reads: Mapping[str, ReadValue], personal: Mapping[str, ReadValue]) -> ZoneRules | None:
    if reads.get("zone") not in ("contact", "default"):
        return None
    version = _text(reads, "zone.rules")
    return ZoneRules.parse(_text(personal, "zone"), version, _text(personal, "zone.offsets"))


def _consent(channel: str, reads: Mapping[str, ReadValue]) -> ConsentFact | None:
    state: Any = reads.get(f"consent.{channel}")
    if state is None:
        return None
    expires = f"consent.{channel}.expires"
    return ConsentFact(state, _number(reads, expires) if expires in reads else None)


def _text(reads: Mapping[str, ReadValue], name: str) -> str:
    value = reads.get(name, "")
    if not isinstance(value, str):
        raise InvalidInput(f"reads.{name}", "must be text")
    return value


def _number(reads: Mapping[str, ReadValue], name: str) -> int:
    value = reads.get(name, 0)
    if not isinstance(value, int):
        raise InvalidInput(f"reads.{name}", "must be a whole number")
    return value
