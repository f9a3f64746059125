"""Points in time as people write them: `"2h"` ago, `"2026-11-21"`, `"2026-11-21T10:00+01:00"`."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from pydantic import BeforeValidator

from schema.common import durations
from schema.common.errors import Invalid
from schema.common.text import quote_value

_MAX_AGE: Final = timedelta(days=36_500)
"""Postgres has an earliest timestamp."""


def parse_timestamp_or_age(value: object) -> datetime | timedelta:
    """Parse a timestamp, or an age. The caller decides whose clock an age is counted from.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, str) and (timestamp := _parse_timestamp(value.strip())) is not None:
        return timestamp
    try:
        return min(durations.parse_duration(value), _MAX_AGE)
    except ValueError:
        message = (
            f"{quote_value(value)} is not a point in time; write how long ago it was "
            f'("2h", "7d"), or when ("2026-11-21", "2026-11-21T10:00:00Z")'
        )
        raise ValueError(message) from None


def expect_since_before_until(
    since: datetime | timedelta | None, until: datetime | timedelta | None
) -> None:
    """Refuse an interval that ends before it begins, if both ends are written in the same way.

    Raises:
        Invalid: nothing can be in the interval.
    """
    is_reversed = (
        since < until
        if isinstance(since, timedelta) and isinstance(until, timedelta)
        else isinstance(since, datetime) and isinstance(until, datetime) and since > until
    )
    if is_reversed:
        raise Invalid("until is before since, so nothing can match. Exchange the two.")


def _parse_timestamp(text: str) -> datetime | None:
    if text.isdecimal():  # an age in seconds, though Python would parse some numbers as a date
        return None
    try:
        timestamp = datetime.fromisoformat(text)
        return (timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


TimestampOrAge = Annotated[
    datetime | timedelta,
    BeforeValidator(parse_timestamp_or_age, json_schema_input_type=float | str),
]
"""A field that accepts any of these forms; a time without a zone is UTC."""
