"""One run as a file: taken out of a database, and into another one."""

from __future__ import annotations

import hashlib

from dee_es.core.events import LogExported
from dee_es.core.values import check_flag, check_text
from dee_es.engine.api.base import ApiBase, checked_run_id
from dee_es.engine.exporting.delivery import Output, deliver
from dee_es.engine.portable.run_file import FORMAT, read_run_file, write_run_file
from dee_es.errors import InvalidInput


class PortableApi(ApiBase):
    """For bug reports: a run with its chain, and everything that a replay of it needs."""

    def export_run(
        self,
        run_id: str,
        *,
        personal_data: bool = True,
        output: Output = None,
        replace: bool = True,
        target: str = "",
        reason: str | None = None,
        actor: str | None = None,
    ) -> bytes:
        """The run as a portable file (JSON, `dee-run/1`).

        With `personal_data` the file holds the key to the contact's data and has to be kept like
        that data; without it, the imported run reads as erased. It is recorded in the log
        (`log.exported`) before it is handed out. With `output`, a path, a URL or a file open for
        bytes, it is written there as well; without, `target` says where it will go to. Raises
        `RunNotFound`, `IntegrityViolation`, `AnchorUnavailable` if it cannot be written, and
        without `replace` `OutputExists` if the file is there: nothing is recorded then.
        """
        meta = self._meta("export_run", None, actor, reason)
        through = self._exports.through
        run, with_keys = checked_run_id(run_id), check_flag("personal_data", personal_data)
        file = self._transfer.take_out(run, with_keys)
        content = write_run_file(file)
        told = check_text("target", target)
        replaces = check_flag("replace", replace)

        def record(digest: str, address: str) -> None:
            event = LogExported(
                kind="run_file",
                format=FORMAT,
                through=through,
                entries=len(file.streams[-1]),
                run_id=run,
                digest=digest,
                target=address or told,
                personal_data=any(key is not None for key in file.keys.values()),
            )
            self._exports.record(event, meta)

        deliver([content], output, self._parts.places, record, replace=replaces)
        return content

    def import_run(
        self,
        content: bytes,
        *,
        reason: str | None = None,
        actor: str | None = None,
        command_id: str | None = None,
    ) -> str:
        """Take in a run from a file, and return its id; a run that is there already stays so.

        Meant for a scratch database of the same epoch and resolution: the run is looked at there,
        verified, replayed and debugged. It is never due by itself; whoever resumes or retries it,
        or tells it a channel event, makes it act. It is recorded in the log together with the run
        (`log.imported`: who, why, the SHA-256 of the file), whose own entries stay as they were.
        Raises `InvalidInput` saying what is wrong with
        the file or in the way; nothing is added to the log then.
        """
        if not isinstance(content, bytes | bytearray):
            raise InvalidInput("content", f"must be bytes, not {type(content).__name__}")
        meta = self._meta("import_run", command_id, actor, reason)
        file = read_run_file(bytes(content))
        self._transfer.take_in(file, hashlib.sha256(content).hexdigest(), meta)
        self._runs.clock.refresh()
        return file.run_id
