"""Audit queries: each walks one index, from the first entry that is wanted on.

The narrowest field that is given leads; time, which is in every index, bounds the walk on both
sides; the other fields are filtered on the way. Several actions (or reasons) are as many walks,
merged.
"""

from __future__ import annotations

from typing import Any, Final

from dee_es.adapters.storage.relational.session import quoted
from dee_es.adapters.storage.relational.tables import rows_relation
from dee_es.core.projection import Table
from dee_es.core.views import AuditFilter, AuditRow

_ARM: Final = "SELECT {columns} FROM {table} WHERE {where} ORDER BY {order} LIMIT ?"
_ARMS: Final = "SELECT {columns} FROM ({arms}) AS arms ORDER BY tick, position LIMIT ?"
_NESTED: Final = "SELECT * FROM ({arm}) AS arm"
_COUNT: Final = "SELECT count(*) FROM {table} WHERE {where}"
_NARROWEST: Final = ("run_id", "contact_id", "reason", "actor", "plan_id", "action")
_MOST_WALKS: Final = 32
"""Values of one field that are walked each for itself; with more, the field only filters."""
_END: Final = 2**62

Query = tuple[str, list[object]]


def page(
    table: Table[AuditRow], chosen: AuditFilter, limit: int, after: tuple[int, int] | None
) -> Query:
    """The rows behind `after` by tick and position."""
    relation = rows_relation(table)
    walks = []
    for where, order, params in _walks(chosen, after):
        statement = _ARM.format(
            columns=relation.listed, table=quoted(relation.name), where=where, order=order
        )
        walks.append((statement, [*params, limit]))
    if len(walks) == 1:
        return walks[0]
    # SQLite takes a LIMIT in an arm only inside a query of its own.
    arms = " UNION ALL ".join(_NESTED.format(arm=statement) for statement, _ in walks)
    params = [value for _, given in walks for value in given]
    return _ARMS.format(columns=relation.listed, arms=arms), [*params, limit]


def count(table: Table[AuditRow], chosen: AuditFilter) -> Query:
    """How many rows match."""
    name = quoted(rows_relation(table).name)
    walks = list(_walks(chosen, None))
    counts = (f"({_COUNT.format(table=name, where=where)})" for where, _, _ in walks)
    return (
        f"SELECT {' + '.join(counts)}",
        [value for _, _, params in walks for value in params],
    )


def _walks(
    chosen: AuditFilter, after: tuple[int, int] | None
) -> list[tuple[str, str, list[object]]]:
    """Condition, order and values of each walk."""
    fields: dict[str, tuple[object, ...]] = {
        "run_id": _one(chosen.run_id),
        "contact_id": _one(chosen.contact_id),
        "reason": () if chosen.reasons is None else chosen.reasons,
        "actor": _one(chosen.actor),
        "plan_id": _one(chosen.plan_id),
        "action": chosen.actions,
    }
    if chosen.reasons == ():
        return [("1 = 0", "tick, position", [])]
    lead = next((name for name in _NARROWEST if 0 < len(fields[name]) <= _MOST_WALKS), None)
    filters = ""
    values: list[object] = []
    for name, wanted in fields.items():
        if wanted and name != lead:
            # An expression instead of the column, so that no other index is thought of.
            filters += f" AND {name} || '' IN ??"
            values.append(list(wanted))
    first = after or (0 if chosen.from_tick is None else chosen.from_tick, 0)
    if chosen.from_tick is not None:
        first = max(first, (chosen.from_tick, 0))
    end = _END if chosen.before_tick is None else chosen.before_tick
    if lead is None:
        where = f"(tick, position) > (?, ?) AND tick < ?{filters}"
        return [(where, "tick, position", [*first, end, *values])]
    where = f"{lead} IS NOT NULL AND ({lead}, tick, position) > (?, ?, ?) "
    where += f"AND ({lead}, tick) < (?, ?){filters}"
    return [
        (where, f"{lead}, tick, position", [value, *first, value, end, *values])
        for value in dict.fromkeys(fields[lead])
    ]


def _one(value: Any) -> tuple[object, ...]:
    return () if value is None else (value,)
