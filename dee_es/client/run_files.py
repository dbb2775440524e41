"""One run as a file, over HTTP."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from dee_es.client.jobs import done
from dee_es.client.transport import API, Transport, part
from dee_es.core.values import check_text
from dee_es.engine.exporting.delivery import Output, check_output
from dee_es.engine.run_file import read_run_file
from dee_es.errors import AnchorUnavailable, InvalidInput, OutputExists


class RunFilesClient:
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
        check_output(output)
        told = check_text("target", target)
        if isinstance(output, str | os.PathLike):
            if "://" in os.fspath(output):
                raise InvalidInput("output", "must be a path or a file; a client writes to no URL")
            place = Path(output).absolute()
            told = str(place)
        elif output is not None:
            told = "stream"
        given = {"personalData": personal_data, "target": told, "reason": reason}

        def fetched() -> bytes:
            content = b""

            def fetch(job: Mapping[str, Any]) -> None:
                nonlocal content
                content = self._http.content(job["file"].removeprefix(API))

            done(self._http, path, given, look=fetch)
            return content

        if isinstance(output, str | os.PathLike):
            return _written(place, fetched, replace)
        content = fetched()
        if output is not None:
            output.write(content)
        return content

    def import_run(self, content: bytes) -> str:
        """Take in a run from a file, and return its id; a run that is there already stays so.

        The file is checked here first. Raises `InvalidInput` saying what is wrong with it or in the
        way, and `ApiRefused` if it is longer than the server takes.
        """
        read_run_file(content)
        return str(self._http.upload("/runs/import", content)["runId"])


def _written(path: Path, fetch: Callable[[], bytes], replace: bool) -> bytes:
    """Fetch and write the content aside and rename, for its owner only; what cannot be written is
    not asked for."""
    try:
        with suppress(FileExistsError):
            path.parent.mkdir(parents=True)
        descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=".")
        try:
            with open(descriptor, "wb") as file:
                if not replace and os.path.lexists(path):
                    raise FileExistsError
                content = fetch()
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            # Unlike a renaming, a link fails if somebody has made the file in the meantime.
            (os.replace if replace else os.link)(aside, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(aside)
    except FileExistsError:
        raise OutputExists(f"{path}: is there already") from None
    except OSError as error:
        said = error.strerror or type(error).__name__
        raise AnchorUnavailable(f"{path.parent}: {said}") from error
    return content
