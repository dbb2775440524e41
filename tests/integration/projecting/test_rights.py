"""Who may use a projection's tables on PostgreSQL, before it is built anew and after."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from dee_es import Engine
from dee_es.errors import StoreUnavailable
from projections import CONTACT_HISTORY, STEP_FUNNEL
from projections.audit_trail import AuditTrailV2
from tests.support.engines import open_engine, outreach
from tests.support.runs.busy import person, prepare
from tests.support.storage.postgres import FreshPostgres
from tests.support.versions.code import WiderRunList, engine_with

NAMES = ("run_list", "audit_trail", "contact_history", "step_funnel")
OLD = (AuditTrailV2(), CONTACT_HISTORY, STEP_FUNNEL)
_WORKS = "SELECT, INSERT, UPDATE, DELETE"


@pytest.fixture
def roles(postgres_url: str) -> Iterator[tuple[str, str]]:
    """Two that may log in, and nothing else."""
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        for role in ("day worker", "auditor"):
            name = psycopg.sql.Identifier(role)
            admin.execute(psycopg.sql.SQL("DROP ROLE IF EXISTS {}").format(name))
            admin.execute(psycopg.sql.SQL("CREATE ROLE {} LOGIN").format(name))
        yield "day worker", "auditor"


def _may(url: str, role: str, rights: str, *owned: str) -> str:
    """The URL under which the role has these rights on all tables that are there, and owns some."""
    name = psycopg.sql.Identifier(role)
    statements = [f"GRANT {rights} ON ALL TABLES IN SCHEMA public TO {{}}"]
    statements += [f"ALTER TABLE {table} OWNER TO {{}}" for table in owned]
    with psycopg.connect(url, autocommit=True) as admin:
        for each in statements:
            admin.execute(psycopg.sql.SQL(each).format(name))  # type: ignore[arg-type]
    return url.replace("//postgres:@", f"//{role.replace(' ', '%20')}@")


def test_who_works_with_a_projection_goes_on_while_its_owner_makes_it_anew(
    fresh_postgres: FreshPostgres, roles: tuple[str, str], tmp_path: Path
) -> None:
    """Of a version that was there, of one that is new, and with a table that is."""
    url, keys = fresh_postgres(), tmp_path / "keys.db"
    with engine_with(url, keys, lazy=OLD) as former:
        prepare(former)
        former.execute(outreach(), person(1))
    worker, auditor = roles
    works, audits = _may(url, worker, _WORKS), _may(url, auditor, "SELECT")
    at_work = open_engine(works, keys=keys)
    with engine_with(url, keys, run_list=WiderRunList()) as newer:
        told = 0

        def meanwhile(_: object) -> None:
            nonlocal told
            told += 1
            at_work.execute(outreach(), person(100 + told))

        newer.projections.rebuild("run_list", on_progress=meanwhile)
    with open_engine(url, keys=keys) as owner:
        for name in NAMES:
            owner.projections.rebuild(name, compare=name != "run_list")
    assert told
    _used(at_work, told + 1)
    with engine_with(works, keys, run_list=WiderRunList()) as newer:
        _used(newer, told + 2)
    with open_engine(audits, keys=keys) as reads:
        assert reads.list_runs().total == told + 3
        assert reads.get_contact_logs("contact_1")
        with pytest.raises(StoreUnavailable, match="permission denied for table"):
            reads.execute(outreach(), person(3))
    at_work.close()


def _used(engine: Engine, runs: int) -> None:
    run = engine.execute(outreach(), person(1_000 + runs))
    engine.tick()
    assert engine.list_runs().total == runs + 1
    assert engine.get_logs(run.id)
    assert engine.contact_at(person(1).id).runs
    assert engine.step_funnel(outreach().id)


def test_who_owned_the_former_table_may_use_the_one_that_another_made(
    fresh_postgres: FreshPostgres, roles: tuple[str, str], tmp_path: Path
) -> None:
    url, keys = fresh_postgres(), tmp_path / "keys.db"
    open_engine(url, keys=keys).close()
    worker, _ = roles
    works = _may(url, worker, _WORKS, "run_list_v1", "run_list_v1_counts")
    with open_engine(url, keys=keys) as other:
        other.projections.rebuild("run_list")
    with open_engine(works, keys=keys) as former:
        prepare(former)
        former.execute(outreach(), person(1))
        assert former.list_runs().total == 1
