"""What is wrong with the arguments of a call, and what should be written instead?"""

import re
from collections.abc import Iterable
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from schema.common.errors import Invalid
from schema.common.name_matching import did_you_mean
from schema.common.text import short_repr
from schema.specs.base import Spec

S = TypeVar("S", bound=Spec)

_EXPECTED_FORMS: Final = {
    "dict_type": 'write an object, such as {"NAME": "value"}',
    "string_type": "write a text",
    "list_type": "write a list",
    "bool_parsing": "write true or false",
    "bool_type": "write true or false",
}
"""What to write where pydantic only says what is missing."""
_CHOICE: Final = re.compile(r"'([^']+)'")
_SECRET_ARGUMENTS: Final = frozenset({"secrets", "pass_token", "overrides", "job"})
"""Arguments of which nothing is: somebody may have put a secret there, in a wrong form."""


def to_invalid_error(error: ValidationError, known_arguments: Iterable[str] = ()) -> Invalid:
    """Turn what pydantic found into sentences, one for each argument that is wrong."""
    wrong: dict[object, ErrorDetails] = {}
    for entry in error.errors(include_url=False):
        argument = entry["loc"][0] if entry["loc"] else None
        # Of the ways a value fails to be one of several types, the deepest is the one meant.
        if argument not in wrong or len(entry["loc"]) >= len(wrong[argument]["loc"]):
            wrong[argument] = entry
    return Invalid(
        " ".join(_describe_error(entry, list(known_arguments)) for entry in wrong.values())
    )


def describe_problem(entry: ErrorDetails) -> str:
    """Write what pydantic found so that it can follow a colon.

    Its own messages begin in upper case. Those of our validators have a prefix of pydantic's, and
    begin as we wrote them, maybe with a name.
    """
    if entry["type"] == "value_error":
        return entry["msg"].removeprefix("Value error, ")
    return _lower_first(entry["msg"])


def validate_spec(spec_class: type[S], **fields: Any) -> S:
    """Check a request, as it is launched and as it is launched again.

    Raises:
        Invalid: with a sentence for each argument that is wrong.
    """
    try:
        return spec_class.model_validate(fields)
    except ValidationError as error:
        raise to_invalid_error(error) from None


def drop_none(**arguments: Any) -> dict[str, Any]:
    """Return those of the arguments that a call said; the others have defaults of their own."""
    return {name: value for name, value in arguments.items() if value is not None}


def _describe_error(entry: ErrorDetails, known_arguments: list[str]) -> str:
    path = _format_path(entry["loc"])
    match entry["type"]:
        case "extra_forbidden":
            near = did_you_mean(str(entry["loc"][0]), known_arguments)
            hint = f"; {_lower_first(near)}" if near else "."
            return (
                f"There is no argument {path}{hint} The arguments are {', '.join(known_arguments)}."
            )
        case "missing":
            return f"{path} is missing."
        case "value_error" | "too_short" | "too_long":
            return f"{path}: {describe_problem(entry)}."
        case "enum" | "literal_error":
            choices = _CHOICE.findall(entry.get("ctx", {}).get("expected", ""))
            near = did_you_mean(str(entry["input"]), choices)
            wrong = short_repr(entry["input"])
            return f"{path}: {wrong} is none of {', '.join(choices)}. {near}".strip()
        case wrong:
            form = f"; {_EXPECTED_FORMS[wrong]}" if wrong in _EXPECTED_FORMS else ""
            given = (
                ""
                if entry["loc"][0] in _SECRET_ARGUMENTS
                else f", not {short_repr(entry['input'])}"
            )
            return f"{path}: {describe_problem(entry)}{given}{form}."


def _format_path(location: tuple[int | str, ...]) -> str:
    # pydantic also names the member of a union it tried, such as `list[Message]` or `str`.
    argument, *inside = location or ("arguments",)
    steps = [step for step in inside if isinstance(step, int) or step.isidentifier()]
    steps = [step for step in steps if step != "str"]
    return "".join([short_repr(argument), *(_format_step(step) for step in steps)])


def _format_step(step: int | str) -> str:
    return f"[{step}]" if isinstance(step, int) else f".{step}"


def _lower_first(sentence: str) -> str:
    # Not of a word such as URL.
    return sentence if sentence[1:2].isupper() else sentence[:1].lower() + sentence[1:]
