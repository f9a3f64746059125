"""schema.db.storable."""

import math
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from pydantic import JsonValue

from schema.common.errors import Invalid
from schema.common.text import short_repr


def expect_storable(arguments: Mapping[str, Any]) -> None:
    """Refuse what JSON can carry, and Postgres cannot keep.

    Raises:
        Invalid: with the name of the argument.
    """
    for name, value in arguments.items():
        if (found := _unstorable(value)) is not None:
            raise Invalid(
                f"{short_repr(name)} contains {found}, which cannot be stored; leave it out."
            )


def _unstorable(value: JsonValue) -> str | None:
    if isinstance(value, str):
        if "\0" in value:
            return "a NUL character"
        return None if value.isascii() or _is_unicode(value) else "half of a surrogate pair"
    if isinstance(value, float):
        return None if math.isfinite(value) else "a number that is not finite"
    if isinstance(value, dict):
        return next(filter(None, map(_unstorable, [*value, *value.values()])), None)
    if isinstance(value, list):
        return next(filter(None, map(_unstorable, value)), None)
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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
