"""`dee contact erase`: a contact's personal data, made unreadable for ever."""

from __future__ import annotations

import click

from dee_es.cli.asking import ask, need_terminal
from dee_es.cli.options import json_option, must_reason_option
from dee_es.cli.output import say, write_json
from dee_es.cli.session import Session, pass_session
from dee_es.cli.text import counted


@click.command()
@click.argument("contact_id", metavar="ID")
@must_reason_option
@click.option(
    "--certificate",
    metavar="PLACE",
    help="Folder or URL to write the signed certificate to.  [DEE_CERTIFICATES; default"
    " certificates]",
)
@click.option("--yes", is_flag=True, help="Do not ask; needed where there is no terminal.")
@json_option
@pass_session
def erase(
    session: Session,
    /,
    contact_id: str,
    reason: str,
    certificate: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Make all personal data of the contact ID unreadable for ever, and end its open runs.

    Nothing of the log is rewritten, and everything verifies as before. The contact stays suppressed
    under keyed digests of its addresses. A signed certificate says so, and lists what had left
    before: messages, files of the outbox, exports, archives. A backup of the key store that was
    made before still holds the key: replace it. If this is broken off, call it again.
    """
    need_terminal(yes)
    with session.engine() as engine:
        if not yes:
            ask(f"Erase {contact_id!r}? This cannot be undone", "erased")
        done = engine.erase_contact(contact_id, reason, certificate=certificate)
    if as_json:
        write_json(done)
        return
    runs = counted(len(done.runs), "run")
    say(f"erased {done.contact_id}: {runs}, {len(done.cancelled)} of them cancelled now")
    if not done.key_destroyed:
        say("it had no key: nothing personal of it was in the log")
    say(f"certificate: {done.written_to}")
