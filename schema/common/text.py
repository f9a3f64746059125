"""Values written into messages: short, and on one line."""

import json
from typing import Final

_MAX_CHARS: Final = 60
"""How much of a value a message repeats."""


def short_repr(value: object) -> str:
    """Write a value as a message repeats it: a word as it is, else quoted, cut off where long."""
    written = value if isinstance(value, str) else json.dumps(value, default=str)
    if isinstance(value, str) and not value.isidentifier():
        written = repr(value)
    return written if len(written) <= _MAX_CHARS else f"{written[:_MAX_CHARS]}…"
