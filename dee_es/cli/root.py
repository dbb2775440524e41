"""`dee` itself: the global options, the table of commands, and how faults are told."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, TextIO

import click

from dee_es.cli.lazy import Lazy, LazyGroup
from dee_es.cli.session import Session
from dee_es.cli.text import one_line, printable_lines
from dee_es.errors import DeeError, PlanValidationError, RebuildRefused

INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141
"""What a program that SIGPIPE ended has: its reader left, which is no fault of either."""

_LISTED: Final = (PlanValidationError, RebuildRefused)
"""Errors that hold a list, a line each."""

_COMMANDS: Final = {
    "init": Lazy("init:init", "Make a new database."),
    "plan": Lazy("plan:plan", "Validate, publish and show plans, and their funnels."),
    "template": Lazy("template:template", "Publish, show and preview message templates."),
    "script": Lazy("script:script", "Publish and show call scripts."),
    "sender": Lazy("sender:sender", "Publish and show who messages come from."),
    "policy": Lazy("policy:policy", "Validate, publish and show the policy of all sends."),
    "execute": Lazy("execute:execute", "Start a run of a plan for one contact."),
    "enroll": Lazy("enroll:enroll", "Start runs of a plan for all contacts of a CSV file."),
    "runs": Lazy("runs:runs", "List runs; show, pause, resume, cancel, retry or resolve one."),
    "history": Lazy("history:history", "Show what happened in a run, in order."),
    "contact": Lazy("contact:contact", "Show and suppress contacts; record consent."),
    "events": Lazy("events:events", "Take in what happened to messages and calls; event schemas."),
    "explain": Lazy("explain:explain", "Tell why a run does what it does."),
    "debug": Lazy("debug:debug", "Step through a run, and ask what if."),
    "replay": Lazy("replay:replay", "Decide runs again from the log, and compare."),
    "audit": Lazy(
        "audit:audit", "Search the audit trail; verify that the log is what was written."
    ),
    "archive": Lazy("archive:archive", "Take ended runs out of the log into verified files."),
    "hold": Lazy("hold:hold", "Keep runs and contacts from being erased or archived."),
    "keys": Lazy("keys:keys", "Look after the contacts' keys: status, backup, restore, rotation."),
    "report": Lazy("report:report", "Report on what was sent, and whether it was allowed."),
    "projections": Lazy("projections:projections", "Show, rebuild, verify and mend projections."),
    "tick": Lazy("clock:tick", "Do everything that is due now, once."),
    "run-until": Lazy("clock:run_until", "Move a manual clock ahead, doing what becomes due."),
    "worker": Lazy("worker:worker", "Do what becomes due, until stopped."),
    "serve": Lazy("serve:serve", "Serve the web page and the HTTP API; users and tokens."),
    "health": Lazy("health:health", "Show how the database and its projections stand."),
}


class _Root(LazyGroup):
    """The outermost group: every fault of a command passes here on its way out."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a fault becomes one line and an exit code."""
        try:
            done = super().invoke(ctx)
            # What cannot be written is to be noticed here, not when the interpreter ends.
            sys.stdout.flush()
        except BrokenPipeError:
            _let_go(sys.stdout)
            raise click.exceptions.Exit(BROKEN_PIPE) from None
        except (DeeError, OSError) as error:
            _fault(ctx, str(error) if isinstance(error, _LISTED) else _said(error))
        except (click.ClickException, click.exceptions.Exit, click.Abort, KeyboardInterrupt):
            raise
        except Exception as error:
            # The text of an unforeseen error may hold anything, personal data too.
            _fault(ctx, f"internal error ({type(error).__name__}); --debug shows where")
        return done


@click.group(
    cls=_Root,
    lazy=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--database",
    metavar="URL",
    help="sqlite:///FILE or postgresql://HOST/NAME.  [DEE_DATABASE; default sqlite:///dee.db]",
)
@click.option(
    "--keys",
    metavar="URL",
    help="Where the contacts' keys are kept.  [DEE_KEYS; default beside an SQLite database]",
)
@click.option(
    "--actor",
    metavar="NAME",
    help="Who acts, for the log; kept readable.  [DEE_ACTOR; default the user's name]",
)
@click.option("--debug", is_flag=True, help="Show a traceback when something fails.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda ctx, param, value: _version(ctx) if value else None,
    help="Show the version and exit.",
)
@click.pass_context
def root(
    ctx: click.Context, database: str | None, keys: str | None, actor: str | None, debug: bool
) -> None:
    """Deterministic execution of outreach plans, on an append-only log.

    Settings come from flags, then DEE_* variables, then dee.toml in the working folder.

    Exit codes: 0 done; 1 failed or not valid; 2 called wrongly.
    """
    ctx.meta["dee.debug"] = debug
    ctx.obj = Session(database, keys, actor)
    _tell_mistaken()


def _tell_mistaken() -> None:
    if any(name.startswith("DEE_") for name in os.environ):
        from dee_es.config import mistaken

        for variable, meant in mistaken().items():
            told = f"dee: {variable} is no setting and was not read; is {meant} meant?"
            click.echo(one_line(told), err=True)


def _version(ctx: click.Context) -> None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        known = version("dee-es")
    except PackageNotFoundError:
        # Called from a checkout that nobody installed.
        known = "(not installed)"
    click.echo(f"dee {known}")
    ctx.exit()


def run(arguments: Sequence[str] | None) -> None:
    """Run one command and exit."""
    _open_streams()
    if hasattr(sys.stdin, "reconfigure"):
        # What is no text is refused where it is read, as it is in arguments. Where a caller has
        # read of it before, it stays as it is.
        with suppress(io.UnsupportedOperation):
            sys.stdin.reconfigure(errors="surrogateescape")
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal cannot show is no reason to fail.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = root.main(arguments, prog_name="dee", standalone_mode=False)
        sys.stdout.flush()
    except OSError as error:
        # Of what is written while options are read, `--help` and `--version`.
        _let_go(sys.stdout)
        if isinstance(error, BrokenPipeError):
            sys.exit(BROKEN_PIPE)
        click.echo(f"dee: {_said(error)}", err=True)
        sys.exit(1)
    except click.ClickException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            click.echo(error.format_message(), err=True)
            sys.exit(error.exit_code)
        where = getattr(error, "ctx", None)
        hint = f" (see `{where.command_path} --help`)" if where is not None else ""
        click.echo(f"dee: {one_line(error.format_message()).rstrip('.')}{hint}", err=True)
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("dee: interrupted", err=True)
        sys.exit(INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _open_streams() -> None:
    """Have nothing come from, or go to, a standard stream that the caller closed."""
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            # The number is taken, so that no file opened later is taken for the stream.
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: SIM115


def _fault(ctx: click.Context, message: str) -> None:
    if ctx.meta.get("dee.debug"):
        # It holds what errors say, and they say what a file may hold.
        click.echo(printable_lines(traceback.format_exc().rstrip("\n")), err=True)
    click.echo(f"dee: {printable_lines(message)}", err=True)
    try:
        sys.stdout.flush()
    except OSError:
        _let_go(sys.stdout)
    raise click.exceptions.Exit(1)


def _said(error: DeeError | OSError) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return one_line(f"{where}{error.strerror}")
    return one_line(str(error)) or type(error).__name__


def _let_go(stream: TextIO) -> None:
    """Send what is left in the stream nowhere, or the interpreter would complain at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
