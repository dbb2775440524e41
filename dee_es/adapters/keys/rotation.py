"""Wrapping a whole key store anew under another master key.

All rows are wrapped anew into the table's stage, a page in a transaction, while everybody goes on;
then one transaction catches up with what is missing and puts the stage in the place of the rows,
together with the store's secret. Before that moment the former master key opens everything, after
it the new one does, and nothing is lost if the rotation is broken off: it goes on with the stage
as it finds it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from dee_es.adapters.keys.cipher import Wrapper
from dee_es.adapters.keys.key_table import PAGE, KeyTable, Row
from dee_es.errors import IntegrityViolation
from dee_es.ports.keys import OnKeys

_PASSES: Final = 20
"""How often what was added meanwhile is looked for before the rest is staged under the lock."""
_PAUSE: Final = 0.1
"""Share of each page's time that is left to others, who wait for the same lock."""


def rewrap(
    table: KeyTable, old: Wrapper, new: Wrapper, key_id: bytes, wrapped: bytes | None
) -> bytes | None:
    """One row wrapped anew; raises `IntegrityViolation` for one that the old key does not open."""
    if wrapped is None:
        return None
    key = old.unwrap(key_id, wrapped)
    if key is None:
        raise IntegrityViolation(
            f"{table.where}: key {key_id.hex()} is not what was stored; the row was changed"
        )
    return new.wrap(key_id, key)


def rotate_rows(
    table: KeyTable,
    old: Wrapper,
    new: Wrapper,
    secret: bytes,
    generation: int,
    on_progress: OnKeys | None,
) -> None:
    """Wrap all rows anew and swap.

    Raises `GenerationMoved` if somebody swapped before, and `RotationReplaced`.
    """

    def page(rows: Sequence[Row]) -> list[Row]:
        return [(key_id, rewrap(table, old, new, key_id, wrapped)) for key_id, wrapped in rows]

    target = new.fingerprint
    after = table.begin(target, generation)
    total, done = sum(table.counts()), 0
    staged = table.stage(after, page, target, generation)
    while staged:
        done += len(staged)
        if on_progress is not None:
            on_progress(done, max(done, total))
        began = time.monotonic()
        after = staged[-1][0]
        staged = table.stage(after, page, target, generation)
        time.sleep(_PAUSE * (time.monotonic() - began))
    for _ in range(_PASSES):
        if len(table.stage(None, page, target, generation)) < PAGE:
            break
    table.swap(page, new.wrap_secret(secret), target, old.fingerprint, generation)
