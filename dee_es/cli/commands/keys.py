"""`dee keys`: how the contacts' keys stand, their backup, and the rotation of the master key."""

from __future__ import annotations

import os
from datetime import tzinfo
from typing import Final

import click

from dee_es.cli.asking import ask, need_terminal
from dee_es.cli.options import json_option
from dee_es.cli.output import say, write_fields, write_json
from dee_es.cli.progress import Progress
from dee_es.cli.session import Session, pass_session
from dee_es.cli.text import counted
from dee_es.cli.times import local, zone_option

NEW_KEY: Final = "DEE_NEW_MASTER_KEY"


@click.group()
def keys() -> None:
    """Look after the contacts' keys: status, backup, restore, rotation of the master key.

    Personal data is encrypted under a key of its contact; these keys are in a key store apart from
    the database, wrapped by a master key that is in neither. All three are needed to read it.
    """


@keys.command()
@zone_option
@json_option
@pass_session
def status(session: Session, zone: tzinfo, as_json: bool) -> None:
    """Show the key store, and whether it fits the log; exits with 1 if it does not.

    Every contact's key must be there, and every erased contact's key destroyed, and no other.
    """
    with session.engine() as engine, Progress("Checking contacts") as progress:
        found = engine.keys.status(progress.update)
    if as_json:
        write_json(found)
    else:
        last = found.last_backup
        write_fields(
            [
                ("state", "ok" if found.ok else "NOT ok"),
                ("key store", found.store),
                ("master key", found.master_key),
                ("personal data", found.personal_data),
                ("keys", found.keys),
                ("destroyed", found.destroyed),
                ("rotations", found.rotations),
                ("contacts with a key", found.contacts),
                ("erased contacts", found.erased),
                ("missing keys", _told(found.missing, found.missing_contacts)),
                ("erased, key held", _told(found.undestroyed, found.undestroyed_contacts)),
                ("key destroyed, not erased", _told(found.unrecorded, found.unrecorded_contacts)),
                ("last backup", None if last is None else local(last, zone)),
            ]
        )
        for advice in found.advice:
            say(f"  * {advice}")
    if not found.ok:
        raise click.exceptions.Exit(1)


def _told(count: int, names: tuple[str, ...]) -> str | int:
    if not count:
        return 0
    return f"{count:,}: {', '.join(names)}{', ...' if count > len(names) else ''}"


@keys.command()
@click.argument("file", type=click.Path(dir_okay=False))
@json_option
@pass_session
def backup(session: Session, file: str, as_json: bool) -> None:
    """Write a copy of the key store to FILE (mode 0600), while others work.

    The copy is read back key by key, then it replaces an earlier backup of that name. It is wrapped
    by the same master key, which is NOT in it: keep a copy of that apart.

    A backup holds the keys of all who are erased later. After `dee contact erase`, make a new
    backup and delete the older ones: with one of them the erasure can be undone.
    """
    with session.engine() as engine, Progress("Copying keys") as progress:
        done = engine.keys.backup(file, lambda n, total: progress.update(n, n / max(total, 1)))
    if as_json:
        write_json(done)
        return
    say(
        f"backup: {counted(done.keys, 'key')} to {done.path}, read back; "
        f"{counted(done.destroyed, 'key')} marked as destroyed"
    )
    say(f"it opens only with the master key ({done.master_key}), which is not in it")
    say(f"note: {done.warning}")


@keys.command()
@click.argument("file", type=click.Path(dir_okay=False), required=False)
@click.option(
    "--master-key-file",
    metavar="FILE",
    help="The master key of then, if it was rotated since the backup.",
)
@click.option(
    "--without-backup",
    is_flag=True,
    help="There is none: begin with an empty key store. What is encrypted stays unreadable.",
)
@click.option("--yes", is_flag=True, help="Do not ask; needed where there is no terminal.")
@json_option
@pass_session
def restore(
    session: Session,
    file: str | None,
    master_key_file: str | None,
    without_backup: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Bring back from the backup FILE the keys that are missing, or all if the key store is gone.

    Nothing is overwritten. A key that was destroyed does not come back: neither here, nor in the
    backup, nor that of a contact whose erasure is in the log. If this is broken off, call it again.
    """
    if (file is None) != without_backup:
        raise click.UsageError("give a FILE, or --without-backup")
    config = session.config()
    from dee_es.bootstrap import restore_keys

    if without_backup:
        need_terminal(yes)
        if not yes:
            ask(
                "Begin with an empty key store? Addresses on the suppression list will not be "
                "recognised any more",
                "restored",
            )
    with Progress("Restoring keys") as progress:
        done = restore_keys(
            config, file, master_key_file, lambda n, total: progress.update(n, n / max(total, 1))
        )
    if as_json:
        write_json(done)
        return
    say(
        f"restored {counted(done.restored, 'key')}; {done.present:,} were here already, "
        f"{done.destroyed:,} were destroyed (again) because they were destroyed before"
    )


@keys.command()
@click.option(
    "--new-key-file",
    metavar="FILE",
    help="Take the new master key from FILE, or make it there if there is none.",
)
@json_option
@pass_session
def rotate(session: Session, new_key_file: str | None, as_json: bool) -> None:
    """Replace the master key: every key is wrapped anew under a new one.

    A master key in a file is replaced there, by a new one or by that of DEE_NEW_MASTER_KEY. One in
    DEE_MASTER_KEY cannot be: give DEE_NEW_MASTER_KEY, or name a file with --new-key-file; so too
    if several key stores share one master key file.

    Others go on working meanwhile; once the new key is in force, every process that holds the
    former one stops with an error and has to be restarted. If this is broken off, run it again.

    Backups made before open only with the former master key: make a new one.
    """
    config = session.config(create=False)
    from dee_es.bootstrap import rotate_keys

    with Progress("Wrapping keys") as progress:
        done = rotate_keys(
            config,
            os.environ.get(NEW_KEY) or None,
            new_key_file,
            lambda n, total: progress.update(n, n / max(total, 1)),
        )
    if as_json:
        write_json(done)
        return
    how = "finished a rotation" if done.finished_only else "rotated the master key"
    say(f"{how}: {counted(done.keys, 'key')}; the former one opens nothing any more")
    if done.moved and new_key_file is not None:
        say(f"the new one is in {new_key_file}: name it in DEE_MASTER_KEY_FILE")
    elif done.moved:
        say("the new one is that of DEE_NEW_MASTER_KEY: put it into DEE_MASTER_KEY")
    else:
        say(f"the new one is in {done.master.removeprefix('file ')}: keep a copy of it apart")
    say("restart every process that uses this key store, and make a new backup of the keys")
