"""The list of runs: filters that live in the address, exact numbers, stable paging."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any, Final

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from dee_es.engine.facade import EngineApi
from dee_es.engine.models import RunPage
from dee_es.engine.run_filters import GivenFilters
from dee_es.web.pages import inputs, rendering
from dee_es.web.routing import VIEWER, EngineDep, page_router

router: Final = page_router()

_TRAIL: Final = 40
"""How many pages back the address remembers."""


@dataclass(frozen=True, slots=True)
class TypedFilters:
    """The filters as they were typed; `read` makes them those of the engine."""

    status: tuple[str, ...] = ()
    plan: str | None = None
    contact: str | None = None
    after: str | None = None
    before: str | None = None

    @classmethod
    def of(cls, request: Request) -> TypedFilters:
        """The filters in an address."""
        names = [each.name for each in fields(cls) if each.name != "status"]
        return cls(
            status=tuple(inputs.all_given(request, "status")),
            **{name: inputs.given(request, name) for name in names},
        )

    @property
    def any(self) -> bool:
        """Whether any filter is set."""
        return self != TypedFilters()

    def read(self, now: datetime) -> GivenFilters:
        """The filters for the engine; raises `InvalidInput` naming what cannot be read."""
        return {
            "status": list(self.status) or None,
            "plan_id": self.plan,
            "contact_id": self.contact,
            "started_after": inputs.moment("after", self.after, now),
            "started_before": inputs.moment("before", self.before, now),
        }

    def lasting(self, chosen: GivenFilters) -> TypedFilters:
        """The filters of the pages that follow, `chosen` being those of the engine."""
        return replace(
            self,
            after=inputs.lasting(self.after, chosen["started_after"]),
            before=inputs.lasting(self.before, chosen["started_before"]),
        )

    def query(self) -> dict[str, Any]:
        """The filters for an address."""
        return {**asdict(self), "status": list(self.status)}

    def toggled(self, status: str) -> TypedFilters:
        """With that status if it was not among them, else without it."""
        kept = tuple(each for each in self.status if each != status)
        return replace(self, status=kept if status in self.status else (*kept, status))


@dataclass(frozen=True, slots=True)
class Counter:
    """How many runs stand so under the other filters, and the address that filters by it."""

    status: str
    count: int
    chosen: bool
    address: str


@router.get("/", openapi_extra=VIEWER)
def start() -> Response:
    """The runs are where one starts."""
    return RedirectResponse("/runs", 303)


@router.get("/runs", openapi_extra=VIEWER)
def runs(request: Request, engine: EngineDep) -> Response:
    """Runs, newest first."""
    filters = TypedFilters.of(request)
    limit = inputs.size(request)
    chosen = filters.read(engine.now().now)
    cursor = inputs.given(request, "cursor")
    found = engine.list_runs(**chosen, limit=limit, cursor=cursor)
    shown = counters(engine, filters, chosen, limit)
    return rendering.page(
        request,
        engine,
        "runs.html",
        found=found,
        filters=filters,
        counters=shown,
        every=_every(filters, shown, limit),
        limit=limit,
        sizes=inputs.SIZES,
        plans=engine.plan_ids(),
        paging=_paging(request, filters.lasting(chosen), found, limit),
    )


def counters(
    engine: EngineApi, filters: TypedFilters, chosen: GivenFilters, limit: int
) -> list[Counter]:
    """The exact number of runs of each status."""
    others: dict[str, Any] = {name: value for name, value in chosen.items() if name != "status"}
    return [
        Counter(
            status.value,
            count,
            status.value in filters.status,
            rendering.address(
                "/runs", {**filters.toggled(status.value).query(), "limit": _size(limit)}
            ),
        )
        for status, count in engine.count_runs(**others).items()
    ]


def _every(filters: TypedFilters, shown: Sequence[Counter], limit: int) -> Counter:
    query = {**replace(filters, status=()).query(), "limit": _size(limit)}
    total = sum(each.count for each in shown)
    return Counter("all", total, not filters.status, rendering.address("/runs", query))


def _size(limit: int) -> int | None:
    return None if limit == 50 else limit


def _paging(request: Request, filters: TypedFilters, found: RunPage, limit: int) -> dict[str, Any]:
    """The addresses of the pages around; the way back is remembered in the address itself."""
    cursor = inputs.given(request, "cursor")
    trail = inputs.all_given(request, "back")
    first = inputs.number(request, "from", 1, least=1, most=10**15)
    base = {**filters.query(), "limit": _size(limit)}
    following = previous = None
    if found.next_cursor is not None:
        passed = [*trail, cursor] if cursor is not None else trail
        following = rendering.address(
            "/runs",
            {
                **base,
                "cursor": found.next_cursor,
                "back": passed[-_TRAIL:],
                "from": first + len(found.runs),
            },
        )
    if cursor is not None:
        previous = rendering.address(
            "/runs",
            {
                **base,
                "cursor": trail[-1] if trail else None,
                "back": trail[:-1],
                "from": max(1, first - limit) if trail else None,
            },
        )
    return {
        "first": first if found.runs else 0,
        "last": first + len(found.runs) - 1 if found.runs else 0,
        "next": following,
        "previous": previous,
        "newest": rendering.address("/runs", base) if cursor is not None else None,
    }
