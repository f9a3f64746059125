"""Text for messages: cut, put on one line, quoted, or a number with its noun.

A message repeats what a caller wrote, and that may be of any length. `truncate` is the one function
that cuts a text: a mark stands in the place of what is left out, and counts as part of the text.
"""

import json
from datetime import UTC, datetime
from typing import Final

MAX_QUOTED_CHARS: Final = 60
"""How much of a value a message repeats, unless it says otherwise."""


def format_count(count: int, noun: str, plural: str | None = None) -> str:
    """Write a number with its noun: `1 job`, `2 jobs`, `12,000 jobs`.

    Args:
        plural: The noun for any number but one; None adds an s.
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def format_utc(moment: datetime) -> str:
    """Write a moment to the second: `2026-12-01 10:40:05 UTC`."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def truncate(
    text: str, max_chars: int = MAX_QUOTED_CHARS, *, keeps_end: bool = False, mark: str = "…"
) -> str:
    """Cut a text that is too long.

    Args:
        max_chars: The length of the longest text, with the mark.
        keeps_end: Keep the beginning and the end, and cut in the middle. What a program printed,
            or a server answered, often says at its end what went wrong.
        mark: What stands in the place of what is cut.
    """
    if len(text) <= max_chars:
        return text
    room = max(0, max_chars - len(mark))
    end = room // 2 if keeps_end else 0
    return f"{text[: room - end]}{mark}{text[len(text) - end :]}"


def shorten(text: str, max_chars: int, *, keeps_end: bool = False) -> str:
    """Write a text on one line, and cut what is too long."""
    return truncate(" ".join(text.split()), max_chars, keeps_end=keeps_end)


def quote_value(value: object, max_chars: int = MAX_QUOTED_CHARS) -> str:
    """Write a value in a message as Python does; a text is cut off inside of its quotes."""
    if isinstance(value, str):
        return repr(truncate(value, max_chars))
    return truncate(repr(value), max_chars)


def short_repr(value: object) -> str:
    """Write a value in a message as JSON does; of the texts, an identifier stays without quotes."""
    if isinstance(value, str):
        return truncate(value) if value.isidentifier() else quote_value(value)
    return truncate(json.dumps(value, default=str))
