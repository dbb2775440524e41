"""Wrapped keys in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock

from dee_es.adapters.keys.key_table import (
    PAGE,
    GenerationMoved,
    Opening,
    Rewrap,
    RotationReplaced,
    Row,
    Snapshot,
    TableState,
)
from dee_es.errors import StoreUnavailable


class MemoryKeyTable:
    """A `KeyTable` that is forgotten with the process."""

    where = "the key store in memory"

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes | None] = {}
        self._stage: dict[bytes, bytes | None] = {}
        self._secret: bytes | None = None
        self._destroyed = 0
        self._generation = 0
        self._target: bytes | None = None
        self._retired: set[bytes] = set()
        self._notes: dict[str, bytes] = {}
        self._open = True
        self._lock = Lock()

    def opening(self, make: Callable[[], bytes] | None) -> Opening:
        """See `KeyTable.opening`."""
        with self._using():
            if self._secret is None and make is not None:
                self._secret = make()
            return Opening(self._secret, self._state())

    def state(self) -> TableState:
        """See `KeyTable.state`."""
        with self._using():
            return self._state()

    def insert(self, rows: Sequence[tuple[bytes, bytes]], generation: int) -> bool:
        """See `KeyTable.insert`."""
        with self._using():
            self._require(generation)
            if any(key_id in self._rows for key_id, _ in rows):
                return False
            self._rows.update(rows)
            return True

    def add(self, rows: Sequence[Row], generation: int) -> int:
        """See `KeyTable.add`."""
        with self._using():
            self._require(generation)
            missing = {key_id: key for key_id, key in rows if key_id not in self._rows}
            self._rows.update(missing)
            return len(missing)

    def fetch(self, key_ids: Sequence[bytes]) -> Mapping[bytes, bytes | None]:
        """See `KeyTable.fetch`."""
        with self._using():
            return {known: self._rows[known] for known in key_ids if known in self._rows}

    def destroy(self, key_id: bytes) -> bool:
        """See `KeyTable.destroy`."""
        with self._using():
            if key_id not in self._rows:
                return False
            self._empty(key_id)
            self._destroyed += 1
            return True

    def bury(self, key_ids: Sequence[bytes]) -> int:
        """See `KeyTable.bury`."""
        with self._using():
            alive = [key for key in dict.fromkeys(key_ids) if self._rows.get(key, b"") is not None]
            for key_id in alive:
                self._empty(key_id)
            self._destroyed += len(alive)
            return len(alive)

    def counts(self) -> tuple[int, int]:
        """See `KeyTable.counts`."""
        with self._using():
            held = sum(key is not None for key in self._rows.values())
            return held, len(self._rows) - held

    def set_note(self, name: str, value: bytes) -> None:
        """See `KeyTable.set_note`."""
        with self._using():
            self._notes[name] = value

    def note(self, name: str) -> bytes | None:
        """See `KeyTable.note`."""
        with self._using():
            return self._notes.get(name)

    def retired(self, fingerprint: bytes) -> bool:
        """See `KeyTable.retired`."""
        with self._using():
            return fingerprint in self._retired

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """See `KeyTable.snapshot`."""
        with self._using():
            rows = sorted(self._rows.items())
            opening = Opening(self._secret, self._state())
        pages = (rows[start : start + PAGE] for start in range(0, len(rows), PAGE))
        yield Snapshot(opening, len(rows), pages)

    def begin(self, target: bytes, generation: int) -> bytes:
        """See `KeyTable.begin`."""
        with self._using():
            self._require(generation)
            if self._target != target:
                self._stage, self._target = {}, target
            return max(self._stage, default=b"")

    def rotating(self) -> bool:
        """See `KeyTable.rotating`."""
        with self._using():
            return self._target is not None

    def stage(
        self, after: bytes | None, rewrap: Rewrap, target: bytes, generation: int
    ) -> list[Row]:
        """See `KeyTable.stage`."""
        with self._using():
            self._require(generation, target)
            missing = sorted(self._rows.keys() - self._stage.keys())
            page = [(each, self._rows[each]) for each in missing if each > (after or b"")][:PAGE]
            self._stage.update(rewrap(page))
            return page

    def swap(
        self, rewrap: Rewrap, secret: bytes, target: bytes, retiring: bytes, generation: int
    ) -> None:
        """See `KeyTable.swap`."""
        with self._using():
            self._require(generation, target)
            missing = self._rows.keys() - self._stage.keys()
            self._stage.update(rewrap([(each, self._rows[each]) for each in missing]))
            self._rows, self._stage = self._stage, {}
            self._secret, self._target = secret, None
            self._generation += 1
            self._retired.add(retiring)

    def clear(self) -> None:
        """See `KeyTable.clear`: there are no files."""

    def close(self) -> None:
        """See `KeyTable.close`."""
        with self._lock:
            self._open = False

    def _state(self) -> TableState:
        return TableState(self._destroyed, self._generation)

    def _empty(self, key_id: bytes) -> None:
        self._rows[key_id] = None
        if key_id in self._stage:
            self._stage[key_id] = None

    def _require(self, generation: int, target: bytes | None = None) -> None:
        if generation != self._generation:
            raise GenerationMoved
        if target is not None and target != self._target:
            raise RotationReplaced

    @contextmanager
    def _using(self) -> Iterator[None]:
        with self._lock:
            if not self._open:
                raise StoreUnavailable(f"{self.where} was closed; open it again")
            yield
