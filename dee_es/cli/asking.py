"""Asking before what cannot be undone."""

from __future__ import annotations

import sys

import click


def need_terminal(yes: bool, instead: str = "--yes") -> None:
    """Refuse what has to be asked about and cannot be: without a terminal, and without `yes`."""
    if not (yes or sys.stdin.isatty()):
        raise click.UsageError(f"there is no terminal to ask at; say {instead}")


def ask(question: str, done: str) -> None:
    """Ask; for any answer but yes, say that nothing was `done`, and end the command with 1."""
    if not click.confirm(question, err=True):
        click.echo(f"dee: nothing was {done}", err=True)
        raise click.exceptions.Exit(1)
