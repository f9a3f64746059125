"""How people write a length of time: `3600`, `"90m"`, `"1h30m"`, `"2 hours"`, `"PT1H30M"`."""

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
    """Read a positive duration; a bare number counts seconds.

    Raises:
        ValueError: it is not a duration, or is not longer than nothing.
    """
    length = _to_timedelta(value)
    if length is None:
        message = (
            f'{_format_value(value)} is not a duration; write seconds (3600) or units ("1h30m", '
            '"45s")'
        )
        raise ValueError(message)
    if length <= timedelta(0):
        message = f"{value!r} is not longer than nothing; write a positive duration"
        raise ValueError(message)
    return length


def bounded_duration_parser(
    minimum: timedelta, maximum: timedelta
) -> Callable[[object], timedelta]:
    """Make a reader of durations between limits, which each of its refusals names."""
    allowed = f"anything from {format_duration(minimum)} to {format_duration(maximum)} goes"

    def read(written: object) -> timedelta:
        try:
            length = parse_duration(written)
        except ValueError as error:
            message = f"{error}; {allowed}"
            raise ValueError(message) from None
        if not minimum <= length <= maximum:
            amount = "short" if length < minimum else "long"
            message = f"{_format_value(written)} is too {amount}; {allowed}"
            raise ValueError(message)
        return length

    return read


def format_duration(duration: timedelta) -> str:
    """Write a duration the short way: `1h30m`."""
    seconds = duration.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    whole = round(seconds)
    parts = ((whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "m"))
    said = "".join(f"{count}{unit}" for count, unit in (*parts, (whole % 60, "s")) if count)
    return said or "0s"


def ceil_to_seconds(duration: timedelta) -> int:
    """Count the seconds to wait for something: never too few, and never none."""
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
"""A field that reads any of the forms above and is stored as seconds."""
