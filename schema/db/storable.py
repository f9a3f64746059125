"""What JSON can carry and Postgres cannot store: refused in arguments, replaced in answers.

Neither `text` nor `jsonb` takes a NUL character or half of a surrogate pair, and `jsonb` takes no
number that is not finite. An integer of thousands of digits and a value of thousands of levels are
JSON too, and whatever reads them, here or in a client, may fail. What a caller writes is refused,
with the name of the argument. What a server answered, or a job printed, cannot be refused any more,
so it is replaced.
"""

import math
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeVar, cast

from asyncpg.exceptions import CheckViolationError
from pydantic import JsonValue

from schema.common.errors import Invalid
from schema.common.text import short_repr

T = TypeVar("T")
_Policy = Callable[[JsonValue, str], JsonValue]
"""Takes a value that cannot be stored, and why; returns what is stored, or raises."""
_MAX_INTEGER_BITS: Final = 64
_MAX_LEVELS: Final = 100


def expect_storable(arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that cannot be stored.

    Raises:
        Invalid: with the name of the argument.
    """
    for name, value in arguments.items():
        _apply_policy(value, partial(_refuse, name))


@contextmanager
def refuse_oversized_spec(constraint: str, *, consequence: str) -> Generator[None]:
    """Explain that a request is too large, where a statement in the block says so.

    Args:
        constraint: The name of the CHECK that limits its size.
        consequence: What was not done, as half a sentence.

    Raises:
        Invalid: the request violates that CHECK; the caller's transaction is lost.
    """
    try:
        yield
    except CheckViolationError as violation:
        if violation.constraint_name != constraint:
            raise
        raise Invalid(
            f"The request is larger than 1 MB, so {consequence}. Put large inputs into a "
            "repository or a bucket and pass where they are."
        ) from None


def to_storable(value: T) -> T:
    """Return the same text or JSON, with what cannot be stored replaced."""
    return cast("T", _apply_policy(cast("JsonValue", value), _replace))


def _refuse(argument: str, _: JsonValue, problem: str) -> JsonValue:
    raise Invalid(
        f"{short_repr(argument)} contains {problem}, which cannot be stored; leave it out."
    )


def _replace(value: JsonValue, _: str) -> JsonValue:
    # Half of a surrogate pair becomes a question mark.
    return (
        value.replace("\0", "\ufffd").encode(errors="replace").decode()
        if isinstance(value, str)
        else None
    )


def _apply_policy(value: JsonValue, policy: _Policy, level: int = 0) -> JsonValue:
    """Copy a value; each part of it that cannot be stored goes through the policy."""
    if (problem := _find_problem(value, level)) is not None:
        return policy(value, problem)
    if isinstance(value, list):
        return [_apply_policy(item, policy, level + 1) for item in value]
    if isinstance(value, dict):
        return {
            cast("str", _apply_policy(name, policy)): _apply_policy(item, policy, level + 1)
            for name, item in value.items()
        }
    return value


def _find_problem(value: JsonValue, level: int) -> str | None:
    if isinstance(value, str):
        return _find_text_problem(value)
    if isinstance(value, float):
        return None if math.isfinite(value) else "a number that is not finite"
    if isinstance(value, int):
        is_huge = value.bit_length() > _MAX_INTEGER_BITS
        return f"an integer of more than {_MAX_INTEGER_BITS} bits" if is_huge else None
    is_deep = isinstance(value, list | dict) and level > _MAX_LEVELS
    return f"a value below {_MAX_LEVELS} levels of others" if is_deep else None


def _find_text_problem(text: str) -> str | None:
    if "\0" in text:
        return "a NUL character"
    if text.isascii():  # quick, and true of most texts
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return "half of a surrogate pair"
    return None
