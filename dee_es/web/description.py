"""The OpenAPI document: what FastAPI gathers, with the errors that every call may answer."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from dee_es.web.api.intake import BulkExecute
from dee_es.web.examples import EXAMPLES
from dee_es.web.problems import MEDIA_TYPE, Problem

_INTRODUCTION: Final = """\
The execution engine over HTTP. JSON is in camelCase, as on the Runs page.

* Errors are problem details (RFC 9457); `error` is the name of the error class.
* A POST with an `Idempotency-Key` never acts twice, however often it is repeated: for a day it is
  answered as before (409 while an attempt is under way, 422 for another request under the key).
* Long work answers 202 with the `Location` of a job. Jobs end with the server; what they had done
  stays done, and the same call under the same key goes on.
* Programs send `Authorization: Bearer TOKEN`. Pages of a signed-in browser send `X-CSRF-Token`
  (see `/session`); on a server without users any `X-Dee-Request` header will do.
"""
_ERRORS: Final = {
    "400": "The request cannot be read.",
    "401": "Nobody is signed in.",
    "403": "The role does not allow it, or the request was not meant (CSRF).",
    "404": "There is no such thing.",
    "405": "The address does not take this method.",
    "408": "The body did not arrive in time.",
    "409": "The state of things does not allow it.",
    "410": "What was asked for has left for an archive, or was erased.",
    "413": "The body is too long.",
    "415": "The body is of a kind that is not taken here.",
    "421": "The Host header names another server.",
    "422": "A value was refused; `field` names it.",
    "429": "Too many requests or jobs.",
    "500": "The server failed, or the log contradicts itself.",
    "502": "A channel cannot be used.",
    "503": "The database or another place cannot be reached.",
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title="dee-es", version=_version(), description=_INTRODUCTION, routes=app.routes
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for model in (Problem, BulkExecute):
            made = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(made.pop("$defs", {}))
            schemas[model.__name__] = made
        for name, example in EXAMPLES.items():
            schemas[name]["examples"] = [example]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        for methods in document.get("paths", {}).values():
            for operation in methods.values():
                _complete(operation)
        document["components"]["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer"},
        }
        document["security"] = [{"token": []}, {}]
        app.openapi_schema = document
    return app.openapi_schema


def _complete(operation: dict[str, Any]) -> None:
    operation.pop("x-dee-job", None)
    for status, text in _ERRORS.items():
        operation["responses"][status] = {
            "description": text,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }


def _version() -> str:
    try:
        return version("dee-es")
    except PackageNotFoundError:
        return "0"
