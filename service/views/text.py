"""How is something said without more words than a reader needs?"""

from datetime import timedelta
from typing import Final

from schema.common.durations import say

_MINUTE: Final = timedelta(minutes=1)


def shorten(text: str, length: int) -> str:
    """Write a text on one line, cut off where it gets long."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def about(length: timedelta) -> str:
    """Write a duration without the seconds nobody asks for."""
    whole = length // _MINUTE * _MINUTE if length >= _MINUTE else length
    return say(max(whole, timedelta(seconds=1)))


def sentence(text: str) -> str:
    """End a text as a sentence ends."""
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."
