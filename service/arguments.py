"""What is wrong with the arguments of a call, and what should be written instead?"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from pydantic import JsonValue, ValidationError
from pydantic_core import ErrorDetails

from schema.errors import Invalid
from schema.spec import Spec
from schema.suggestions import did_you_mean

S = TypeVar("S", bound=Spec)

_SHOWN: Final = 60
"""How much of a wrong value is repeated."""
_FORMS: Final = {
    "dict_type": 'write an object, such as {"NAME": "value"}',
    "string_type": "write a text",
    "list_type": "write a list",
    "bool_parsing": "write true or false",
    "bool_type": "write true or false",
}
"""What to write where pydantic only says what is missing."""
_CHOICE: Final = re.compile(r"'([^']+)'")
_SEALED: Final = frozenset({"secrets", "pass_token", "overrides", "job"})
"""Arguments of which nothing is: somebody may have put a secret there, in a wrong form."""


def explain(error: ValidationError, known: Iterable[str] = ()) -> Invalid:
    """Turn what pydantic found into sentences, one for each argument that is wrong."""
    wrong: dict[object, ErrorDetails] = {}
    for entry in error.errors(include_url=False):
        argument = entry["loc"][0] if entry["loc"] else None
        # Of the ways a value fails to be one of several types, the deepest is the one meant.
        if argument not in wrong or len(entry["loc"]) >= len(wrong[argument]["loc"]):
            wrong[argument] = entry
    return Invalid(" ".join(_sentence(entry, list(known)) for entry in wrong.values()))


def checked(shape: type[S], **given: Any) -> S:
    """Check a request, as it is launched and as it is launched again.

    Raises:
        Invalid: with a sentence for each argument that is wrong.
    """
    try:
        return shape.model_validate(given)
    except ValidationError as error:
        raise explain(error) from None


def given(**arguments: Any) -> dict[str, Any]:
    """Return those of the arguments that a call said; the others have defaults of their own."""
    return {name: value for name, value in arguments.items() if value is not None}


def expect_storable(arguments: Mapping[str, Any]) -> None:
    """Refuse what JSON can carry, and Postgres cannot keep.

    Raises:
        Invalid: with the name of the argument.
    """
    for name, value in arguments.items():
        if (found := _unstorable(value)) is not None:
            raise Invalid(f"{_short(name)} contains {found}, which cannot be stored; leave it out.")


def _sentence(entry: ErrorDetails, known: list[str]) -> str:
    path = _path(entry["loc"])
    match entry["type"]:
        case "extra_forbidden":
            near = did_you_mean(str(entry["loc"][0]), known)
            hint = f"; {_lower(near)}" if near else "."
            return f"There is no argument {path}{hint} The arguments are {', '.join(known)}."
        case "missing":
            return f"{path} is missing."
        case "value_error":
            return f"{path}: {entry['msg'].removeprefix('Value error, ')}."
        case "too_short" | "too_long":
            return f"{path}: {_lower(entry['msg'])}."
        case "enum" | "literal_error":
            choices = _CHOICE.findall(entry.get("ctx", {}).get("expected", ""))
            near = did_you_mean(str(entry["input"])[:_SHOWN], choices)
            wrong = _short(entry["input"])
            return f"{path}: {wrong} is none of {', '.join(choices)}. {near}".strip()
        case wrong:
            form = f"; {_FORMS[wrong]}" if wrong in _FORMS else ""
            given = "" if entry["loc"][0] in _SEALED else f", not {_short(entry['input'])}"
            return f"{path}: {_lower(entry['msg'])}{given}{form}."


def _path(location: tuple[int | str, ...]) -> str:
    # pydantic also names the member of a union it tried, such as `list[Message]` or `str`.
    argument, *inside = location or ("arguments",)
    steps = [step for step in inside if isinstance(step, int) or step.isidentifier()]
    steps = [step for step in steps if step != "str"]
    return "".join([_short(argument), *(_step(step) for step in steps)])


def _step(step: int | str) -> str:
    return f"[{step}]" if isinstance(step, int) else f".{step}"


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _short(value: object) -> str:
    written = value if isinstance(value, str) else json.dumps(value, default=str)
    if isinstance(value, str) and not value.isidentifier():
        written = repr(value)
    return written if len(written) <= _SHOWN else f"{written[:_SHOWN]}…"


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
