"""Text helpers for the sentences of views, and for what has to fit a reply."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from schema.common.durations import format_duration
from schema.common.text import truncate

_MINUTE: Final = timedelta(minutes=1)
_JSON_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, default=str)
_MAX_CHAR_BYTES: Final = 6
"""Of a character in JSON that is written as an escape."""
_QUOTES_BYTES: Final = 2


def format_rough_duration(duration: timedelta) -> str:
    """Write a duration in whole minutes, or in seconds if it is shorter than a minute."""
    rounded = duration // _MINUTE * _MINUTE if duration >= _MINUTE else duration
    return format_duration(max(rounded, timedelta(seconds=1)))


def end_sentence(text: str) -> str:
    """Add a full stop to a text that has no punctuation at its end."""
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def format_size(size_bytes: int) -> str:
    """Write a number of bytes: `12 kB`, `3.4 MB`."""
    size, unit = float(size_bytes), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:  # noqa: PLR2004  # as units of bytes go
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "bytes" or size >= 10 else f"{size:.1f} {unit}"  # noqa: PLR2004


def count_json_bytes(value: Any) -> int:
    """Return how many bytes a value takes in a reply, which is JSON in UTF-8."""
    return len(_JSON_ENCODER.encode(value).encode())


def take_fitting_start(text: str, max_bytes: int) -> str:
    """Return the longest beginning of a text that takes so many bytes at most, by bisection."""
    text = text[:max_bytes]
    shortest, longest = 0, len(text)
    while shortest < longest:
        length = (shortest + longest + 1) // 2
        if count_json_bytes(text[:length]) <= max_bytes:
            shortest = length
        else:
            longest = length - 1
    return text[:shortest]


def take_fitting_texts(texts: Sequence[str], max_bytes: int) -> list[str]:
    """Return the first texts that take so many bytes together at most."""
    return take_fitting_end(texts[::-1], max_bytes)[::-1]


def take_fitting_end(lines: Sequence[str], max_bytes: int) -> list[str]:
    """Return the last lines that take so many bytes together at most."""
    start = len(lines)
    while start and (max_bytes := max_bytes - count_json_bytes(lines[start - 1])) >= 0:
        start -= 1
    return list(lines[start:])


def fit_text(text: str, max_bytes: int, *, keeps_end: bool = False) -> str:
    """Return a text; one that takes more bytes in a reply is cut to the longest part that fits.

    Args:
        max_bytes: what it may take, as JSON.
        keeps_end: keep the beginning and the end, and cut in the middle.
    """
    if len(text) * _MAX_CHAR_BYTES + _QUOTES_BYTES <= max_bytes:
        return text  # without a look at its characters
    if count_json_bytes(text) <= max_bytes:
        return text
    shortest, longest = 0, min(len(text), max_bytes)
    while shortest < longest:
        length = (shortest + longest + 1) // 2
        if count_json_bytes(truncate(text, length, keeps_end=keeps_end)) <= max_bytes:
            shortest = length
        else:
            longest = length - 1
    return truncate(text, shortest, keeps_end=keeps_end)
