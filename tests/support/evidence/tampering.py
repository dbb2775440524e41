"""What somebody could do to a log who owns its database: named cases, each on a handle to it.

A case changes the database by raw SQL, or a place of checkpoints by its files, and says what has to
be found. `shows` is the least that has to be looked at to find it: the chain of a run, the whole
log with what the write side keeps about it, or a signed checkpoint; `places` are cases in which not
the database was changed but a place of checkpoints.
"""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from dee_es.core.evidence import chain
from dee_es.core.ids import SYSTEM_STREAM
from tests.support.evidence.owner import INSERT, THIS, Kind, Owner, Row, other, resealed

Shows = Literal["chain", "log", "checkpoint", "places"]


@dataclass(frozen=True)
class Case:
    """A way to tamper; `tamper` returns what the first problem that is told has to say."""

    name: str
    shows: Shows
    tamper: Callable[[Owner], str]
    kinds: tuple[Kind, ...] = ("sqlite", "postgres")


CASES: list[Case] = []
Tamper = Callable[[Owner], str]


def case(shows: Shows, *kinds: Kind) -> Callable[[Tamper], Tamper]:
    """Register a case under its function's name."""

    def register(tamper: Tamper) -> Tamper:
        found = Case(tamper.__name__, shows, tamper)
        CASES.append(replace(found, kinds=kinds) if kinds else found)
        return tamper

    return register


@case("chain")
def name_changed(owner: Owner) -> str:
    row = owner.victim[2]
    owner.set(row, "topic", "RunPaused")
    return f"{row.named()}: the checksum does not match"


@case("chain")
def stream_changed(owner: Owner) -> str:
    row = owner.victim[2]
    owner.set(row, "originator_id", "run_other")
    return f"run_other entry 3 (position {row.position}): entry 1 is missing before it"


@case("chain")
def version_changed(owner: Owner) -> str:
    row = owner.victim[2]
    owner.set(row, "originator_version", 77)
    return f"{row._replace(version=77).named()}: entry 3 is missing before it"


@case("log")
def position_changed(owner: Owner) -> str:
    row = owner.victim[2]
    owner.set(row, "notification_id", 7777)
    return f"position {row.position} is missing; the next entry found is"


@case("log")
def position_before_all(owner: Owner) -> str:
    row = owner.victim[2]
    owner.set(row, "notification_id", -7)
    return f"position -7 is none of the log's: {row._replace(position=-7).named()}"


@case("chain")
def state_changed(owner: Owner) -> str:
    row = owner.victim[2]
    owner.set(row, "state", row.state[:-1] + bytes([row.state[-1] ^ 1]))
    return f"{row.named()}: the checksum does not match"


@case("chain")
def state_cut_short(owner: Owner) -> str:
    row = owner.victim[2]
    owner.set(row, "state", row.state[:40])
    return f"{row.named()}: the stored state is malformed"


@case("chain")
def format_tag_changed(owner: Owner) -> str:
    row = owner.victim[2]
    owner.set(row, "state", b"DEE2" + row.state[4:])
    return f"{row.named()}: the stored state is malformed"


@case("log", "sqlite")
def stream_no_longer_a_text(owner: Owner) -> str:
    row = owner.victim[2]
    owner.set(row, "originator_id", row.stream.encode())
    return f"(position {row.position}): a column of it holds what the engine never writes"


@case("chain", "sqlite")
def name_no_longer_a_text(owner: Owner) -> str:
    row = owner.victim[2]
    owner.change((f"UPDATE stored_events SET topic = CAST(x'ff41' AS TEXT) {THIS}", row.this))
    return f"{row.named()}: a column of it holds what the engine never writes"


@case("log", "sqlite")
def version_no_longer_a_number(owner: Owner) -> str:
    row = owner.victim[2]
    owner.set(row, "originator_version", "three")
    return f"{row.stream} entry three (position {row.position}): a column of it holds"


@case("chain")
def first_of_a_run_deleted(owner: Owner) -> str:
    row = owner.victim[0]
    owner.delete(row)
    return f"position {row.position} is missing; the next entry found is"


@case("chain")
def middle_of_a_run_deleted(owner: Owner) -> str:
    row = owner.victim[3]
    owner.delete(row)
    return f"position {row.position} is missing; the next entry found is"


@case("chain")
def tail_of_a_run_deleted(owner: Owner) -> str:
    rows = owner.victim[4:]
    owner.delete(*rows)
    return f"position {rows[0].position} is missing; the next entry found is"


@case("log")
def beginning_of_the_log_deleted(owner: Owner) -> str:
    owner.delete(owner.rows()[0])
    return f"{SYSTEM_STREAM} entry 1 (position 1) is missing"


@case("log")
def end_of_the_log_deleted(owner: Owner) -> str:
    rows = owner.rows()
    owner.delete(*rows[-3:])
    return f"positions {len(rows) - 2} to {len(rows)} are missing from the log"


@case("chain")
def middle_deleted_and_positions_closed(owner: Owner) -> str:
    gone, after = owner.victim[2:4]
    owner.rewrite([row for row in owner.rows() if row != gone])
    moved = after._replace(position=after.position - 1)
    return f"{moved.named()}: entry 3 is missing before it"


@case("chain")
def tail_of_a_run_deleted_and_positions_closed(owner: Owner) -> str:
    gone = owner.victim[4:]
    heads = owner.query("SELECT version, checksum FROM heads WHERE stream_id = ?", gone[0].stream)
    owner.rewrite([row for row in owner.rows() if row not in gone])
    owner.change(
        ("UPDATE heads SET version = ?, checksum = ? WHERE stream_id = ?",
         (*heads[0], gone[0].stream)),
    )  # fmt: skip
    return "what is stored is not what was signed"


@case("checkpoint")
def end_of_the_log_cut_with_all_that_knows_of_it(owner: Owner) -> str:
    rows = owner.rows()
    signed = owner.size() or len(rows)
    owner.rewrite(rows[: signed - 4])
    return f"positions {signed - 3} to {signed} are missing at the end"


@case("checkpoint")
def positions_swapped(owner: Owner) -> str:
    rows = owner.rows()
    one = owner.victim[-1]
    two = rows[one.position]
    assert one.stream != two.stream
    _swap(owner, "notification_id", one, two)
    return "what is stored is not what was signed"


@case("log")
def positions_swapped_in_a_run(owner: Owner) -> str:
    one, two = owner.victim[1:3]
    _swap(owner, "notification_id", one, two)
    return f"{two._replace(position=one.position).named()}: entry 2 is missing before it"


@case("chain")
def versions_swapped(owner: Owner) -> str:
    one, two = owner.victim[1:3]
    _swap(owner, "originator_version", one, two)
    return f"{one._replace(version=3).named()}: entry 2 is missing before it"


@case("chain")
def states_swapped(owner: Owner) -> str:
    one, two = owner.victim[1:3]
    _swap(owner, "state", one, two)
    return f"{one.named()}: the previous checksum is not that of the entry before it"


@case("chain")
def states_swapped_between_runs(owner: Owner) -> str:
    one, two = owner.victim[1], owner.rows(owner.runs()[4])[1]
    _swap(owner, "state", one, two)
    return f"{one.named()}: the previous checksum is not that of the entry before it"


def _swap(owner: Owner, column: str, one: Row, two: Row) -> None:
    """Swap the values of a column, through one that nothing else has: keys are unique."""
    at = ("notification_id", "originator_id", "originator_version", "topic", "state").index(column)
    aside: object = b"" if column == "state" else -99
    steps = ((aside, one), (one[at], two), (two[at], one))
    if column == "notification_id":
        statement = f"UPDATE stored_events SET {column} = ? {THIS}"
        owner.change(*((statement, (value, *row.this)) for value, row in steps))
    else:
        statement = f"UPDATE stored_events SET {column} = ? WHERE notification_id = ?"
        owner.change(*((statement, (value, row.position)) for value, row in steps))


@case("chain")
def moved_to_another_run(owner: Owner) -> str:
    row, others = owner.victim[-1], owner.rows(owner.runs()[3])
    moved = row._replace(stream=others[0].stream, version=len(others) + 1)
    owner.change(
        (f"UPDATE stored_events SET originator_id = ?, originator_version = ? {THIS}",
         (*moved.this, *row.this)),
    )  # fmt: skip
    return f"(position {row.position}): "


@case("log")
def duplicated_at_its_position(owner: Owner) -> str:
    row = owner.victim[2]
    owner.without_constraints()
    owner.change((INSERT, row))
    return f"position {row.position} is taken twice"


@case("chain")
def duplicated_at_the_end(owner: Owner) -> str:
    row, count = owner.victim[2], len(owner.rows())
    owner.without_constraints()
    owner.change(
        (INSERT, row._replace(position=count + 1)),
        ("UPDATE log_head SET position = ?", (count + 1,)),
    )
    return f"{row._replace(position=count + 1).named()}: entry"


@case("log")
def put_in_behind_the_end(owner: Owner) -> str:
    row, count = owner.victim[-1], len(owner.rows())
    version = row.version + 1
    before = chain.unseal(row.state, "").checksum
    _, state = chain.seal(row.stream, version, "RunPaused", before, b"\0\0\0\0")
    owner.change((INSERT, (count + 1, row.stream, version, "RunPaused", state)))
    return f"the log's head says that it ends at position {count}, before {row.stream} entry"


@case("chain")
def run_removed(owner: Owner) -> str:
    rows = owner.victim
    owner.delete(*rows)
    return f"position {rows[0].position} is missing; the next entry found is"


@case("log")
def run_removed_with_its_head(owner: Owner) -> str:
    rows = owner.victim
    owner.delete(*rows)
    owner.change(("DELETE FROM heads WHERE stream_id = ?", (rows[0].stream,)))
    return f"position {rows[0].position} is missing; the next entry found is"


@case("checkpoint")
def run_removed_without_a_trace(owner: Owner) -> str:
    gone = owner.victim[0].stream
    owner.rewrite([row for row in owner.rows() if row.stream != gone])
    return "what is stored is not what was signed"


@case("chain")
def entry_recomputed(owner: Owner) -> str:
    rows = owner.victim
    changed = resealed(rows, lambda row, p: other(p) if row.version == 1 else p)[0]
    assert changed.state != rows[0].state
    owner.set(rows[0], "state", changed.state)
    return f"{rows[1].named()}: the previous checksum is not that of the entry before it"


@case("checkpoint")
def run_recomputed(owner: Owner) -> str:
    of = owner.victim[0].stream
    owner.rewrite(resealed(owner.rows(), lambda row, p: other(p) if row.stream == of else p))
    return "what is stored is not what was signed"


@case("checkpoint")
def log_recomputed(owner: Owner) -> str:
    def change(row: Row, payload: bytes) -> bytes:
        return other(payload) if row.stream.startswith("run_") else payload

    owner.rewrite(resealed(owner.rows(), change))
    return "what is stored is not what was signed"


@case("checkpoint")
def log_recomputed_without_a_run(owner: Owner) -> str:
    gone = owner.victim[0].stream
    kept = [row for row in owner.rows() if row.stream != gone]
    owner.rewrite(resealed(kept, lambda _, payload: payload))
    return "what is stored is not what was signed"


@case("checkpoint")
def log_recomputed_from_its_beginning(owner: Owner) -> str:
    rows = owner.rows()
    old, new = b'"command":"init"', b'"command":"Init"'
    owner.rewrite(resealed(rows, lambda row, p: p.replace(old, new) if row.position == 1 else p))
    return "is not signed by dee-es/"


@case("log")
def head_removed(owner: Owner) -> str:
    row = owner.victim[-1]
    owner.change(("DELETE FROM heads WHERE stream_id = ?", (row.stream,)))
    return ": the stream's head is missing"


@case("log")
def head_with_another_checksum(owner: Owner) -> str:
    row = owner.victim[-1]
    owner.change(("UPDATE heads SET checksum = ? WHERE stream_id = ?", (bytes(32), row.stream)))
    return f"{row.stream} entry {row.version}: the last entry is not the one"


@case("log")
def head_set_back(owner: Owner) -> str:
    row = owner.victim[-1]
    owner.change(("UPDATE heads SET version = version - 1 WHERE stream_id = ?", (row.stream,)))
    return f"{row.stream} entry {row.version - 1}: the last entry is not the one"


@case("log")
def head_set_forward(owner: Owner) -> str:
    row = owner.victim[-1]
    owner.change(("UPDATE heads SET version = version + 1 WHERE stream_id = ?", (row.stream,)))
    said = f"entries {row.version + 1} to {row.version + 1} are missing at the end"
    return f"{row.stream} entry {row.version + 1}: {said}"


@case("log")
def log_s_head_set_back(owner: Owner) -> str:
    last = owner.rows()[-1]
    owner.change(("UPDATE log_head SET position = position - 1", ()))
    return f"it ends at position {last.position - 1}, before {last.named()}"


@case("log")
def log_s_head_set_forward(owner: Owner) -> str:
    count = len(owner.rows())
    owner.change(("UPDATE log_head SET position = position + 2", ()))
    return f"positions {count + 1} to {count + 2} are missing from the log"


# --- cases of places ------------------------------------------------------------------------------


def _older_in_place(owner: Owner, git: bool) -> str:
    older, size = min(owner.folder.glob("checkpoint-*")), owner.size()
    owner.replace_note(size, older.read_text(), git=git)
    return f"the checkpoint of {size:,} entries is one of"


def _fork_in_place(owner: Owner, git: bool) -> str:
    size = owner.size()
    owner.replace_note(size, owner.signed(size, bytes(32)), git=git)
    return f"the checkpoint of {size:,} entries is not that of"


@case("places")
def older_checkpoint_in_its_place(owner: Owner) -> str:
    return _older_in_place(owner, git=False)


@case("places")
def older_checkpoint_in_its_place_in_git(owner: Owner) -> str:
    return _older_in_place(owner, git=True)


@case("places")
def fork_in_its_place(owner: Owner) -> str:
    return _fork_in_place(owner, git=False)


@case("places")
def fork_in_its_place_in_git(owner: Owner) -> str:
    return _fork_in_place(owner, git=True)


@case("places")
def fork_of_a_size_between(owner: Owner) -> str:
    size = owner.size() - 2
    owner.replace_note(size, owner.signed(size, bytes(32)))
    return "what is stored is not what was signed"


@case("places")
def newest_checkpoint_missing(owner: Owner) -> str:
    size = owner.size()
    owner.newest().unlink()
    return f"the checkpoint of {size:,} entries is missing there"


@case("places")
def all_checkpoints_missing_in_git(owner: Owner) -> str:
    shutil.rmtree(owner.repository)
    return "entries is missing there; the newest is of 0"


@case("places")
def checkpoint_with_another_root(owner: Owner) -> str:
    lines = owner.newest().read_text().split("\n")
    lines[2] = base64.b64encode(bytes(32)).decode()
    owner.newest().write_text("\n".join(lines))
    return "is not signed by dee-es/"


@case("places")
def checkpoint_with_a_forged_signature(owner: Owner) -> str:
    head, _, encoded = owner.newest().read_text().rstrip("\n").rpartition(" ")
    held = bytearray(base64.b64decode(encoded))
    held[-1] ^= 1
    owner.newest().write_text(f"{head} {base64.b64encode(held).decode()}\n")
    return "is not signed by dee-es/"


@case("places")
def checkpoint_of_another_log(owner: Owner) -> str:
    size = owner.size()
    owner.replace_note(size, owner.signed(size, bytes(32), "dee-es/another"))
    return f"the checkpoint of {size:,} entries is of another log"
