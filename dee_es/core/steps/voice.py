"""The step that places a call."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from dee_es.core.channels import ChannelName
from dee_es.core.steps.base import Id, Line, StepBase
from dee_es.core.values import MAX_SAFE_INTEGER


class SendVoice(StepBase):
    """Place a call that follows the script `script_id`.

    `max_duration` is in seconds. `voicemail` says what to do when a machine answers. None leaves
    either to the channel's settings, as it does the number shown, `caller_id`.
    """

    channel: ClassVar[ChannelName | None] = "voice"

    type: Literal["send_voice"] = "send_voice"
    script_id: Id
    caller_id: Line | None = None
    max_duration: int | None = Field(default=None, strict=True, gt=0, le=MAX_SAFE_INTEGER)
    voicemail: Literal["hangup", "leave_message", "continue"] | None = None
