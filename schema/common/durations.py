"""Durations as people write them: `3600`, `"90m"`, `"1h30m"`, `"2 hours"`, `"PT1H30M"`."""

import math
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Final

from pydantic import BeforeValidator, PlainSerializer

from schema.common.text import quote_value

UNIT_SECONDS: Final = {
    "ms": 0.001,
    "s": 1,
    "sec": 1,
    "secs": 1,
    "second": 1,
    "seconds": 1,
    "m": 60,
    "min": 60,
    "mins": 60,
    "minute": 60,
    "minutes": 60,
    "h": 3600,
    "hr": 3600,
    "hrs": 3600,
    "hour": 3600,
    "hours": 3600,
    "d": 86400,
    "day": 86400,
    "days": 86400,
}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)\s*")
_BETWEEN: Final = re.compile(r"(?<=[a-z])\s*(?:,|\band\b)\s*(?=\d)")
_ISO: Final = re.compile(r"p(?=\w)((?:\d+d)?)(?:t(?=\d)((?:\d+h)?(?:\d+m)?(?:\d+(?:\.\d+)?s)?))?")
"""ISO 8601, as far as its units have a length: no months, no years."""


def parse_duration(value: object) -> timedelta:
    """Parse a positive duration; a number without a unit counts seconds.

    Raises:
        ValueError: it is not a duration, or is not positive.
    """
    duration = _to_timedelta(value)
    if duration is None:
        message = (
            f'{_format_value(value)} is not a duration; write seconds (3600) or units ("1h30m", '
            '"45s")'
        )
        raise ValueError(message)
    if duration <= timedelta(0):
        message = f"{_format_value(value)} is not positive; write a duration longer than 0"
        raise ValueError(message)
    return duration


def bounded_duration_parser(
    minimum: timedelta, maximum: timedelta
) -> Callable[[object], timedelta]:
    """Return a parser of durations between limits; its errors name the limits."""
    limits = f"from {format_duration(minimum)} to {format_duration(maximum)} is allowed"

    def parse_bounded(value: object) -> timedelta:
        try:
            duration = parse_duration(value)
        except ValueError as error:
            message = f"{error}; {limits}"
            raise ValueError(message) from None
        if not minimum <= duration <= maximum:
            problem = "short" if duration < minimum else "long"
            message = f"{_format_value(value)} is too {problem}; {limits}"
            raise ValueError(message)
        return duration

    return parse_bounded


def format_duration(duration: timedelta) -> str:
    """Write a duration in its short form: `1h30m`."""
    seconds = duration.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    whole = round(seconds)
    parts = (
        (whole // 86400, "d"),
        (whole // 3600 % 24, "h"),
        (whole // 60 % 60, "m"),
        (whole % 60, "s"),
    )
    return "".join(f"{count}{unit}" for count, unit in parts if count) or "0s"


def ceil_to_seconds(duration: timedelta) -> int:
    """Round up to whole seconds, at least one: a client that waits so long waits long enough."""
    return max(1, math.ceil(duration.total_seconds()))


def _format_value(value: object) -> str:
    return format_duration(value) if isinstance(value, timedelta) else quote_value(value)


def _to_timedelta(value: object) -> timedelta | None:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return timedelta(seconds=float(value))
    except (ValueError, OverflowError):
        return _sum_units(str(value).strip().lower())


def _sum_units(text: str) -> timedelta | None:
    if (iso := _ISO.fullmatch(text)) is not None:
        text = "".join(iso.groups(default=""))
    text = _BETWEEN.sub(" ", text)
    if not re.fullmatch(rf"(?:{_PART.pattern})+", text):
        return None
    parts = _PART.findall(text)
    if any(unit not in UNIT_SECONDS for _, unit in parts):
        return None
    try:
        return timedelta(seconds=sum(float(count) * UNIT_SECONDS[unit] for count, unit in parts))
    except OverflowError:
        return None


def _to_seconds(duration: timedelta) -> float:
    return duration.total_seconds()


SERIALIZE_AS_SECONDS: Final = PlainSerializer(_to_seconds)
Duration = Annotated[timedelta, BeforeValidator(parse_duration), SERIALIZE_AS_SECONDS]
"""A field that accepts any of these forms and is stored as seconds."""
