"""Does a person have to agree before this is launched, and have they?

    needed? ──no──▶ launch
       │ yes
       ├─ the client can ask (2026-07-28, elicitation) ──▶ it asks; the same call goes on, or ends
       └─ it cannot ──▶ NeedsConfirmation, with a seal; the same call with `confirm` goes on

One seal is one launch: repeated, the call finds the job it made. Other arguments, another price,
another person, or ten minutes later: the question is asked anew.
"""

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from mcp.server.mcpserver import Context, Elicit, ElicitationResult, Resolve
from pydantic import BaseModel, Field

from schema.common.durations import format_duration
from schema.common.errors import Conflict
from service.jobs.approval import ApprovalQuestion
from service.mcp.dependencies import current_app, current_caller
from service.runtime.context import App
from service.runtime.sealed_tokens import CONFIRMATION_LIFETIME

ConfirmationToken = Annotated[
    str | None, Field(max_length=1000, description="From a refusal that asked to be confirmed.")
]


class ApprovalForm(BaseModel):
    """What the person fills in."""

    launch: bool = Field(title="Launch it", description="Nothing has been launched so far.")


@dataclass(frozen=True, slots=True)
class Approval:
    """Nothing stands in the way of a launch."""

    idempotency_key: str | None = None
    """An idempotency key for a call that has none of its own."""


class NeedsConfirmation(Conflict):
    """A person has to agree to what this may cost."""

    def __init__(self, question: ApprovalQuestion, token: str) -> None:
        super().__init__(
            f"{question.sentence} Nothing was launched. Tell the person what it may cost; if they "
            f"agree, repeat the same call within {format_duration(CONFIRMATION_LIFETIME)} with "
            f'confirm="{token}".'
        )


class Declined(Conflict):
    """A person was asked, and did not agree."""

    def __init__(self, question: ApprovalQuestion) -> None:
        super().__init__(
            f"{question.sentence} The person was asked and did not agree, so nothing was launched. "
            f"Do not ask again by yourself; find out from them what should be different."
        )


def require_approval(question: Callable[..., Awaitable[ApprovalQuestion]]) -> Resolve:
    """Make a tool wait for a person's word, where the question its arguments raise needs one.

    `question` is a resolver: it may take arguments of the tool by name, and what resolvers give.
    """

    async def ask(
        asked: Annotated[ApprovalQuestion, Resolve(question)],
        confirm: ConfirmationToken,
        ctx: Context[App, Any],
    ) -> Approval | Elicit[ApprovalForm]:
        if not asked.is_needed:
            return Approval()
        if _supports_elicitation(ctx):
            return Elicit(asked.sentence, ApprovalForm)
        seals, bound = (
            (await current_app(ctx)).confirmation_tokens,
            await _confirmation_payload(ctx, asked),
        )
        now = time.time()
        if (name := seals.verify(confirm or "", bound, now)) is not None:
            return Approval(idempotency_key=f"confirm {name}")
        raise NeedsConfirmation(asked, seals.issue(bound, now))

    async def settle(
        asked: Annotated[ApprovalQuestion, Resolve(question)],
        outcome: Annotated[ElicitationResult[Any], Resolve(ask)],
    ) -> Approval:
        if outcome.action == "accept":
            if isinstance(outcome.data, Approval):
                return outcome.data
            if isinstance(outcome.data, ApprovalForm) and outcome.data.launch:
                return Approval()
        raise Declined(asked)

    return Resolve(settle)


def _supports_elicitation(ctx: Context[App, Any]) -> bool:
    # Of a client from before 2026-07-28 no call says what it can, and none could bring its answer.
    able = ctx.client_capabilities
    elicitation = able.elicitation if able is not None else None
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


async def _confirmation_payload(ctx: Context[App, Any], question: ApprovalQuestion) -> bytes:
    params: Mapping[str, Any] = ctx.request_context.params or {}
    given: Mapping[str, Any] = params.get("arguments") or {}
    arguments = {name: each for name, each in given.items() if name != "confirm"}
    caller = await current_caller()
    asked = [question.sentence, question.ceiling_micro_usd]
    whole = [caller.subject_id, params.get("name"), arguments, asked]
    return json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()
