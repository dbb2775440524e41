"""Static files, under addresses that hold a digest of what they say: a browser may keep them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

from fastapi.staticfiles import StaticFiles
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_FOLDER: Final = Path(__file__).parent / "pages" / "static"
_PARTS: Final = (b"range", b"if-range")
"""Headers that ask for parts of a file."""
_VERSION: Final = "v"
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_ASK_AGAIN: Final = "no-cache"
_DIGESTS: Final = {
    path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    for path in sorted(_FOLDER.iterdir())
    if path.is_file()
}


def static(name: str) -> str:
    """The address of a file; another one once its content is another."""
    return f"/static/{name}?{_VERSION}={_DIGESTS[name]}"


class Static(StaticFiles):
    """Serves the files: for a year under the digest of their content, else to be asked about
    again each time."""

    def __init__(self) -> None:
        super().__init__(directory=_FOLDER)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with whole files: they are small, and a stranger may ask for thousands of parts,
        each of which is read apart."""
        headers = [each for each in scope["headers"] if each[0] not in _PARTS]
        await super().__call__({**scope, "headers": headers}, receive, send)

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """The file, or that it is still the one that is known."""
        answer = super().file_response(full_path, stat_result, scope, status_code)
        asked = parse_qs(scope["query_string"].decode("latin-1")).get(_VERSION, [])
        known = asked == [_DIGESTS.get(Path(full_path).name)]
        answer.headers["Accept-Ranges"] = "none"
        answer.headers["Cache-Control"] = _FOR_EVER if known else _ASK_AGAIN
        return answer
