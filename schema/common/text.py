"""Text that is short enough to be shown: cut off, put on one line, quoted in a message.

A message repeats what a caller wrote, and that may be of any length. Whatever is cut off ends in
an ellipsis, which counts as one of the characters.
"""

import json
from typing import Final

MAX_QUOTED_CHARS: Final = 60
"""How much of a value a message repeats, unless it says otherwise."""


def truncate(text: str, max_chars: int = MAX_QUOTED_CHARS) -> str:
    """Cut off a text that is too long."""
    return text if len(text) <= max_chars else f"{text[: max_chars - 1]}…"


def shorten(text: str, max_chars: int) -> str:
    """Write a text on one line, and cut off what is too long."""
    return truncate(" ".join(text.split()), max_chars)


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
