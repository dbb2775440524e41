"""Options that several commands take, and what their values mean."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from dee_es.cli.times import Moment, moment_option
from dee_es.core.values import check_id, names_version, plan_id_fault
from dee_es.errors import InvalidInput, OutputExists

if TYPE_CHECKING:
    from dee_es.engine.run_filters import GivenFilters

_Command = TypeVar("_Command", bound=Callable[..., Any])

_RANGE: Final = re.compile(r"([0-9]{1,16})(?:-([0-9]{1,16}))?")
_END_OF_PERIOD: Final = re.compile(r"\b(?:since|until)\b")
STATUSES: Final = ("pending", "active", "waiting", "paused", "completed", "failed", "cancelled")

json_option = click.option("--json", "as_json", is_flag=True, help="Write one JSON document.")
force_option = click.option("--force", is_flag=True, help="Write over a file that is there.")
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Say what would be done, and write nothing."
)
strict_option = click.option(
    "--strict", is_flag=True, help="Exit with 1 if a row was refused as not valid."
)


def _said(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not value.strip():
        raise click.BadParameter("must not be blank")
    return value


must_reason_option = click.option(
    "--reason",
    metavar="TEXT",
    required=True,
    callback=_said,
    help="Why; must not be blank, and is kept readable in the log: write no personal data.",
)


def format_options(command: _Command) -> _Command:
    """`--json` and `--csv`, as `output`."""
    # Applied from the last to the first, as decorators are.
    command = click.option("--csv", "as_csv", is_flag=True, help="Write CSV.")(command)
    return json_option(command)


def chosen_format(as_json: bool, as_csv: bool) -> str | None:
    """The format that the two flags ask for; both at once are a usage error."""
    if as_json and as_csv:
        raise click.UsageError("choose one of --json and --csv")
    return "json" if as_json else "csv" if as_csv else None


def id_option(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Read an option that takes an id; a variable of the shell that is not set is none."""
    if value is None:
        return None
    try:
        return check_id("id", value)
    except InvalidInput as error:
        raise click.BadParameter(error.problem) from None


def plan_option(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Read an option that takes the id of a plan, all versions of which are meant."""
    if value is not None and names_version(value):
        raise click.BadParameter(plan_id_fault())
    return id_option(ctx, param, value)


def filter_options(command: _Command) -> _Command:
    """The filters of the run list."""
    for option in (
        click.option(
            "--before",
            metavar="TIME",
            callback=moment_option,
            help="Started before this time, or more than so long ago.",
        ),
        click.option(
            "--after",
            metavar="TIME",
            callback=moment_option,
            help="Started at or after this time (ISO 8601 with zone), or 24h, 7d, 90m ago.",
        ),
        click.option("--contact", metavar="ID", callback=id_option, help="Runs of this contact."),
        click.option("--plan", metavar="ID", callback=plan_option, help="Runs of this plan."),
        click.option(
            "--status",
            multiple=True,
            type=click.Choice(STATUSES),
            help="Runs that stand so; may be given several times.",
        ),
    ):
        command = option(command)
    return command


def run_filters(
    status: Sequence[str],
    plan: str | None,
    contact: str | None,
    after: Moment | None,
    before: Moment | None,
    now: datetime,
) -> dict[str, Any]:
    """The filters that were given, as the engine takes them; empty if none was."""
    given: GivenFilters = {
        "status": list(status) or None,
        "plan_id": plan,
        "contact_id": contact,
        "started_after": None if after is None else after.before(now),
        "started_before": None if before is None else before.before(now),
    }
    return {name: value for name, value in given.items() if value is not None}


def pairs_option(
    ctx: click.Context, param: click.Parameter, values: Sequence[str]
) -> dict[str, Any]:
    """Read options of the form `name=value`: a value that is JSON counts as such, else as text."""
    found: dict[str, Any] = {}
    for given in values:
        name, sign, text = given.partition("=")
        if not sign or not name.strip():
            # The value may be personal: it is not shown.
            raise click.BadParameter("must be NAME=VALUE")
        if name in found:
            raise click.BadParameter(f"{name[:40]!r} is given twice")
        found[name] = _value(text)
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def variables_option(command: _Command) -> _Command:
    """`--var NAME=VALUE`, repeatable."""
    return click.option(
        "--var",
        "variables",
        multiple=True,
        metavar="NAME=VALUE",
        callback=pairs_option,
        help="A variable of the run, as JSON or text; may be given several times.",
    )(command)


@contextmanager
def told_as(options: Mapping[str, str]) -> Iterator[None]:
    """Tell of a value that is refused by the option it was given with; `options` are by the names
    of the engine's parameters. Raises `click.UsageError`."""
    try:
        yield
    except InvalidInput as error:
        if error.field not in options:
            raise
        # A period's two ends are told of each other.
        said = _END_OF_PERIOD.sub(lambda end: options.get(end[0], end[0]), error.problem)
        raise click.UsageError(f"{options[error.field]}: {said}") from error


@contextmanager
def unless_forced() -> Iterator[None]:
    """Tell of a file that is there already how it is written over; raises `OutputExists`."""
    try:
        yield
    except OutputExists as error:
        raise OutputExists(f"{error}; --force writes over it") from error


def without_nones(given: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that have a value."""
    return {name: value for name, value in given.items() if value is not None}


def position_ranges(text: str) -> list[tuple[int, int]]:
    """`3, 7-9` as pairs of first and last; anything else is a usage error."""
    found = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last:
            raise click.UsageError(f"{text[:40]!r} is no position or range such as 7 or 7-9")
        found.append((first, last))
    return found
