"""What is kept of a channel's answer: all that the log can hold, to the last character."""

from __future__ import annotations

from enum import StrEnum

import msgspec
import pytest

from dee_es.engine.scheduling.answers import MAX_DETAIL, MAX_ERROR, kept
from dee_es.ports import ChannelResult

REFUSED = ChannelResult("failed", error="smtp 550", detail={"reply": "no such mailbox"})


@pytest.mark.parametrize(
    "answer",
    [
        ChannelResult("delivered", "m" * 200),
        ChannelResult("pending", "msg_1"),
        ChannelResult("unknown", error="lost"),
        REFUSED,
        ChannelResult("failed", error="x" * MAX_ERROR, retryable=True),
        ChannelResult("failed", error="smtp 535", ours=True),
    ],
)
def test_what_the_log_can_hold_is_kept_as_it_is(answer: ChannelResult) -> None:
    assert kept(answer) == answer


class Word(str):
    """Text of a class of its own, as what a library returns may be."""


class Fate(StrEnum):
    DELIVERED = "delivered"


def test_text_of_any_class_is_kept_as_plain_text() -> None:
    said = ChannelResult(
        Fate.DELIVERED,  # type: ignore[arg-type]
        Word("msg_1"),
        Word("fine"),
        detail={"reply": Word("taken")},
    )
    told = kept(said)
    assert told == ChannelResult("delivered", "msg_1", "fine", detail={"reply": "taken"})
    texts = (told.status, told.message_id, told.error, told.detail["reply"])
    assert {type(each) for each in texts} == {str}


@pytest.mark.parametrize("nothing", [None, 0, (), b"", False])
def test_a_reason_that_is_none_is_no_reason(nothing: object) -> None:
    told = kept(msgspec.structs.replace(REFUSED, error=nothing))
    assert (told, told.error) == (msgspec.structs.replace(REFUSED, error=""), "")
    assert type(told.error) is str


@pytest.mark.parametrize("status", [None, "maybe", 1, ["delivered"], b"failed"])
def test_a_status_that_is_none_says_nothing(status: object) -> None:
    told = kept(msgspec.structs.replace(REFUSED, status=status))
    assert told == ChannelResult("unknown", error="the channel gave no answer")


def test_what_is_too_long_is_left_out_and_nothing_else() -> None:
    assert kept(msgspec.structs.replace(REFUSED, message_id="m" * 201)) == REFUSED
    told = kept(msgspec.structs.replace(REFUSED, error="x" * (MAX_ERROR + 1)))
    assert told == msgspec.structs.replace(
        REFUSED, error="the channel gave a reason that cannot be kept"
    )


def test_a_detail_is_kept_up_to_its_bound() -> None:
    around = len(msgspec.json.encode({"reply": ""}))
    for more in (0, 1):
        detail = {"reply": "x" * (MAX_DETAIL - around + more)}
        told = kept(msgspec.structs.replace(REFUSED, detail=detail))
        assert told == msgspec.structs.replace(REFUSED, detail={} if more else detail)


@pytest.mark.parametrize("detail", [{"at": object()}, {1: "x"}, {"reply": float("nan")}, ["x"]])
def test_a_detail_that_cannot_be_written_is_left_out(detail: object) -> None:
    told = kept(msgspec.structs.replace(REFUSED, detail=detail))
    assert told == msgspec.structs.replace(REFUSED, detail={})


def test_what_a_channel_does_not_say_in_so_many_words_it_does_not_say() -> None:
    """To be tried again for ever is for those alone who say so."""
    vague = msgspec.structs.replace(REFUSED, retryable="perhaps", ours="perhaps")
    assert kept(vague) == REFUSED
