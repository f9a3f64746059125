"""Hints for a refusal: what to do about it, and a correct call.

Every refusal has four parts: a code, a sentence, a remedy, and the shortest call that is correct.
Most sentences contain the remedy; programs find the remedy alone beside the code.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schema.common.durations import ceil_to_seconds
from schema.common.errors import (
    Conflict,
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


@dataclass(frozen=True, slots=True)
class ErrorHint:
    """What to do, and a correct call."""

    advice: str
    example_call: str
    appended_text: str = ""
    """The part of the hint that the sentence of the refusal does not contain."""


def build_error_hint(  # noqa: PLR0911  # one for each kind of refusal
    failure: HoldfastError, tool: str, example: Mapping[str, Any]
) -> ErrorHint:
    """Say what to do about a refusal of `tool`, of which `example` is a correct call."""
    call = _format_call(tool, example)
    match failure:
        case Invalid():
            advice = "Correct what is named, and make the same call again."
            return ErrorHint(advice, call, appended_text=f"A correct call: {call}")
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
            return ErrorHint(advice, _format_call(tool, {**example, "idempotency_key": "another"}))
        case Conflict():
            return ErrorHint("Make the same call again once what stands in its way is over.", call)
        case Denied():
            advice = "Have the person grant what is missing; whoami shows what there is."
            return ErrorHint(advice, _format_call("whoami", {}))
        case Unauthenticated():
            return ErrorHint("Sign in again, or give your client a fresh token.", call)
        case InDoubt():
            advice = "See whether it was done before making the same call again."
            return ErrorHint(advice, _format_call("list_jobs", {}))
        case RateLimited(retry_after=pause) | Unavailable(retry_after=pause):
            return ErrorHint(f"Make the same call again in {ceil_to_seconds(pause)} seconds.", call)
        case _:
            return ErrorHint("Tell the operator of Holdfast what you called.", call)


def _format_call(tool: str, arguments: Mapping[str, Any]) -> str:
    return f"{tool} {json.dumps(arguments)}"
