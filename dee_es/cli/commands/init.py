"""`dee init`: makes a database, its key store and its master key."""

from __future__ import annotations

from datetime import datetime

import click

from dee_es.cli.output import write_fields
from dee_es.cli.session import Session, pass_session
from dee_es.cli.times import iso, time_option
from dee_es.config import without_password
from dee_es.errors import StoreUnavailable


@click.command()
@click.option(
    "--clock",
    type=click.Choice(["system", "manual"]),
    help="system follows wall time; manual stands still until it is moved, for tests and"
    " simulations.  [default: system]",
)
@click.option(
    "--epoch",
    metavar="TIME",
    callback=time_option,
    help="The time of tick 0 (ISO 8601 with zone).  [default: now]",
)
@click.option(
    "--resolution-ms",
    type=click.IntRange(min=1),
    help="Length of a tick in milliseconds.  [default: 1000]",
)
@click.option(
    "--personal-data",
    type=click.Choice(["encrypted", "off"]),
    help="encrypted: under a key for each contact. off: in plain; nobody can ever be erased."
    "  [default: encrypted]",
)
@pass_session
def init(
    session: Session,
    clock: str | None,
    epoch: datetime | None,
    resolution_ms: int | None,
    personal_data: str | None,
) -> None:
    """Make a new database.

    Clock, epoch, resolution and whether personal data is encrypted are fixed from then on. The
    contacts' keys and the master key that protects them are made too: keep a copy of the master
    key, and a backup of the keys (`dee keys backup`), for without both nothing personal in the
    database can ever be read again.
    """
    config = session.config(
        clock=clock,
        epoch=epoch,
        resolution_ms=resolution_ms,
        personal_data=personal_data,
        create=True,
    )
    from dee_es.bootstrap import Engine, is_initialised, keys_url, master_key_path
    from dee_es.engine.keys import PLAIN

    # Looked up before anything is made: a missing setting leaves no half of a database behind.
    keys, master = keys_url(config), master_key_path(config)
    if is_initialised(config):
        raise StoreUnavailable(
            f"there is a database at {without_password(config.database)} already; use it as it is, "
            "or name another with --database"
        )
    with Engine(config) as engine:
        now = engine.now()
        write_fields(
            [
                ("database", without_password(config.database)),
                ("keys", without_password(keys)),
                ("master key", "from DEE_MASTER_KEY" if master is None else str(master)),
                ("clock", f"{engine.clock.kind}, ticks of {now.resolution_ms} ms"),
                ("tick 0", iso(now.epoch)),
                ("personal data", "encrypted" if engine.keys.encrypts else "OFF: stored in plain"),
            ]
        )
        if not engine.keys.encrypts:
            click.echo(f"dee: warning: {PLAIN}", err=True)
