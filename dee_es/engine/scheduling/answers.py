"""What a channel answers, as the log can hold it: a bad answer must not keep others off the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args, get_type_hints

import msgspec

from dee_es.core.values import check_map, check_text
from dee_es.errors import InvalidInput
from dee_es.ports import ChannelResult

NOT_BEGUN: Final = ChannelResult(
    "failed", error="the sender lost its lease before it began", retryable=True
)
INTERRUPTED: Final = ChannelResult(
    "failed", error="the sender was interrupted before it began", retryable=True
)
MAX_ERROR: Final = 1_000
"""Longest reason of a failure that is kept, in characters."""
MAX_DETAIL: Final = 64 * 1024
"""Largest detail that is kept, in bytes as JSON."""
_MAX_ID: Final = 200
_STATUSES: Final = get_args(get_type_hints(ChannelResult)["status"])
_UNKEPT: Final = "the channel gave a reason that cannot be kept"


def kept(answer: object) -> ChannelResult:
    """The answer without what the log cannot hold, in plain text; its status stays.

    What is no answer at all says nothing about whether the message left: the outcome is unknown.
    """
    given = answer.status if isinstance(answer, ChannelResult) else None
    status = next((each for each in _STATUSES if each == given), None)
    if not isinstance(answer, ChannelResult) or status is None:
        return ChannelResult("unknown", error="the channel gave no answer")
    error = _text(answer.error or "", MAX_ERROR)
    return ChannelResult(
        status,
        _text(answer.message_id, _MAX_ID),
        _UNKEPT if error is None else error,
        answer.retryable is True,
        _detail(answer.detail),
        answer.ours is True,
    )


def _text(value: object, longest: int) -> str | None:
    """It as plain text, None if it is none that the log can hold."""
    try:
        text = check_text("", value)
    except InvalidInput:
        return None
    return text if len(text) <= longest else None


def _detail(given: object) -> Mapping[str, Any]:
    if not given:
        return {}
    try:
        detail = check_map("", given)
        return detail if len(msgspec.json.encode(detail)) <= MAX_DETAIL else {}
    except (InvalidInput, msgspec.EncodeError, RecursionError):
        return {}
