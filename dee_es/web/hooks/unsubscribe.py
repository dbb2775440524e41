"""Unsubscribing by the link in a message: at once by POST (RFC 8058), with a button for people.

A GET changes nothing: mail scanners follow every link there is.
"""

from __future__ import annotations

from typing import Final

from fastapi import Request
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from dee_es.web.hooks.following import link_in, unsubscribe
from dee_es.web.problems import Refused
from dee_es.web.routing import EngineDep, SettingsDep, hook_router
from dee_es.web.security.scopes import media_type

router: Final = hook_router()

_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data")
_MOST_BYTES: Final = 4_096
_PAGE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex">
<title>Unsubscribe</title>
</head>
<body>
<main>
<h1>Unsubscribe</h1>
{content}
</main>
</body>
</html>
"""
# Without an action a form is sent to its own address, whatever a proxy makes of that.
_ASK: Final = """\
<form method="post">
<p>Do you want to receive no more messages from us?</p>
<input type="hidden" name="List-Unsubscribe" value="One-Click">
<button type="submit">Unsubscribe</button>
</form>"""
_DONE: Final = "<p>You will receive no more messages from us.</p>"
_UNKNOWN: Final = "<p>This link is not complete, or not one of ours.</p>"


@router.get("/unsubscribe")
def general() -> HTMLResponse:
    """The address that stands for every contact's own link before a message is sent."""
    return _page(_UNKNOWN, 404)


@router.get("/unsubscribe/{token}")
def ask(settings: SettingsDep, token: str) -> HTMLResponse:
    """Ask whoever followed the link; nothing changes."""
    if link_in(settings, "unsubscribe", token) is None:
        return _page(_UNKNOWN, 404)
    return _page(_ASK)


@router.post("/unsubscribe/{token}")
async def at_once(
    request: Request, engine: EngineDep, settings: SettingsDep, token: str
) -> HTMLResponse:
    """Unsubscribe the contact of the link from everything."""
    link = link_in(settings, "unsubscribe", token)
    if link is None:
        return _page(_UNKNOWN, 404)
    await _check_form(request)
    await run_in_threadpool(unsubscribe, engine, link)
    return _page(_DONE)


async def _check_form(request: Request) -> None:
    """Raise `Refused` unless the body is `List-Unsubscribe=One-Click` and nothing else."""
    if media_type(request.scope) not in _FORMS:
        raise Refused(415, "UnsupportedMediaType", f"send {' or '.join(_FORMS)}")
    if len(await request.body()) > _MOST_BYTES:
        raise Refused(413, "BodyTooLarge", f"the body is longer than {_MOST_BYTES:,} bytes")
    async with request.form(max_files=0, max_fields=2) as form:
        given = list(form.multi_items())
    if given != [("List-Unsubscribe", "One-Click")]:
        raise Refused(400, "BadRequest", "the form must be List-Unsubscribe=One-Click")


def _page(content: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(_PAGE.format(content=content), status)
