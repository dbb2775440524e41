"""Audit queries: each walks one index, from the first entry that is wanted on.

The first index that is declared of whose columns all are asked for leads; time, where it is in the
index, bounds the walk on both sides; the other fields are filtered on the way. Several actions (or
reasons) are as many walks, merged. An index without time is of something that has few entries, such
as a run: all of them are read and sorted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

from msgspec import Struct

from dee_es.adapters.storage.relational.projection_tables import Dialect, mark, place, rows_relation
from dee_es.adapters.storage.relational.session import quoted
from dee_es.core.ids import is_run
from dee_es.core.projection import Table
from dee_es.core.views import AuditFilter, AuditRow

_ARM: Final = "SELECT {columns} FROM {table} WHERE {where} ORDER BY {order} LIMIT ?"
_ARMS: Final = "SELECT {columns} FROM ({arms}) AS arms ORDER BY tick, position LIMIT ?"
_NESTED: Final = "SELECT * FROM ({arm}) AS arm"
_COUNT: Final = "SELECT count(*) FROM {table} WHERE {where}"
_ORDERED: Final = ("tick", "position")
_MOST_WALKS: Final = 64
"""Values that are walked each for itself, which is more than there are actions; with more, a field
only filters."""
_END: Final = 2**62

Query = tuple[str, list[object]]
Fields = dict[str, tuple[object, ...]]
"""The values asked for, by column; none where a column does not matter."""


class _Walk(Struct, frozen=True):
    """One walk along an index: which rows, in which order."""

    where: str
    order: str
    params: list[object]


def page(
    table: Table[AuditRow],
    dialect: Dialect,
    chosen: AuditFilter,
    limit: int,
    after: tuple[int, int] | None,
) -> Query:
    """The rows behind `after` by tick and position."""
    relation = rows_relation(table)
    walks = []
    for walk in _walks(table, dialect, chosen, after):
        statement = _ARM.format(
            columns=relation.listed,
            table=quoted(relation.name),
            where=walk.where,
            order=walk.order,
        )
        walks.append((statement, [*walk.params, limit]))
    if len(walks) == 1:
        return walks[0]
    # SQLite takes a LIMIT in an arm only inside a query of its own.
    arms = " UNION ALL ".join(_NESTED.format(arm=statement) for statement, _ in walks)
    params = [value for _, given in walks for value in given]
    return _ARMS.format(columns=relation.listed, arms=arms), [*params, limit]


def count(table: Table[AuditRow], dialect: Dialect, chosen: AuditFilter) -> Query:
    """How many rows match."""
    name = quoted(rows_relation(table).name)
    walks = list(_walks(table, dialect, chosen, None))
    counts = (f"({_COUNT.format(table=name, where=walk.where)})" for walk in walks)
    return (
        f"SELECT {' + '.join(counts)}",
        [value for walk in walks for value in walk.params],
    )


def _walks(
    table: Table[AuditRow], dialect: Dialect, chosen: AuditFilter, after: tuple[int, int] | None
) -> Iterator[_Walk]:
    if chosen.reasons == ():
        yield _Walk("1 = 0", "tick, position", [])
        return
    for fields in _alternatives(table, chosen):
        index = _leading(table, fields)
        lead = tuple(name for name in index if name not in _ORDERED)
        others = {name: values for name, values in fields.items() if values and name not in lead}
        for values in itertools.product(*(dict.fromkeys(fields[name]) for name in lead)):
            if index == lead:
                yield _sorted(lead, values, others, chosen, after)
            else:
                yield _ordered(table, dialect, index, values, others, chosen, after)


def _alternatives(table: Table[AuditRow], chosen: AuditFilter) -> Iterator[Fields]:
    """What to look for, in one way or in several that have no entry in common."""
    fields: Fields = {
        "contact_id": _one(chosen.contact_id),
        "reason": chosen.reasons or (),
        "actor": _one(chosen.actor),
        "plan_id": _one(chosen.plan_id),
        "action": chosen.actions,
    }
    if chosen.run_id is None:
        yield fields
    elif any(column.name == "run_id" for column in table.columns):
        yield {"run_id": (chosen.run_id,), **fields}
    else:
        yield {"about_run_id": (chosen.run_id,), **fields}
        if is_run(chosen.run_id):
            yield {"stream_id": (chosen.run_id,), **fields}


def _leading(table: Table[AuditRow], fields: Fields) -> tuple[str, ...]:
    """The first index that is led by nothing but what is asked for, in not too many values."""
    for index in table.indexes:
        values = [len(fields.get(name, ())) for name in index if name not in _ORDERED]
        if 0 < math.prod(values) <= _MOST_WALKS:
            return index
    raise AssertionError("the last index of the audit trail is by time alone")


def _ordered(
    table: Table[AuditRow],
    dialect: Dialect,
    index: tuple[str, ...],
    values: Sequence[object],
    others: Fields,
    chosen: AuditFilter,
    after: tuple[int, int] | None,
) -> _Walk:
    """Along an index that has the rows of its leading columns in the order of time.

    Rows are compared by all of its columns at once, so that no other index is thought of.
    """
    first, end = _bounds(chosen, after)
    key, marked = quoted(table.key), mark(table, index)
    ended = index[-1] == table.key
    walked = [*index[:-1], place(table, dialect)] if ended else list(index)
    timed = list(index[: index.index("tick") + 1])
    where = [marked] if marked else []
    where += [f"{name} IS NOT NULL" for name in timed[:-1]]
    if after is None:
        where.append(_compared(timed, ">="))
        params = [*values, first[0]]
    else:
        # What shares the first entry is filtered: an expression, so that this is no bound.
        where += [_compared(walked, ">="), f"(tick + 0, {key}) > (?, ?)"]
        end_of_walk = [first[1] if walked[-1] == key else first[1] // table.stretch]
        params = [*values, first[0], *(end_of_walk if ended else ()), *first]
    where.append(_compared(timed, "<"))
    filters, wanted = _filters(others)
    order = [*walked, *(() if walked[-1] == key else (key,))]
    params += [*values, end, *wanted]
    return _Walk(" AND ".join(where) + filters, ", ".join(order), params)


def _compared(columns: Sequence[str], operator: str) -> str:
    return f"({', '.join(columns)}) {operator} ({', '.join('?' * len(columns))})"


def _sorted(
    lead: Sequence[str],
    values: Sequence[object],
    others: Fields,
    chosen: AuditFilter,
    after: tuple[int, int] | None,
) -> _Walk:
    """All rows of `lead`, to be sorted; times are expressions, so that only its index is used."""
    first, end = _bounds(chosen, after)
    where = "".join(f"{name} = ? AND " for name in lead)
    where += "(tick + 0, position + 0) > (?, ?) AND tick + 0 < ?"
    filters, wanted = _filters(others)
    return _Walk(where + filters, "tick + 0, position + 0", [*values, *first, end, *wanted])


def _bounds(chosen: AuditFilter, after: tuple[int, int] | None) -> tuple[tuple[int, int], int]:
    """Behind which tick and position the rows are, and before which tick."""
    start = 0 if chosen.from_tick is None else chosen.from_tick
    end = _END if chosen.before_tick is None else chosen.before_tick
    return max(after or (start, 0), (start, 0)), end


def _filters(others: Fields) -> tuple[str, list[object]]:
    """Conditions on columns that do not lead: expressions, so that no other index is thought of."""
    text = "".join(f" AND {name} || '' IN ??" for name in others)
    return text, [list(values) for values in others.values()]


def _one(value: Any) -> tuple[object, ...]:
    return () if value is None else (value,)
