"""What the engine needs from the outside, as small protocols that adapters fulfil."""

from dee_es.ports.anchors import (
    Anchor,
    Signer,
    SignerSource,
)
from dee_es.ports.channels import (
    Action,
    Channel,
    ChannelResult,
    LeavesFiles,
    SendContext,
    Sent,
)
from dee_es.ports.documents import (
    DocumentWriter,
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
    Tombstone,
    Unit,
)
from dee_es.ports.places import (
    Place,
    PlaceSource,
)
from dee_es.ports.store import (
    EventStore,
    Forget,
    Inline,
)
from dee_es.ports.surroundings import (
    IdSource,
    WallClock,
    ZoneSource,
)
from dee_es.ports.views import (
    BuildKey,
    BuildRow,
    BuildState,
    ParkedRow,
    RebuildRow,
    RunPageRows,
    Standing,
    TableReader,
    TableTransaction,
    Views,
)

__all__ = [
    "Action",
    "Anchor",
    "BuildKey",
    "BuildRow",
    "BuildState",
    "Channel",
    "ChannelResult",
    "Committed",
    "Conflict",
    "Consent",
    "CounterUse",
    "DocumentWriter",
    "EventStore",
    "Forget",
    "Head",
    "IdSource",
    "Inline",
    "KeyStore",
    "Lease",
    "LeaseRow",
    "LeavesFiles",
    "LogHead",
    "ParkedRow",
    "Place",
    "PlaceSource",
    "RebuildRow",
    "RunPageRows",
    "SealedEvent",
    "SendContext",
    "Sent",
    "Signer",
    "SignerSource",
    "Standing",
    "StoredRow",
    "StreamAppend",
    "Suppression",
    "SuppressionGuard",
    "TableReader",
    "TableTransaction",
    "Tombstone",
    "Unit",
    "Views",
    "WallClock",
    "ZoneSource",
]
