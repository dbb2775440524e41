"""`dee serve`: the web page and the HTTP API, and those who may sign in there."""

from __future__ import annotations

import logging
import sys
import webbrowser
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from dee_es.cli.options import chosen_format, format_options
from dee_es.cli.output import Column, say, write_csv, write_json, write_table
from dee_es.cli.session import Session, pass_session
from dee_es.errors import InvalidInput

if TYPE_CHECKING:
    from dee_es.config import EngineConfig
    from dee_es.web.security.users import Users
    from dee_es.web.settings import WebSettings

_log: Final = logging.getLogger("dee_es.web")
ROLES: Final = ("viewer", "operator", "admin")
_USER: Final = ("name", "role", "signsInBy")
_NEEDED: Final = ("argon2", "fastapi", "jinja2", "multipart", "uvicorn")
_role_option = click.option(
    "--role",
    type=click.Choice(ROLES),
    required=True,
    help="A viewer reads; an operator also acts; an admin also erases, rebuilds, sets policies.",
)


@click.group(invoke_without_command=True)
@click.option(
    "--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Where to listen."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    metavar="N",
    default=8765,
    show_default=True,
    help="0 is any free one.",
)
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="A name under which others reach the server; may be given several times.",
)
@click.option(
    "--trusted-proxy",
    "trusted_proxies",
    multiple=True,
    metavar="ADDRESS",
    help="A proxy, or a network of them, that says in X-Forwarded-For who comes through it; may be "
    "given several times.",
)
@click.option(
    "--max-upload",
    type=click.IntRange(1),
    metavar="MIB",
    default=50,
    show_default=True,
    help="Largest contacts file to take.",
)
@click.option(
    "--archive-place",
    "archive_places",
    multiple=True,
    metavar="PLACE",
    help="A folder or URL, beside that of the settings, that calls about archives may name; may be "
    "given several times.",
)
@click.option("--open", "open_page", is_flag=True, help="Open the page in a browser.")
@click.pass_context
def serve(
    ctx: click.Context,
    host: str,
    port: int,
    allowed_hosts: tuple[str, ...],
    trusted_proxies: tuple[str, ...],
    max_upload: int,
    archive_places: tuple[str, ...],
    open_page: bool,
) -> None:
    """Serve the web page and the HTTP API, until SIGTERM or Ctrl-C.

    Without users the server is for a machine that nobody else uses: it listens on this machine
    alone, whoever is on it may do everything, and every change is recorded under your name. Any
    other address needs users or tokens and --allowed-host, and a proxy with TLS before it.
    """
    _require_web()
    if ctx.invoked_subcommand is not None:
        return
    session: Session = ctx.obj
    from dee_es.bootstrap import open_call_events
    from dee_es.cli.logs import logging_to_stderr
    from dee_es.web.server import serve as run
    from dee_es.web.settings import MIB

    config = session.config(create=False)
    settings = replace(
        _settings(config),
        host=host,
        port=port,
        allowed_hosts=allowed_hosts,
        trusted_proxies=trusted_proxies,
        max_upload=max_upload * MIB,
    )
    settings = replace(settings, archive_places=(*settings.archive_places, *archive_places))

    def on_ready(url: str) -> None:
        _tell_ready(url, session, config, settings.local_actor)
        if open_page:
            webbrowser.open(url)

    with ExitStack() as stack:
        stack.enter_context(logging_to_stderr(False))
        engine = stack.enter_context(session.engine())
        if config.voice == "twilio":
            calls = stack.enter_context(open_call_events(engine, config, _callback_failed))
            settings = replace(settings, hooks=replace(settings.hooks, calls=calls))
        run(engine, settings, on_ready)
    say("stopped")


def _tell_ready(url: str, session: Session, config: EngineConfig, local_actor: str) -> None:
    """Say where the server is, and who may come in where nobody was told to."""
    say(f"serving on {url}; Ctrl-C stops it")
    if _users(session).known().empty:
        say(
            "without users it is for a machine that nobody else uses: whoever is on it may act "
            f"as {local_actor}, an admin; `dee serve user add` ends that"
        )
    if (nobody := _nobody_in_the_working_folder(config)) is not None:
        say(f"there is no {nobody}; DEE_USERS names where users are")
    sys.stdout.flush()


def _settings(config: EngineConfig) -> WebSettings:
    """What the settings of the database say about serving it."""
    from dee_es.bootstrap import actor_of, links_of, users_path
    from dee_es.web.hook_settings import HookSettings, webhook_keys
    from dee_es.web.settings import WebSettings

    return WebSettings(
        users_file=users_path(config),
        archive_places=() if config.archives is None else (config.archives,),
        local_actor=actor_of(config),
        hooks=HookSettings(webhook_keys(config.webhook_secret), links_of(config)),
    )


def _callback_failed(error: Exception) -> None:
    # Its text could hold what was said or pressed.
    _log.warning("callback_failed", extra={"error": type(error).__name__})


@serve.group()
def user() -> None:
    """Those who sign in with a password."""


@user.command("add")
@click.argument("name")
@_role_option
@pass_session
def add_user(session: Session, name: str, role: str) -> None:
    """Add a user, or give one another role and password.

    The password is asked for; in a pipe it is the first line.
    """
    from dee_es.web.security.roles import Role

    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    _users(session).add_user(name, Role(role), password)
    say(f"user {name} signs in as {role}; a server that runs without users is to be restarted")


@user.command("list")
@format_options
@pass_session
def list_users(session: Session, as_json: bool, as_csv: bool) -> None:
    """List users and tokens."""
    shape = chosen_format(as_json, as_csv)
    known = _users(session).known()
    rows = [(each.name, each.role.value, "password") for each in known.users.values()]
    rows += [(each.name, each.role.value, "token") for each in known.tokens.values()]
    shown = [dict(zip(_USER, row, strict=True)) for row in sorted(rows)]
    if shape == "json":
        write_json(shown)
    elif shape == "csv":
        write_csv(_USER, shown)
    else:
        write_table((Column("NAME", 8), Column("ROLE"), Column("SIGNS IN BY")), sorted(rows))


@user.command("remove")
@click.argument("name")
@pass_session
def remove_user(session: Session, name: str) -> None:
    """Forget a user or a token; its sessions end at once."""
    if not _users(session).remove(name):
        raise InvalidInput("name", f"there is no user and no token {name!r}")
    say(f"{name} can no longer sign in")


@serve.command()
@click.argument("name")
@_role_option
@pass_session
def token(session: Session, name: str, role: str) -> None:
    """Make a token for a program, and print it: it is shown this once.

    A token of the same name is replaced. Programs send it as `Authorization: Bearer TOKEN`.
    """
    from dee_es.web.security.roles import Role

    click.echo(_users(session).add_token(name, Role(role)))


def _nobody_in_the_working_folder(config: EngineConfig) -> Path | None:
    """The file of users that is looked for where the server was started, if it is not there: those
    who were added in another folder are not known here."""
    from dee_es.bootstrap import sqlite_path, users_path

    path = users_path(config).absolute()
    named = config.users is not None or sqlite_path(config.database) is not None
    return None if named or path.exists() else path


def _users(session: Session) -> Users:
    from dee_es.bootstrap import users_path
    from dee_es.web.security.users import Users

    return Users(users_path(session.config(create=False)))


def _require_web() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise InvalidInput(
            "serve", f"{', '.join(missing)} not installed; run `pip install 'dee-es[web]'`"
        )
