"""Messages opened and links followed, told by signed links in messages.

Whoever reads gets the image or the page they asked for, also when nothing can be recorded.
"""

from __future__ import annotations

import base64
import logging
from typing import Final

from fastapi import Response

from dee_es.engine.facade import EngineApi
from dee_es.engine.links import Link, Purpose, checked_target
from dee_es.errors import DeeError
from dee_es.web.hooks.following import link_in, record
from dee_es.web.hooks.requests import not_set_up
from dee_es.web.routing import EngineDep, SettingsDep, hook_router

router: Final = hook_router()

PIXEL: Final = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
"""A transparent GIF of one pixel."""
_log: Final = logging.getLogger("dee_es.web")


@router.get("/open/{token}.gif")
def opened(engine: EngineDep, settings: SettingsDep, token: str) -> Response:
    """The image of a message; the first time, the message was opened."""
    link = link_in(settings, "open", token)
    if link is None:
        raise not_set_up()
    _record(engine, "open", link)
    # It is shown by pages of mail programs, which are other sites.
    headers = {"Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "cross-origin"}
    return Response(PIXEL, 200, headers, "image/gif")


@router.get("/click/{token}")
def clicked(engine: EngineDep, settings: SettingsDep, token: str) -> Response:
    """On to the page that was signed, and to no other; the first time, the link was clicked."""
    link = link_in(settings, "click", token)
    if link is None or link.target is None:
        raise not_set_up()
    target = checked_target(link.target)
    _record(engine, "click", link)
    return Response(status_code=302, headers={"Location": target, "Cache-Control": "no-store"})


def _record(engine: EngineApi, purpose: Purpose, link: Link) -> None:
    try:
        record(engine, purpose, link, link.event_id(purpose))
    except DeeError as error:
        _log.warning("link_not_recorded", extra={"error": type(error).__name__})
