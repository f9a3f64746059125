"""How people write a length of time: `3600`, `"90m"`, `"1h30m"`, `"2 hours"`, `"PT1H30M"`."""

import math
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Final

from pydantic import BeforeValidator, PlainSerializer

UNITS: Final = {
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
_SHOWN: Final = 60
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)\s*")
_BETWEEN: Final = re.compile(r"(?<=[a-z])\s*(?:,|\band\b)\s*(?=\d)")
_ISO: Final = re.compile(r"p(?=\w)((?:\d+d)?)(?:t(?=\d)((?:\d+h)?(?:\d+m)?(?:\d+(?:\.\d+)?s)?))?")
"""ISO 8601, as far as its units have a length: no months, no years."""


def parse(written: object) -> timedelta:
    """Read a positive duration; a bare number counts seconds.

    Raises:
        ValueError: it is not a duration, or is not longer than nothing.
    """
    length = _length(written)
    if length is None:
        message = (
            f'{_shown(written)} is not a duration; write seconds (3600) or units ("1h30m", "45s")'
        )
        raise ValueError(message)
    if length <= timedelta(0):
        message = f"{written!r} is not longer than nothing; write a positive duration"
        raise ValueError(message)
    return length


def within(shortest: timedelta, longest: timedelta) -> Callable[[object], timedelta]:
    """Make a reader of durations between limits, which each of its refusals names."""
    allowed = f"anything from {say(shortest)} to {say(longest)} goes"

    def read(written: object) -> timedelta:
        try:
            length = parse(written)
        except ValueError as error:
            message = f"{error}; {allowed}"
            raise ValueError(message) from None
        if not shortest <= length <= longest:
            amount = "short" if length < shortest else "long"
            message = f"{_shown(written)} is too {amount}; {allowed}"
            raise ValueError(message)
        return length

    return read


def say(length: timedelta) -> str:
    """Write a duration the short way: `1h30m`."""
    seconds = length.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    whole = round(seconds)
    parts = ((whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "m"))
    said = "".join(f"{count}{unit}" for count, unit in (*parts, (whole % 60, "s")) if count)
    return said or "0s"


def whole_seconds(length: timedelta) -> int:
    """Count the seconds to wait for something: never too few, and never none."""
    return max(1, math.ceil(length.total_seconds()))


def _shown(written: object) -> str:
    text = say(written) if isinstance(written, timedelta) else repr(written)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _length(written: object) -> timedelta | None:
    if isinstance(written, timedelta):
        return written
    if isinstance(written, bool) or not isinstance(written, int | float | str):
        return None
    try:
        return timedelta(seconds=float(written))
    except (ValueError, OverflowError):
        return _sum(str(written).strip().lower())


def _sum(written: str) -> timedelta | None:
    if (iso := _ISO.fullmatch(written)) is not None:
        written = "".join(iso.groups(default=""))
    written = _BETWEEN.sub(" ", written)
    if not re.fullmatch(rf"(?:{_PART.pattern})+", written):
        return None
    parts = _PART.findall(written)
    if any(unit not in UNITS for _, unit in parts):
        return None
    try:
        return timedelta(seconds=sum(float(count) * UNITS[unit] for count, unit in parts))
    except OverflowError:
        return None


def _seconds(length: timedelta) -> float:
    return length.total_seconds()


IN_SECONDS: Final = PlainSerializer(_seconds)
Duration = Annotated[timedelta, BeforeValidator(parse), IN_SECONDS]
"""A field that reads any of the forms above and is stored as seconds."""
