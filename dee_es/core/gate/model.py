"""A policy as it is published: what the gate has to keep to. Every part of it is optional.

    {"consent": {"required": ["voice"], "purpose": "marketing"},
     "windows": {"channels": {"voice": {"weekdays": ["mon", "tue"], "start": "09:00",
                                        "end": "17:00", "holidays": ["2026-12-25"]}}},
     "limits": {"perDay": {"channel": {"email": 500}, "sender": 200, "domain": 50, "contact": 2},
                "warmUp": {"default": {"start": "2026-03-01", "perDay": [20, 40, 80]}}},
     "budget": {"amount": 5000, "currency": "EUR", "costPerSend": {"voice": 12}, "per": "day"}}

Suppression needs no policy and no policy lifts it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from functools import cached_property
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from dee_es.core.channels import ChannelName
from dee_es.core.gate.slots import day_number
from dee_es.core.gate.snapshot import Effect
from dee_es.core.steps.base import Id, Line, PlanPart, refusal
from dee_es.core.values import MAX_SAFE_INTEGER

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: Final[tuple[Weekday, ...]] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MAX_HOLIDAYS: Final = 1000
"""Most holidays of a window."""
MAX_RAMP_DAYS: Final = 366
"""Most days a warm-up may take."""

_MINUTE_MS: Final = 60_000
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
# The slash tells a zone from a misspelled effect; whether it exists only the zone database knows.
_ZONE: Final = re.compile(r"UTC\Z|(?=.{1,64}\Z)[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)+\Z")
_Item = TypeVar("_Item", bound=str)
_Value = TypeVar("_Value")


def _iso_date(text: str) -> str:
    try:
        if _DATE.match(text):
            date.fromisoformat(text)
            return text
    except ValueError:
        pass
    raise refusal("is not a date of the calendar", "write it as 2026-12-25")


def _zone(text: str) -> str:
    if text not in ("defer", "fail") and not _ZONE.match(text):
        raise refusal("is none of defer, fail or the name of a zone", "name a zone: Europe/Berlin")
    return text


def _in_week_order(days: tuple[Weekday, ...]) -> tuple[Weekday, ...]:
    return tuple(day for day in WEEKDAYS if day in days)


def _sorted_once(items: tuple[_Item, ...]) -> tuple[_Item, ...]:
    # One form for one meaning: publishing the same list in another order is no new version.
    return tuple(sorted(set(items)))


def _refusal_at(field: str, problem: str, remedy: str) -> PydanticCustomError:
    """A refusal by a check of several fields, which names the one to correct."""
    context = {"problem": problem, "remedy": remedy, "at": field}
    return PydanticCustomError("refused", "{problem}", context)


IsoDate = Annotated[str, AfterValidator(_iso_date)]
LocalTime = Annotated[str, Field(pattern=r"^(?:[01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$")]
Count = Annotated[int, Field(strict=True, ge=1, le=MAX_SAFE_INTEGER)]
Money = Annotated[int, Field(strict=True, ge=0, le=MAX_SAFE_INTEGER)]


class ConsentRule(PlanPart):
    """Channels that need a grant, and what it has to be given for (None: for no purpose
    in particular)."""

    required: Annotated[tuple[ChannelName, ...], AfterValidator(_sorted_once)] = Field(min_length=1)
    purpose: Line | None = None


class Hours(NamedTuple):
    """A window in numbers: ms after local midnight, which weekdays from Monday, closed days."""

    start_ms: int
    end_ms: int
    open_on: tuple[bool, ...]
    holidays: frozenset[int]


class Window(PlanPart):
    """Local times at which a channel may be used: on `weekdays`, from `start` until before `end`.

    `end` may be 24:00. A window does not cross midnight, since a weekday or holiday would have no
    plain meaning then. `holidays` are local dates without any opening. `on_unknown_zone` says what
    becomes of contacts whose zone is not known: the step fails, is deferred day by day, or goes by
    the zone named here.
    """

    weekdays: Annotated[tuple[Weekday, ...], AfterValidator(_in_week_order)] = Field(
        default=WEEKDAYS, min_length=1
    )
    start: LocalTime = "00:00"
    end: LocalTime = "24:00"
    holidays: Annotated[tuple[IsoDate, ...], AfterValidator(_sorted_once)] = Field(
        default=(), max_length=MAX_HOLIDAYS
    )
    on_unknown_zone: Annotated[str, AfterValidator(_zone)] = "fail"

    @model_validator(mode="after")
    def _opens(self) -> Window:
        # Both are HH:MM, so their order as texts is their order in time.
        if self.start >= self.end:
            problem = f"ends at {self.end}, which is not after its start at {self.start}"
            raise _refusal_at("end", problem, "a window cannot cross midnight")
        return self

    @cached_property
    def hours(self) -> Hours:
        """The window in numbers, worked out once."""
        return Hours(
            _ms(self.start),
            _ms(self.end),
            tuple(day in self.weekdays for day in WEEKDAYS),
            frozenset(day_number(date.fromisoformat(day)) for day in self.holidays),
        )

    @property
    def default_zone(self) -> str | None:
        """The zone for contacts whose own is unknown, if the window names one."""
        named = self.on_unknown_zone
        return None if named in ("defer", "fail") else named

    @cached_property
    def text(self) -> str:
        """The window for people: `mon tue 09:00-17:00 except holidays`."""
        days = "" if len(self.weekdays) == len(WEEKDAYS) else " ".join(self.weekdays) + " "
        return f"{days}{self.start}-{self.end}" + (" except holidays" if self.holidays else "")


class Windows(PlanPart):
    """The window of each channel that has one."""

    channels: dict[ChannelName, Window] = Field(min_length=1)

    @model_validator(mode="after")
    def _calls_fail_closed(self) -> Windows:
        voice = self.channels.get("voice")
        if voice is not None and voice.on_unknown_zone != "fail":
            # A call at a guessed hour may wake somebody, and be against the law.
            problem = "must be fail: nobody is called whose local time is unknown"
            raise _refusal_at("channels.voice.onUnknownZone", problem, "set it so or leave it out")
        return self


class PerDay(PlanPart):
    """Most sends a UTC day: of a channel, of each sender, to each domain, to each contact."""

    channel: dict[ChannelName, Count] = Field(default_factory=dict)
    sender: Count | None = None
    domain: Count | None = None
    contact: Count | None = None

    def of_channel(self, channel: str) -> int | None:
        """The channel's own limit, if it has one."""
        return _held(self.channel, channel)


class Ramp(PlanPart):
    """How many sends a new sender makes on its first days; when the list ends, the ramp is over.

    It begins on the UTC day `start`, or on the one in which the tick `start_tick` falls. Before
    that day the sender sends nothing.
    """

    start: IsoDate | None = None
    start_tick: Money | None = None
    per_day: tuple[Count, ...] = Field(min_length=1, max_length=MAX_RAMP_DAYS)

    @model_validator(mode="after")
    def _begins_once(self) -> Ramp:
        if (self.start is None) == (self.start_tick is None):
            problem = "must be given if startTick is not, and only then"
            raise _refusal_at("start", problem, "give exactly one of the two")
        return self

    @cached_property
    def start_day(self) -> int:
        """The day `start`, counted from 1970-01-01; 0 if the ramp begins at a tick."""
        return day_number(date.fromisoformat(self.start)) if self.start else 0


class Limits(PlanPart):
    """How much may be sent; `warm_up` holds ramps by the id of their sender.

    A ramp and the sender's own limit hold both. `effect` is what becomes of a step over a limit.
    """

    per_day: PerDay = PerDay()
    warm_up: dict[Id, Ramp] = Field(default_factory=dict)
    effect: Effect = "defer"


class Budget(PlanPart):
    """What may be spent on a UTC day, or altogether, in whole units of money.

    A channel without a price is free. `effect` is what becomes of a step that cannot be paid for:
    deferred to the next day unless told otherwise; a total never comes back, so there the run
    pauses.
    """

    amount: Money
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    cost_per_send: dict[ChannelName, Money] = Field(min_length=1)
    per: Literal["day", "total"] = "day"
    effect: Effect

    @model_validator(mode="before")
    @classmethod
    def _effect_by_period(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or "effect" in given:
            return given
        return {**given, "effect": "pause" if given.get("per") == "total" else "defer"}

    @model_validator(mode="after")
    def _can_be_kept(self) -> Budget:
        if self.per == "total" and self.effect == "defer":
            problem = "cannot be defer: a total has no next slot"
            raise _refusal_at("effect", problem, "use pause, fail or skip")
        for channel, cost in self.cost_per_send.items():
            if cost > self.amount:
                problem = f"is below what one {channel} costs"
                raise _refusal_at("amount", problem, "raise it or lower the cost")
        return self

    def cost(self, channel: str) -> int:
        """What a send through the channel costs."""
        return _held(self.cost_per_send, channel) or 0


class Policy(PlanPart):
    """All rules of the gate that are not suppression. Made by `read_policy`."""

    consent: ConsentRule | None = None
    windows: Windows | None = None
    limits: Limits | None = None
    budget: Budget | None = None

    def window(self, channel: str) -> Window | None:
        """The channel's window, if it has one."""
        return _held(self.windows.channels, channel) if self.windows else None


def _held(by_channel: Mapping[Any, _Value], channel: str) -> _Value | None:
    # The keys are names of channels; a channel that is not among them has nothing here.
    return by_channel.get(channel)


def _ms(local: str) -> int:
    hours, minutes = local.split(":")
    return (int(hours) * 60 + int(minutes)) * _MINUTE_MS
