"""Text helpers for the sentences of views."""

from datetime import timedelta
from typing import Final

from schema.common.durations import format_duration

_MINUTE: Final = timedelta(minutes=1)


def format_rough_duration(duration: timedelta) -> str:
    """Write a duration in whole minutes, or in seconds if it is shorter than a minute."""
    rounded = duration // _MINUTE * _MINUTE if duration >= _MINUTE else duration
    return format_duration(max(rounded, timedelta(seconds=1)))


def end_sentence(text: str) -> str:
    """Add a full stop to a text that has no punctuation at its end."""
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."
