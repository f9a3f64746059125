"""How people write when something was: `"2h"` ago, `"2026-11-21"`, `"2026-11-21T10:00+01:00"`."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from pydantic import BeforeValidator

from schema.common import durations
from schema.common.errors import Invalid
from schema.common.text import quote_value

_MAX_AGE: Final = timedelta(days=36_500)
"""Postgres does not count back for ever."""


def parse_timestamp_or_age(value: object) -> datetime | timedelta:
    """Read a moment, or how long ago it was; whose clock shows now is left to the reader.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, str) and (moment := _parse_timestamp(value.strip())) is not None:
        return moment
    try:
        return min(durations.parse_duration(value), _MAX_AGE)
    except ValueError:
        message = (
            f"{quote_value(value)} is not a moment; write how long ago it was "
            f'("2h", "7d"), or when ("2026-11-21", "2026-11-21T10:00:00Z")'
        )
        raise ValueError(message) from None


def expect_since_before_until(
    since: datetime | timedelta | None, until: datetime | timedelta | None
) -> None:
    """Refuse a stretch of time that ends before it begins, as far as that can be told.

    Raises:
        Invalid: nothing could be in it.
    """
    backwards = (
        since < until
        if isinstance(since, timedelta) and isinstance(until, timedelta)
        else isinstance(since, datetime) and isinstance(until, datetime) and since > until
    )
    if backwards:
        raise Invalid("until is before since, so nothing can match; exchange them.")


def _parse_timestamp(text: str) -> datetime | None:
    if text.isdecimal():  # seconds, though Python would read some of them as a date
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


TimestampOrAge = Annotated[
    datetime | timedelta,
    BeforeValidator(parse_timestamp_or_age, json_schema_input_type=float | str),
]
"""A field that reads any of the forms above; what names no zone is UTC."""
