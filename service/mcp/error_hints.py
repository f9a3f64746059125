"""Hints for a refusal: what to do about it, and the call to make next, where one is known.

A refusal has a code, a sentence and a remedy. Most sentences contain the remedy; programs find the
remedy alone beside the code. The call to make next is the caller's own with its mistakes
corrected, or one that shows what to choose from. It is left out where only the caller knows it.
"""

import json
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

from schema.common.durations import ceil_to_seconds
from schema.common.errors import (
    Conflict,
    Correction,
    Denied,
    HoldfastError,
    IdempotencyConflict,
    InDoubt,
    Invalid,
    LimitReached,
    NotFound,
    RateLimited,
    Unauthenticated,
    Unavailable,
)
from schema.common.text import format_count
from schema.specs.command_lines.secret_values import HIDDEN, hide_secrets
from schema.specs.validation_errors import SECRET_ARGUMENTS
from service.runtime.toolsets import CURRENT_SELECTION, ToolNotChosen
from service.views.text import count_json_bytes, fit_text

MAX_REFUSAL_BYTES: Final = 3_000
"""What the sentences of a refusal take in a reply; they stand there twice."""
_MAX_CALL_BYTES: Final = 2_000
"""Of a call that a refusal repeats: what is cut could not be copied."""

_HIDDEN_NOTE: Final = (
    f'"{HIDDEN}" stands for what may be a secret; give that in secrets, and let the program read '
    f"the variable."
)


@dataclass(frozen=True, slots=True)
class ErrorHint:
    """What to do, and what to call next."""

    advice: str
    next_call: str = ""
    """The call, ready to be made; empty if only the caller can know it."""
    appended_text: str = ""
    """The part of the hint that the sentence of the refusal does not contain."""


def describe_refusal(failure: HoldfastError) -> str:
    """Write why a call was refused, however much of it the reason repeats.

    The first mistake is at the beginning, and what to do at the end, so both are kept. What may be
    a secret is not repeated.
    """
    text = str(failure)
    if isinstance(failure, Invalid) and (shown := hide_secrets(text)) != text:
        text = f"{shown} {_HIDDEN_NOTE}"
    return fit_text(text, MAX_REFUSAL_BYTES, keeps_end=True)


def build_error_hint(failure: HoldfastError, corrected_call: str = "") -> ErrorHint:
    """Say what to do about a refusal, with no call of a tool that the connection does not have.

    Args:
        failure: why the call was refused.
        corrected_call: the caller's own call without its mistakes, if that is known.
    """
    hint = _choose_hint(failure, corrected_call)
    tool = hint.next_call.partition(" ")[0]
    if not tool or CURRENT_SELECTION.get().includes(tool):
        return hint
    advice = f"{tool} would show more; whoever set this connection up has not chosen it."
    return ErrorHint(advice, appended_text=advice if hint.appended_text else "")


def _choose_hint(  # noqa: C901, PLR0911  # one for each kind of refusal
    failure: HoldfastError, corrected_call: str
) -> ErrorHint:
    match failure:
        case Invalid():
            advice = "Correct what is named, and make the same call again."
            appended = f"A correct call: {corrected_call}" if corrected_call else ""
            return ErrorHint(advice, corrected_call, appended_text=appended)
        case NotFound(kind="upload"):
            advice = (
                "It has expired, or was not sent yet; create_upload makes a link for a new one."
            )
            return ErrorHint(advice, appended_text=advice)
        case NotFound(kind=kind):
            advice = f"list_{kind}s shows yours."
            return ErrorHint(advice, _format_call(f"list_{kind}s", {}), appended_text=advice)
        case LimitReached():
            advice = "Wait until one of your jobs has finished, or cancel one."
            return ErrorHint(
                advice, _format_call("list_jobs", {"state": ["queued", "launching", "running"]})
            )
        case IdempotencyConflict():
            advice = "Repeat the first request unchanged, or use another key for another job."
            return ErrorHint(advice)
        case Conflict():
            return ErrorHint("Make the same call again once what stands in its way is over.")
        case ToolNotChosen():
            return ErrorHint("Have the person choose that toolset as well, or do without.")
        case Denied():
            advice = "Have the person grant what is missing; whoami shows what there is."
            return ErrorHint(advice, _format_call("whoami", {}))
        case Unauthenticated():
            return ErrorHint("Sign in again, or give your client a fresh token.")
        case InDoubt():
            advice = "See whether it was done before making the same call again."
            return ErrorHint(advice, _format_call("list_jobs", {}))
        case RateLimited(retry_after=pause) | Unavailable(retry_after=pause):
            wait = format_count(ceil_to_seconds(pause), "second")
            return ErrorHint(f"Make the same call again in {wait}.")
        case _:
            return ErrorHint("Tell the operator of Holdfast what you called.")


def correct_arguments(
    arguments: Mapping[str, Any], corrections: Iterable[Correction]
) -> dict[str, Any] | None:
    """Return the caller's own arguments with their mistakes corrected.

    Args:
        arguments: as they were sent, but for JSON in texts.
        corrections: one for each mistake.

    Returns:
        The arguments; None if they are not known, or have secrets.
    """
    corrected = deepcopy(dict(arguments))
    try:
        for correction in corrections:
            _correct(corrected, correction)
    except (LookupError, TypeError):
        return None
    has_secrets = bool(SECRET_ARGUMENTS & corrected.keys())
    return None if corrected == arguments or has_secrets else corrected


def format_correct_call(tool: str, arguments: Mapping[str, Any]) -> str:
    """Write a call; empty if it is too long to be repeated, or repeats what may be a secret."""
    try:
        call = _format_call(tool, arguments)
    except ValueError:  # a number that JSON does not have
        return ""
    is_shown = count_json_bytes(call) <= _MAX_CALL_BYTES and hide_secrets(call) == call
    return call if is_shown else ""


def _correct(arguments: dict[str, Any], correction: Correction) -> None:
    *outer, last = correction.path
    inside: Any = arguments
    for step in outer:
        inside = inside[step]
    if correction.name:
        if correction.name in inside:
            raise LookupError
        inside[correction.name] = inside.pop(last)
    else:
        _ = inside[last]  # what was not sent is not corrected
        inside[last] = correction.value


def _format_call(tool: str, arguments: Mapping[str, Any]) -> str:
    return f"{tool} {json.dumps(arguments, ensure_ascii=False, allow_nan=False)}"
