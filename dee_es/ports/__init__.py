"""What the engine needs from the outside, as small protocols that adapters fulfil."""

from dee_es.ports.channels import (
    Action,
    Channel,
    ChannelResult,
    SendContext,
)
from dee_es.ports.keys import (
    KeyStore,
)
from dee_es.ports.log import (
    Committed,
    Conflict,
    Consent,
    CounterUse,
    Head,
    Lease,
    LeaseRow,
    LogHead,
    SealedEvent,
    StoredRow,
    StreamAppend,
    Suppression,
    SuppressionGuard,
    Unit,
)
from dee_es.ports.store import (
    EventStore,
    Inline,
)
from dee_es.ports.surroundings import (
    IdSource,
    WallClock,
    ZoneSource,
)
from dee_es.ports.views import (
    TableTransaction,
    Views,
)

__all__ = [
    "Action",
    "Channel",
    "ChannelResult",
    "Committed",
    "Conflict",
    "Consent",
    "CounterUse",
    "EventStore",
    "Head",
    "IdSource",
    "Inline",
    "KeyStore",
    "Lease",
    "LeaseRow",
    "LogHead",
    "SealedEvent",
    "SendContext",
    "StoredRow",
    "StreamAppend",
    "Suppression",
    "SuppressionGuard",
    "TableTransaction",
    "Unit",
    "Views",
    "WallClock",
    "ZoneSource",
]
