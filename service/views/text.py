"""How is something said without more words than a reader needs?"""

from datetime import timedelta
from typing import Final

from schema.common.durations import format_duration

_MINUTE: Final = timedelta(minutes=1)


def format_rough_duration(duration: timedelta) -> str:
    """Write a duration without the seconds nobody asks for."""
    whole = duration // _MINUTE * _MINUTE if duration >= _MINUTE else duration
    return format_duration(max(whole, timedelta(seconds=1)))


def end_sentence(text: str) -> str:
    """End a text as a sentence ends."""
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."
