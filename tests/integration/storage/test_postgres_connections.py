"""What stands between dee-es and its PostgreSQL server: several hosts, poolers, certificates."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from dee_es.adapters import postgres_connections as connections
from dee_es.adapters.keys.postgres import PostgresKeyTable
from dee_es.adapters.storage.postgres import open_postgres
from dee_es.adapters.storage.postgres.connecting import Bounds
from dee_es.adapters.storage.postgres.database import PostgresDatabase
from dee_es.errors import StoreUnavailable
from tests.support.storage.events import committed_at, run, unit
from tests.support.storage.hosts import begins_tls, hangs_up, host, pooler, says_nothing
from tests.support.storage.postgres import FreshPostgres

make = psycopg.conninfo.make_conninfo
_END_OTHERS = """
SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = %s
"""


def _store(url: str) -> None:
    open_postgres(url, connect_timeout_s=1)[0].close()


def _keys(url: str) -> None:
    PostgresKeyTable(url).close()


OPENED = pytest.mark.parametrize("opened", [_store, _keys], ids=["log", "keys"])


@OPENED
def test_of_several_hosts_it_is_told_what_each_says(
    opened: Callable[[str], None], fresh_postgres: FreshPostgres
) -> None:
    """The cause is often with the first, and the last one is only not there."""
    reached = psycopg.conninfo.conninfo_to_dict(fresh_postgres())["host"]
    url = make(host=f"{reached},127.0.0.1", port="5432,1", dbname="x", user="nobody", password="pw")
    with pytest.raises(StoreUnavailable) as refused:
        opened(url)
    assert 'role "nobody" does not exist; ' in str(refused.value)
    assert "port 1 failed: Connection refused" in str(refused.value)
    assert "pw" not in str(refused.value)


@OPENED
def test_a_host_that_says_nothing_does_not_keep_from_the_next(
    opened: Callable[[str], None], fresh_postgres: FreshPostgres
) -> None:
    """As the machine of a former primary that was switched off."""
    url = fresh_postgres()
    reached = psycopg.conninfo.conninfo_to_dict(url)["host"]
    with host(says_nothing) as silent:
        opened(make(url, host=f"127.0.0.1,{reached}", port=f"{silent.port},5432"))
        assert silent.calls


def test_hosts_that_all_say_nothing_are_told(fresh_postgres: FreshPostgres) -> None:
    with host(says_nothing) as silent:
        url = make(fresh_postgres(), host="127.0.0.1,127.0.0.1", port=f"{silent.port},1")
        with pytest.raises(
            StoreUnavailable, match=rf"expired \(host '127.0.0.1', port '{silent.port}'"
        ):
            _store(url)


def test_what_a_url_says_of_time_counts() -> None:
    assert connections.seconds_for({}, 5.0) == (5, 5.0)
    assert connections.seconds_for({"host": "a,b"}, 5.0) == (2, 5.0)
    assert connections.seconds_for({"host": "a,b,c"}, 5.0) == (2, 6.0)
    assert connections.seconds_for({"host": "a,b", "connect_timeout": "10"}, 5.0) == (10, 20.0)
    assert connections.seconds_for({"connect_timeout": "0"}, 5.0) == (5, 5.0)


@OPENED
def test_what_a_service_is_called_is_told(opened: Callable[[str], None]) -> None:
    with pytest.raises(StoreUnavailable, match=r'database of service absent.* "absent" not found'):
        opened("postgresql:///?service=absent")


def test_who_has_the_database_open_is_told_why_it_gets_no_connection_any_more(
    fresh_postgres: FreshPostgres, postgres_url: str
) -> None:
    """As when a password was changed, or a certificate has expired."""
    url = fresh_postgres()
    store, _ = open_postgres(url, connect_timeout_s=1)
    assert store.log_head().position == 0
    name = str(psycopg.conninfo.conninfo_to_dict(url)["dbname"])
    allow = psycopg.sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(allow.format(psycopg.sql.Identifier(name), psycopg.sql.SQL("false")))
        admin.execute(_END_OTHERS, (name,))
        with pytest.raises(StoreUnavailable, match="is not currently accepting connections"):
            store.log_head()
        admin.execute(allow.format(psycopg.sql.Identifier(name), psycopg.sql.SQL("true")))
    assert store.log_head().position == 0
    store.close()


def test_each_look_tries_anew_however_long_the_server_has_been_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pool by itself waits twice as long each time: after an hour, for another hour."""
    monkeypatch.setattr(connections, "_LEAST_S", 1)
    with host(hangs_up) as away:
        url = make(host="127.0.0.1", port=away.port, dbname="x")
        database = PostgresDatabase(url, Bounds(connect_timeout_s=0.2))
        for _ in range(4):
            before = away.calls
            with pytest.raises(StoreUnavailable, match="server closed the connection"):
                database.query("SELECT 1")
            assert away.calls > before
        database.close()


# --- poolers --------------------------------------------------------------------------------------


@OPENED
def test_a_pooler_that_hands_connections_on_is_refused_at_once(
    opened: Callable[[str], None], fresh_postgres: FreshPostgres
) -> None:
    """What is set for a session, and the locks of one, would be others' without any error: a newer
    pooler keeps count of prepared statements."""
    with (
        pooler(fresh_postgres(), by_transaction=True) as url,
        pytest.raises(StoreUnavailable, match="pool_mode = session"),
    ):
        opened(url)


def test_a_pooler_that_keeps_connections_apart_is_as_good_as_the_server(
    fresh_postgres: FreshPostgres,
) -> None:
    with pooler(fresh_postgres(), by_transaction=False) as url:
        store, _ = open_postgres(url)
        assert store.commit([unit(run())]) == [committed_at(1)]
        store.close()
        table = PostgresKeyTable(url)
        assert table.insert([(b"k" * 16, b"wrapped")], 0)
        table.close()


def test_what_a_pooler_does_not_do_is_told_in_its_words(fresh_postgres: FreshPostgres) -> None:
    url = fresh_postgres()
    store, _ = open_postgres(url)
    with psycopg.connect(url) as admin:
        admin.execute(
            "CREATE FUNCTION refuse() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN"
            " RAISE EXCEPTION 'no transactions here' USING ERRCODE = 'protocol_violation'; END $$"
        )
    with pytest.raises(StoreUnavailable, match="a pooler before it refused: no transactions here"):
        store.database.query("SELECT refuse()")
    store.close()


# --- certificates ---------------------------------------------------------------------------------


def _certificate(folder: Path) -> Path:
    """Of another key: it is never compared, since that of the test cannot be read."""
    other = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "client")])
    begun = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name)
        .public_key(other.public_key()).serial_number(1)
        .not_valid_before(begun).not_valid_after(begun + timedelta(days=1))
        .sign(other, hashes.SHA256())
    )  # fmt: skip
    path = folder / "client.crt"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return path


_OPEN = "import sys; from dee_es.adapters.{} as opened; opened(sys.argv[1])"


@pytest.mark.parametrize(
    "opened", ["storage.postgres import open_postgres", "keys.postgres import PostgresKeyTable"]
)
def test_nobody_is_asked_for_the_pass_phrase_of_a_key(opened: str, tmp_path: Path) -> None:
    """A worker has no terminal, and whoever has one would be asked for each connection."""
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"hidden"),
    )
    path = tmp_path / "client.key"
    path.write_bytes(key)
    path.chmod(0o600)
    with host(begins_tls) as server:
        url = make(host="127.0.0.1", port=server.port, dbname="x", sslmode="require",
                   sslkey=str(path), sslcert=str(_certificate(tmp_path)))  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", _OPEN.format(opened), url],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True,
            check=False,
        )  # fmt: skip
    assert "could not load private key file" in done.stderr
    assert "pass phrase" not in done.stderr + done.stdout
