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
        if (found := _find_unstorable(value)) is not None:
            raise Invalid(
                f"{short_repr(name)} contains {found}, which cannot be stored; leave it out."
            )


def _find_unstorable(value: JsonValue) -> str | None:
    if isinstance(value, str):
        if "\0" in value:
            return "a NUL character"
        return None if value.isascii() or _is_encodable(value) else "half of a surrogate pair"
    if isinstance(value, float):
        return None if math.isfinite(value) else "a number that is not finite"
    if isinstance(value, dict):
        return next(filter(None, map(_find_unstorable, [*value, *value.values()])), None)
    if isinstance(value, list):
        return next(filter(None, map(_find_unstorable, value)), None)
    return None


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


T = TypeVar("T")


def to_storable(value: T) -> T:
    """Return the same text or JSON, with what cannot be stored replaced."""
    return cast("T", _to_storable_json(cast("JsonValue", value)))


def _to_storable_json(json_value: JsonValue) -> JsonValue:
    if isinstance(json_value, str):
        return _to_storable_text(json_value)
    if isinstance(json_value, list):
        return [_to_storable_json(each) for each in json_value]
    if isinstance(json_value, dict):
        return {
            _to_storable_text(name): _to_storable_json(value) for name, value in json_value.items()
        }
    if isinstance(json_value, float) and not math.isfinite(json_value):
        return None
    return json_value


def _to_storable_text(text: str) -> str:
    # Half of a surrogate pair becomes a question mark.
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()
