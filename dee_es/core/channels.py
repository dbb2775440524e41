"""The channels that contacts are reached through."""

from __future__ import annotations

from typing import Final, Literal, get_args

ChannelName = Literal["email", "voice"]
CHANNELS: Final[tuple[ChannelName, ...]] = get_args(ChannelName)
