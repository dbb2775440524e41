"""What PostgreSQL answers instead of a result, in words that hold no values and no URLs."""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg_pool import PoolTimeout

from dee_es.adapters.postgres_waits import Unanswered

APPENDING: Final = "the append lock was not free within the lock timeout; try again"
TABLE_IN_USE: Final = (
    "another session has a table in a transaction that did not end within the lock timeout; end "
    "that (pg_stat_activity shows it), and try again"
)
MISFITS: Final = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.DatatypeMismatch,
    psycopg.errors.InvalidColumnReference,
    psycopg.IntegrityError,
)
"""What a table answers that is gone, whose columns or keys somebody has changed, or whose rows."""
LENT: Final = (
    psycopg.errors.DuplicatePreparedStatement,
    psycopg.errors.InvalidSqlStatementName,
)
"""What a connection answers on which others prepare statements, too, or take them away."""
BUSY: Final = "no connection was free within the connect timeout, or the server cannot be reached"
_TOO_LITTLE: Final = "53"
"""The class of errors of a server that is short of room, memory, connections or a limit."""


def is_lost(error: psycopg.Error) -> bool:
    """Whether the connection is gone: libpq says so without a code, a server that goes down with
    one of class 57P."""
    if isinstance(error, (Unanswered, PoolTimeout)):
        # To ask once more would take as long again.
        return False
    return error.sqlstate is None or error.sqlstate.startswith("57P")


def reason(error: psycopg.Error, locked: str) -> str:
    """What a fault means to whoever asked; `locked` is told of a lock that was not free."""
    match error:
        case psycopg.errors.LockNotAvailable():
            return locked
        case psycopg.errors.QueryCanceled():
            return "a statement took longer than the statement timeout and was cancelled"
        case psycopg.errors.ReadOnlySqlTransaction():
            return (
                "it can only be read from here: its server is a standby, or the server, database "
                "or role has default_transaction_read_only = on"
            )
        case psycopg.errors.ProtocolViolation():
            # That is how a pooler refuses; it says what it does not do, and never a value.
            return f"the server or a pooler before it refused: {error.diag.message_primary}"
        case Unanswered():
            return f"{error}; a commit under way may or may not have happened"
        case psycopg.errors.SerializationFailure():
            # Nothing else is serialised here: what writes takes the append lock first.
            return (
                "its server is a standby that had to go on with what it receives; try again, or "
                "raise its max_standby_streaming_delay"
            )
        case _ if (error.sqlstate or "").startswith(_TOO_LITTLE):
            # That names a limit or a file, and never a value.
            return f"the server has too little of something: {error.diag.message_primary}"
        case _ if is_lost(error):
            return (
                "the server cannot be reached or the connection was lost; a commit under way may "
                "or may not have happened"
            )
        case _:
            return f"the server refused ({state_of(error)})"


def state_of(error: psycopg.Error) -> str:
    """Kind and code of an error; its own text may hold values."""
    return f"{type(error).__name__}, SQLSTATE {error.sqlstate}"
