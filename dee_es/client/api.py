"""The engine's methods over HTTP, all groups of them in one object.

Each group is in a file that has the name of the engine's own, in `dee_es/engine/api/`.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from dee_es.client.audit import AuditClient
from dee_es.client.bulk import BulkClient
from dee_es.client.channel_events import ChannelEventsClient
from dee_es.client.compliance import ComplianceClient
from dee_es.client.contacts import ContactsClient
from dee_es.client.definitions import DefinitionsClient
from dee_es.client.evidence import EvidenceClient
from dee_es.client.history import HistoryClient
from dee_es.client.holds import HoldsClient
from dee_es.client.insights import InsightsClient
from dee_es.client.portable import PortableClient
from dee_es.client.projections import ProjectionsClient
from dee_es.client.replays import ReplaysClient
from dee_es.client.runs import RunsClient
from dee_es.client.transport import Transport


class DeeClient(
    DefinitionsClient,
    RunsClient,
    BulkClient,
    ContactsClient,
    HoldsClient,
    ChannelEventsClient,
    HistoryClient,
    InsightsClient,
    PortableClient,
    EvidenceClient,
    ReplaysClient,
):
    """The methods of `Engine` on a `dee serve` at `url`, raising the same errors.

    `token` is one of `dee serve token`; a server without users needs none. Who acts is whom the
    server knows by it. A call that got no answer is repeated under its key and never acts twice;
    `command_id` makes that hold across programs. A server that is away, as while it is started
    anew, is waited for `patience_s` seconds, 0 for not at all. Raises `ApiRefused` for what only a
    server refuses, and `StoreUnavailable`, with what is known to be done, if it does not answer.
    """

    def __init__(
        self, url: str, token: str | None = None, *, timeout_s: float = 60.0,
        verify: bool | str = True, patience_s: float = 30.0,
    ) -> None:  # fmt: skip
        self._http = Transport(url, token, timeout_s, verify, patience_s)
        self.audit = AuditClient(self._http)
        self.compliance = ComplianceClient(self._http)
        self.projections = ProjectionsClient(self._http)

    def close(self) -> None:
        """Let the connections go."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
