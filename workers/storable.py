"""What the Hub says, made fit to be kept: JSON can carry characters that Postgres cannot."""

import math
from typing import TypeVar, cast

from pydantic import JsonValue

T = TypeVar("T")


def storable(said: T) -> T:
    """Return the same text or JSON, with what cannot be stored replaced."""
    return cast("T", _replaced(cast("JsonValue", said)))


def _replaced(said: JsonValue) -> JsonValue:
    if isinstance(said, str):
        return _text(said)
    if isinstance(said, list):
        return [_replaced(each) for each in said]
    if isinstance(said, dict):
        return {_text(name): _replaced(value) for name, value in said.items()}
    if isinstance(said, float) and not math.isfinite(said):
        return None
    return said


def _text(said: str) -> str:
    # Half of a surrogate pair becomes a question mark.
    return said.replace("\0", "\ufffd").encode(errors="replace").decode()
