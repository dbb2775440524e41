"""How connections to PostgreSQL are had: what a URL leaves open, how long they may take, why there
is none, and whether one is the same session from beginning to end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import psycopg

LEFT_OPEN: Final[dict[str, Any]] = {
    # Without any, OpenSSL asks on the terminal for the pass phrase of a client's key, whoever it is
    # that connects; a wrong one is refused. What has none takes no notice of it.
    "sslpassword": "not given",
}
"""Parameters that a URL may name."""
OURS: Final[dict[str, Any]] = {
    # Whatever the server, the database or the environment would have a client speak.
    "client_encoding": "UTF8",
}
"""Parameters that count whatever a URL says."""
HANDED_ON: Final = (
    "a pooler hands its connections on between transactions; PgBouncer needs pool_mode = session "
    "here, and DISCARD ALL as its server_reset_query"
)
_LEAST_S: Final = 2
"""Seconds for one host; libpq takes no less."""
_FAILURE: Final = re.compile(
    r"^- host: (?P<host>.*?), port: (?P<port>.*?), hostaddr: (?:None|'[^']*'): (?P<why>.*)$",
    re.MULTILINE,
)
_PID: Final = "SELECT pg_backend_pid()"


def named(given: Mapping[str, Any]) -> str:
    """What the database of a URL is called, without passwords."""
    if not given.get("dbname") and given.get("service"):
        return f"database of service {given['service']}"
    return f"database {given.get('dbname') or 'default'}"


def seconds_for(given: Mapping[str, Any], total_s: float) -> tuple[int, float]:
    """How many seconds each host of a URL may take, and how many that is for all of them: the last
    one has to have its turn although nobody answers at the others."""
    hosts = str(given.get("hostaddr") or given.get("host") or "").count(",") + 1
    each_s = int(given.get("connect_timeout") or 0)
    if each_s <= 0:
        each_s = int(total_s / hosts)
    each_s = max(_LEAST_S, each_s)
    return each_s, max(total_s, each_s * hosts)


def refusal(error: psycopg.Error) -> str:
    """Why there is no connection, of each host: the first line of what is said there, with server,
    user and database, no password."""
    text = str(error).strip()
    of_hosts = (
        found["why"] if "to server" in found["why"]
        else f"{found['why']} (host {found['host']}, port {found['port']})"
        for found in _FAILURE.finditer(text)
    )  # fmt: skip
    return "; ".join(dict.fromkeys(of_hosts)) or text.partition("\n")[0] or type(error).__name__


def is_direct(connection: psycopg.Connection[Any]) -> bool:
    """Whether the server itself is at the other end: a pooler makes up what it says of that."""
    return _pid(connection) == connection.info.backend_pid


def is_handed_on(one: psycopg.Connection[Any], other: psycopg.Connection[Any]) -> bool:
    """Whether a pooler gives what is one connection here to others between transactions.

    What `one` has at the server, `other` gets while it has a transaction; or `one` gets another.
    """
    first = _pid(one)
    with other.transaction():
        return _pid(other) == first or _pid(one) != first


def _pid(connection: psycopg.Connection[Any]) -> int:
    cursor = psycopg.Cursor(connection, row_factory=psycopg.rows.scalar_row)
    found = cursor.execute(_PID).fetchone()
    assert found is not None, "every session has one"
    return int(found)
