"""Problems as pages, for those who read in a browser: what happened, and what to do about it.

A form that was refused before anything was done is shown on its page once more, with what was typed
and the problem beside it. Where that cannot be, the page of the problem tells what was typed.
"""

from __future__ import annotations

import json
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dee_es.web.pages import rendering, typed
from dee_es.web.problems import MEDIA_TYPE
from dee_es.web.security.scopes import actor_in

_API: Final = ("/api/", "/hooks/", "/static/")
_WHAT_TO_DO: Final = {
    401: "Sign in, then try again.",
    403: "Ask somebody with the role that is needed, or whoever looks after this server.",
    404: "Check the address, or look for it in the list of runs, contacts or plans.",
    405: "Go back, and use the buttons of the page.",
    409: "Go back and load the page again: it shows how things stand now.",
    410: "It can no longer be shown here. Entries of the audit log say when it left, and why.",
    413: "Send less at once.",
    421: "Use the address under which this server was announced to you.",
    422: "Go back, correct that value, and try again.",
    429: "Wait a moment, then try again.",
    500: "Try again. If it stays so, the server's log names the kind of error.",
    502: "Look at the settings of the channel, then try again.",
    503: "Nothing was lost: what was not confirmed did not happen. Try again in a moment; if it "
    "stays so, look at the database server.",
}
_NOTHING_DONE: Final = (404, 410, 422)
"""What was asked for is not there, or no good: the form can be sent again under another key."""
_TITLES: Final = {
    "CsrfRefused": "This form is no longer good",
    "InvalidInput": "A value cannot be used",
    "NotAllowed": "You may not do that",
    "NotConfirmed": "Nothing was done",
    "NotFound": "There is nothing here",
}
_PARTICULAR: Final = {
    "CsrfRefused": "The page was open for too long, or the form came from elsewhere. Go back, load "
    "the page again, and repeat what you did.",
    "EmptyFilter": "Go back to the runs and set a filter first.",
    "HoldInForce": "The hold has to be lifted first, by whoever placed it.",
    "NotConfirmed": "Go back, and confirm as the form says.",
    "OutcomeUnknownError": "Find out whether the message arrived, then settle the send.",
}


class ErrorPages:
    """Turns problem details into pages where a browser asks for one; the API keeps its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and show a problem as a page."""
        if scope["type"] != "http" or not _wants_page(scope):
            await self._app(scope, receive, send)
            return
        before = dict(scope)
        held: Message | None = None
        body = bytearray()

        async def shown(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start" and _is_problem(message):
                held = message
                return
            if held is None or message["type"] != "http.response.body":
                await send(message)
                return
            body.extend(message.get("body", b""))
            if not message.get("more_body", False):
                problem: dict[str, Any] = json.loads(body)
                if not await _form_again(problem, before, scope, send):
                    await _as_page(held, problem, scope, receive, send)

        await self._app(scope, receive, shown)


def _wants_page(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    asked = "text/html" in headers.get("accept", "") or headers.get("hx-request") == "true"
    return asked and not scope["path"].startswith(_API)


def _is_problem(start: Message) -> bool:
    kind = MutableHeaders(scope=start).get("content-type", "")
    return kind.partition(";")[0] == MEDIA_TYPE


async def _form_again(problem: dict[str, Any], before: Scope, scope: Scope, send: Send) -> bool:
    """Show the form that was refused once more; False if nobody may send it anew just like that, or
    no page has it (any more). A form is sent to its own page, or to a path below that."""
    fields = typed.fields_of(scope)
    harmless = problem["status"] in _NOTHING_DONE or problem["error"] == "NotConfirmed"
    if fields is None or not harmless:
        return False
    sent: str = scope["path"]
    again = typed.Typed(sent, typed.Form(fields, problem["detail"]))
    for path in (sent, sent.rpartition("/")[0]):
        asked = {**before, "method": "GET", "path": path}
        asked["dee.actor"] = actor_in(scope)
        typed.put(asked, again)
        answered: list[Message] = []
        await scope["app"](asked, _nothing, _into(answered))
        if again.taken and answered[0]["status"] == 200:
            answered[0]["status"] = problem["status"]
            for message in answered:
                await send(message)
            return True
    return False


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def _into(answered: list[Message]) -> Send:
    async def kept(message: Message) -> None:
        answered.append(message)

    return kept


async def _as_page(
    start: Message, problem: dict[str, Any], scope: Scope, receive: Receive, send: Send
) -> None:
    request = Request(scope)
    problem["title"] = _TITLES.get(problem["error"], problem["title"])
    part = rendering.by_htmx(request)
    status = int(problem["status"])
    page = rendering.bare(
        request,
        "_problem.html" if part else "problem.html",
        status,
        problem=problem,
        fields=typed.fields_of(scope) or {},
        what_to_do=_PARTICULAR.get(problem["error"], _WHAT_TO_DO.get(status, _WHAT_TO_DO[500])),
        health=None,
        health_problem=None,
        now=None,
        done=None,
    )
    for name, value in MutableHeaders(scope=start).items():
        if name not in ("content-type", "content-length"):
            page.headers[name] = value
    await page(scope, receive, send)
