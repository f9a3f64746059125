"""What should be done about a refusal, and which call does it?

Every refusal has four parts: a code, a sentence, a remedy, and the shortest call that is correct.
Most sentences say the remedy themselves; programs find it by itself beside the code.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schema.common.durations import whole_seconds
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
class Remedy:
    """What to do, and a call that is right."""

    advice: str
    call: str
    untold: str = ""
    """What the sentence of the refusal leaves out."""


def remedy(  # noqa: PLR0911  # one for each kind of refusal
    failure: HoldfastError, tool: str, example: Mapping[str, Any]
) -> Remedy:
    """Say what to do about a refusal of `tool`, of which `example` is a correct call."""
    call = _call(tool, example)
    match failure:
        case Invalid():
            advice = "Correct what is named, and make the same call again."
            return Remedy(advice, call, untold=f"A correct call: {call}")
        case NotFound(kind=kind):
            advice = f"list_{kind}s shows yours."
            return Remedy(advice, _call(f"list_{kind}s", {}), untold=advice)
        case LimitReached():
            advice = "Wait until one of your jobs has finished, or cancel one."
            return Remedy(advice, _call("list_jobs", {"state": ["queued", "launching", "running"]}))
        case IdempotencyConflict():
            advice = "Repeat the first request unchanged, or use another key for another job."
            return Remedy(advice, _call(tool, {**example, "idempotency_key": "another"}))
        case Conflict():
            return Remedy("Make the same call again once what stands in its way is over.", call)
        case Denied():
            advice = "Have the person grant what is missing; whoami shows what there is."
            return Remedy(advice, _call("whoami", {}))
        case Unauthenticated():
            return Remedy("Sign in again, or give your client a fresh token.", call)
        case InDoubt():
            advice = "See whether it was done before making the same call again."
            return Remedy(advice, _call("list_jobs", {}))
        case RateLimited(retry_after=pause) | Unavailable(retry_after=pause):
            return Remedy(f"Make the same call again in {whole_seconds(pause)} seconds.", call)
        case _:
            return Remedy("Tell the operator of Holdfast what you called.", call)


def _call(tool: str, arguments: Mapping[str, Any]) -> str:
    return f"{tool} {json.dumps(arguments)}"
