"""`dee contact`: the suppression list, and consent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

import click

from dee_es.cli.lazy import Lazy, LazyGroup
from dee_es.cli.options import json_option, plan_option
from dee_es.cli.output import say, write_json
from dee_es.cli.session import Session, pass_session
from dee_es.core.channels import CHANNELS, ChannelName

_Command = TypeVar("_Command", bound=Callable[..., Any])
_Level = Literal["global", "channel", "plan", "regulatory"]

_COMMANDS: Final = {
    "show": Lazy("contact_show:show", "Show a contact, now or as of any time."),
    "suppress": Lazy("contact:suppress", "Put a contact on the suppression list."),
    "unsuppress": Lazy("contact:unsuppress", "Lift a suppression."),
    "erase": Lazy("contact_erase:erase", "Make a contact's personal data unreadable for ever."),
    "consent": Lazy("consent:consent", "Record consent to a channel, or its withdrawal."),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def contact() -> None:
    """Show, suppress and erase contacts, and record what they consented to."""


@dataclass(frozen=True, slots=True)
class _Whom:
    """Who is meant, and how far the suppression reaches."""

    contact_id: str | None
    email: str | None
    phone: str | None
    level: _Level
    channel: ChannelName | None
    plan_id: str | None


def _whom_options(command: _Command) -> _Command:
    """Who is meant, at which level, and why."""
    for option in (
        json_option,
        click.option("--reason", metavar="TEXT", help="Why, for the log; kept readable."),
        click.option(
            "--plan",
            "plan_id",
            metavar="ID",
            callback=plan_option,
            help="For this plan only, in all its versions.",
        ),
        click.option(
            "--channel",
            type=click.Choice(CHANNELS),
            help="For this channel only.  [default: for all]",
        ),
        click.option(
            "--level",
            type=click.Choice(["global", "channel", "plan", "regulatory"]),
            help="How far it reaches: global and regulatory close everything.  [default: channel"
            " with --channel, plan with --plan, else global]",
        ),
        click.option("--phone", metavar="NUMBER", help="Whoever has this telephone number."),
        click.option("--email", metavar="ADDRESS", help="Whoever has this e-mail address."),
        click.argument("contact_id", metavar="[CONTACT]", required=False),
    ):
        command = option(command)
    return command


def _whom(
    contact_id: str | None,
    email: str | None,
    phone: str | None,
    level: _Level | None,
    channel: ChannelName | None,
    plan_id: str | None,
) -> _Whom:
    """The options taken together; those that do not go together are a usage error."""
    if contact_id is None and email is None and phone is None:
        raise click.UsageError("say who: a contact's id, --email or --phone")
    if channel is not None and plan_id is not None:
        raise click.UsageError("a suppression is for a channel or for a plan, not for both")
    implied: _Level = "channel" if channel else "plan" if plan_id else "global"
    chosen = level or implied
    for name, given in (("channel", channel), ("plan", plan_id)):
        if chosen == name and given is None:
            raise click.UsageError(f"--level {name} needs --{name}")
        if chosen != name and given is not None:
            raise click.UsageError(f"--{name} belongs to --level {name}, not to {chosen}")
    return _Whom(contact_id, email, phone, chosen, channel, plan_id)


def _reach(
    level: _Level | None, channel: ChannelName | None, plan_id: str | None, **whom: str | None
) -> tuple[_Level, str]:
    """Level and scope of a list's entries that have none of their own."""
    if any(whom.values()):
        raise click.UsageError("--from names everybody; leave out CONTACT, --email and --phone")
    if channel is None and plan_id is None:
        return level or "regulatory", ""
    checked = _whom("", None, None, level, channel, plan_id)
    return checked.level, channel or plan_id or ""


@click.command()
@_whom_options
@click.option(
    "--from",
    "list_file",
    metavar="FILE",
    help='Everybody in this list, or in standard input for "-"; the level is regulatory unless'
    " said otherwise.",
)
@click.option("--dry-run", is_flag=True, help="With --from: count what would be new, and write"
              " nothing.")  # fmt: skip
@pass_session
def suppress(
    session: Session,
    /,
    reason: str | None,
    as_json: bool,
    list_file: str | None,
    dry_run: bool,
    **given: Any,
) -> None:
    """Put a CONTACT, by id or address or both, on the suppression list; or a whole list.

    By its id it is on it with all addresses of its runs, so that another record of the person is
    covered.

    Once this has returned, only messages whose intents were committed before may still leave.

    A list is CSV whose first line names its columns (email, phone, contact_id; level, scope and
    reason if they differ by line), or has one e-mail address, telephone number or contact's id a
    line; for ids made of digits use CSV. Nobody on it has to be a contact yet. A number is compared
    as it is written, country code included, but for spaces, dots, hyphens and brackets. A line that
    cannot be used is reported with its number, does not stop the rest, and makes the command exit
    with 1. The same list again adds only what is missing.
    """
    if list_file is not None:
        from dee_es.cli.suppress_list import suppress_list

        suppress_list(session, list_file, _reach(**given), reason, dry_run, as_json)
        return
    if dry_run:
        raise click.UsageError("--dry-run belongs to --from")
    whom = _whom(**given)
    with session.engine() as engine:
        changed = engine.suppress(
            whom.contact_id,
            email=whom.email,
            phone=whom.phone,
            level=whom.level,
            channel=whom.channel,
            plan_id=whom.plan_id,
            reason=reason,
        )
    if as_json:
        write_json({"changed": changed})
    else:
        say("suppressed" if changed else "was suppressed already; nothing changed")


@click.command()
@_whom_options
@pass_session
def unsuppress(session: Session, /, reason: str | None, as_json: bool, **given: Any) -> None:
    """Lift a suppression that was put on with the same id or address, at the same level.

    By id, that is with all addresses it came with; what is listed in another's name stays.
    """
    whom = _whom(**given)
    with session.engine() as engine:
        changed = engine.unsuppress(
            whom.contact_id,
            email=whom.email,
            phone=whom.phone,
            level=whom.level,
            channel=whom.channel,
            plan_id=whom.plan_id,
            reason=reason,
        )
    if as_json:
        write_json({"changed": changed})
    else:
        say("no longer suppressed" if changed else "was not suppressed like that; nothing changed")
