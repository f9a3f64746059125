"""Errors of pydantic, turned into sentences that say what to write instead."""

import re
from collections.abc import Iterable
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from schema.common.errors import CorrectableError, Correction, Invalid
from schema.common.name_matching import closest_names, did_you_mean
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
"""What to write, by the type of error of pydantic, which only says what is wrong."""
_CHOICE: Final = re.compile(r"'([^']+)'")
SECRET_ARGUMENTS: Final = frozenset({"secrets", "pass_token", "overrides", "job"})
"""Arguments whose values are never repeated: a secret may stand there in a wrong form."""


def to_invalid_error(error: ValidationError, known_arguments: Iterable[str] = ()) -> Invalid:
    """Turn an error of pydantic into sentences, one for each wrong argument."""
    entries: dict[object, ErrorDetails] = {}
    for entry in error.errors(include_url=False):
        argument = entry["loc"][0] if entry["loc"] else None
        # A union fails once for each member; the deepest failure is of the member that was meant.
        if argument not in entries or len(entry["loc"]) >= len(entries[argument]["loc"]):
            entries[argument] = entry
    names = list(known_arguments)
    corrections = [_find_correction(entry, names) for entry in entries.values()]
    return Invalid(
        " ".join(_describe_error(entry, names) for entry in entries.values()),
        [each for each in corrections if each] if all(corrections) else (),
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
    """Validate a request, of a launch or of a retry.

    Raises:
        Invalid: with a sentence for each wrong argument.
    """
    try:
        return spec_class.model_validate(fields)
    except ValidationError as error:
        raise to_invalid_error(error) from None


def drop_none(**arguments: Any) -> dict[str, Any]:
    """Return the arguments that a call gave; the others have defaults in the specification."""
    return {name: value for name, value in arguments.items() if value is not None}


def _describe_error(entry: ErrorDetails, known_arguments: list[str]) -> str:
    path = _format_path(entry["loc"])
    match entry["type"]:
        case "extra_forbidden":
            question = did_you_mean(str(entry["loc"][0]), known_arguments)
            hint = f"; {_lower_first(question)}" if question else "."
            return (
                f"There is no argument {path}{hint} The arguments are {', '.join(known_arguments)}."
            )
        case "missing":
            return f"{path} is missing."
        case "value_error" | "too_short" | "too_long":
            return f"{path}: {describe_problem(entry)}."
        case "enum" | "literal_error":
            choices = _CHOICE.findall(entry.get("ctx", {}).get("expected", ""))
            question = did_you_mean(str(entry["input"]), choices)
            value = short_repr(entry["input"])
            return f"{path}: {value} is none of {', '.join(choices)}. {question}".strip()
        case error_type:
            form = f"; {_EXPECTED_FORMS[error_type]}" if error_type in _EXPECTED_FORMS else ""
            contrast = (
                "" if entry["loc"][0] in SECRET_ARGUMENTS else f", not {short_repr(entry['input'])}"
            )
            return f"{path}: {describe_problem(entry)}{contrast}{form}."


def _find_correction(entry: ErrorDetails, known_arguments: list[str]) -> Correction | None:
    path, context = entry["loc"], entry.get("ctx", {})
    match entry["type"]:
        case "extra_forbidden" if len(path) == 1:
            names = closest_names(str(path[0]), known_arguments)
            return Correction(path, name=names[0]) if names else None
        case "enum" | "literal_error":
            choices = closest_names(str(entry["input"]), _CHOICE.findall(context["expected"]))
            return Correction(path, choices[0]) if choices else None
        case "value_error" if isinstance(error := context.get("error"), CorrectableError):
            return Correction(path, error.value)
        case _:
            return None


def _format_path(location: tuple[int | str, ...]) -> str:
    argument, *inside = location or ("arguments",)
    return short_repr(argument) + format_steps(inside)


def format_steps(steps: Iterable[int | str]) -> str:
    """Write where in a value something is: `[0].content`."""
    # pydantic also names the member of a union it tried, such as `list[Message]` or `str`.
    return "".join(
        _format_step(step)
        for step in steps
        if isinstance(step, int) or (step.isidentifier() and step != "str")
    )


def _format_step(step: int | str) -> str:
    return f"[{step}]" if isinstance(step, int) else f".{step}"


def _lower_first(sentence: str) -> str:
    # Not of a word such as URL.
    return sentence if sentence[1:2].isupper() else sentence[:1].lower() + sentence[1:]
