"""How is something said without more words than a reader needs?"""

from datetime import timedelta
from typing import Final

from schema.common.durations import format_duration

_MINUTE: Final = timedelta(minutes=1)


def shorten(text: str, max_characters: int) -> str:
    """Write a text on one line, cut off where it gets long."""
    line = " ".join(text.split())
    return line if len(line) <= max_characters else f"{line[: max_characters - 1]}…"


def format_rough_duration(duration: timedelta) -> str:
    """Write a duration without the seconds nobody asks for."""
    whole = duration // _MINUTE * _MINUTE if duration >= _MINUTE else duration
    return format_duration(max(whole, timedelta(seconds=1)))


def end_sentence(text: str) -> str:
    """End a text as a sentence ends."""
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."
