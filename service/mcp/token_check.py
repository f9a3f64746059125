"""Tokens of the Hub in arguments that are stored in the open: refused, with where a token goes.

Whatever a call writes can be read by others: env, commands and labels at the Hub, titles in lists,
prompts at a provider. A log is searched for tokens; a request never has to hold one.
"""

from collections.abc import Mapping
from typing import Any, Final, cast

from schema.common.errors import Invalid
from schema.common.text import truncate
from schema.specs.hub_job import TOKEN_VARIABLE
from schema.specs.inputs.hub_tokens import find_token

_SEALED_ARGUMENT: Final = "secrets"
_ENVIRONMENT_ARGUMENT: Final = "env"
_PASS_TOKEN_ARGUMENT: Final = "pass_token"  # noqa: S105  # the name of an argument
_NESTED_JOB_ARGUMENT: Final = "job"


def expect_no_token(arguments: Mapping[str, Any], known_arguments: Mapping[str, object]) -> None:
    """Refuse a token anywhere but in secrets; the refusal does not repeat it.

    Args:
        arguments: of a call that stores them.
        known_arguments: what the tool takes: with secrets among them, the refusal says how.

    Raises:
        Invalid: with the argument, and with where a token goes.
    """
    for name, value in arguments.items():
        path = find_token(_without_secrets({name: _without_secrets(value)}))
        if path is None:
            continue
        where = ".".join(truncate(step) for step in path) or "The name of an argument"
        raise Invalid(
            f"{where} contains a token of Hugging Face, and is stored where others can read it. "
            f"Nothing was done. {_describe_remedy(path, known_arguments)}"
        )


def _without_secrets(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, Any]", value)
    return {name: inside for name, inside in fields.items() if name != _SEALED_ARGUMENT}


def _describe_remedy(path: list[str], known_arguments: Mapping[str, object]) -> str:
    in_job = path[:1] == [_NESTED_JOB_ARGUMENT]
    if not in_job and _SEALED_ARGUMENT not in known_arguments:
        return "Leave it out: a call is made as you without it."
    is_variable = len(path) > 1 and path[-2] == _ENVIRONMENT_ARGUMENT
    variable = truncate(path[-1]) if is_variable else TOKEN_VARIABLE
    own = f'secrets={{"{variable}": "$HF_TOKEN"}}'
    if variable == TOKEN_VARIABLE and (in_job or _PASS_TOKEN_ARGUMENT in known_arguments):
        own = f"pass_token=true or {own}"
    return (
        f"Leave it out. For your own token, give {own}; for another, give "
        f'secrets={{"{variable}": "…"}}. The program reads it from the variable {variable}.'
    )
