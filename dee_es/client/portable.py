"""One run as a file, over HTTP."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from dee_es.client.jobs import fetch_made
from dee_es.client.outputs import check_here, deliver
from dee_es.client.transport import Transport, part
from dee_es.core.values import check_text
from dee_es.engine.exporting.delivery import Output
from dee_es.engine.portable.run_file import read_run_file


class PortableClient:
    """Takes runs out of the server's database, and into it."""

    _http: Transport

    def export_run(
        self,
        run_id: str,
        *,
        personal_data: bool = True,
        output: Output = None,
        replace: bool = True,
        target: str = "",
        reason: str | None = None,
    ) -> bytes:
        """The run as a portable file (JSON, `dee-run/1`), recorded in the log before it is given.

        With `output`, a path on this machine or a file open for bytes, it is written there as well.
        Raises what the engine does, and `InvalidInput` for a URL.
        """
        path = f"/runs/{part('run_id', run_id)}/export"
        check_here(output)
        told = check_text("target", target)
        if isinstance(output, str | os.PathLike):
            told = str(Path(output).absolute())
        elif output is not None:
            told = "stream"
        given = {"personalData": personal_data, "target": told, "reason": reason}
        content = b""

        def fill(file: IO[bytes]) -> None:
            nonlocal content
            fetch_made(self._http, path, given, file)
            file.seek(0)
            content = file.read()

        deliver(output, fill, replace=replace)
        return content

    def import_run(
        self, content: bytes, *, reason: str | None = None, command_id: str | None = None
    ) -> str:
        """Take in a run from a file, and return its id; a run that is there already stays so. It is
        recorded in the log.

        The file is checked here first. Raises `InvalidInput` saying what is wrong with it or in the
        way, and `ApiRefused` if it is longer than the server takes.
        """
        read_run_file(content)
        found = self._http.upload("/runs/import", content, key=command_id, reason=reason)
        return str(found["runId"])
