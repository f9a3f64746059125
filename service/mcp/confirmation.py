"""A person's approval of a launch that may cost more than its workspace allows without asking.

    needed? ──no──▶ launch
       │ yes
       ├─ the client can ask (2026-07-28, elicitation) ──▶ it asks; the same call goes on, or ends
       └─ it cannot ──▶ NeedsConfirmation, with a token; the same call with `confirm` goes on

One token is one launch: a call that repeats it finds the job that the first one made. With other
arguments, at another price, by another person or ten minutes later, the question is asked again.
"""

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from mcp.server.mcpserver import Context, Elicit, ElicitationResult, Resolve
from pydantic import BaseModel, Field

from schema.common.durations import format_duration
from schema.common.errors import Conflict
from schema.jobs import queries as job_queries
from service.jobs.approval import ApprovalQuestion, IsKeyUsed, build_approval_question
from service.jobs.launch import LaunchRequest
from service.mcp.dependencies import AppDep, CallerDep, current_app, current_caller
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
    """The launch may go on: somebody agreed, or nobody has to."""

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


def approved_request(
    build_request: Callable[..., Awaitable[LaunchRequest]],
    is_key_used: IsKeyUsed = job_queries.is_idempotency_key_used,
) -> Resolve:
    """Resolve the request of a launch, once a person agreed to it where its price needs that.

    The resolver `build_request` runs once in a call: the question and the launch are about the
    same request. An approval by token gives the request an idempotency key if it has none.

    Args:
        build_request: a resolver; it may take `arguments` of the tool, and what resolvers give.
        is_key_used: whether the request's idempotency key has made something already; then this
            call makes nothing new, and nobody is asked.
    """

    async def question(
        request: Annotated[LaunchRequest, Resolve(build_request)], app: AppDep, caller: CallerDep
    ) -> ApprovalQuestion:
        return await build_approval_question(app, caller, request, is_key_used)

    async def approve(
        request: Annotated[LaunchRequest, Resolve(build_request)],
        approval: Annotated[Approval, require_approval(question)],
    ) -> LaunchRequest:
        return replace(request, idempotency_key=request.idempotency_key or approval.idempotency_key)

    return Resolve(approve)


def require_approval(build_question: Callable[..., Awaitable[ApprovalQuestion]]) -> Resolve:
    """Make a call wait until a person agrees, where its question needs an answer.

    Args:
        build_question: a resolver; it may take arguments of the tool by name, and what resolvers
            give.
    """

    async def ask(
        question: Annotated[ApprovalQuestion, Resolve(build_question)], ctx: Context[App, Any]
    ) -> Approval | Elicit[ApprovalForm]:
        if not question.is_needed:
            return Approval()
        if _supports_elicitation(ctx):
            return Elicit(question.sentence, ApprovalForm)
        tokens = (await current_app(ctx)).confirmation_tokens
        # The SDK gives resolvers arguments by name only where a tool takes them one by one.
        arguments = _raw_arguments(ctx)
        payload = await _confirmation_payload(ctx, arguments, question)
        now = time.time()
        name = tokens.verify(str(arguments.get("confirm") or ""), payload, now)
        if name is not None:
            return Approval(idempotency_key=f"confirm {name}")
        raise NeedsConfirmation(question, tokens.issue(payload, now))

    async def settle(
        question: Annotated[ApprovalQuestion, Resolve(build_question)],
        outcome: Annotated[ElicitationResult[Any], Resolve(ask)],
    ) -> Approval:
        if outcome.action == "accept":
            if isinstance(outcome.data, Approval):
                return outcome.data
            if isinstance(outcome.data, ApprovalForm) and outcome.data.launch:
                return Approval()
        raise Declined(question)

    return Resolve(settle)


def _supports_elicitation(ctx: Context[App, Any]) -> bool:
    # A client from before 2026-07-28 does not say in a call what it can, and could not send an
    # answer. The SDK has this rule too, but only in private.
    capabilities = ctx.client_capabilities
    elicitation = capabilities.elicitation if capabilities is not None else None
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


def _raw_arguments(ctx: Context[App, Any]) -> Mapping[str, Any]:
    params: Mapping[str, Any] = ctx.request_context.params or {}
    return params.get("arguments") or {}


async def _confirmation_payload(
    ctx: Context[App, Any], arguments: Mapping[str, Any], question: ApprovalQuestion
) -> bytes:
    """Return what a token stands for: this call, by this caller, at this price."""
    params: Mapping[str, Any] = ctx.request_context.params or {}
    caller = await current_caller()
    payload = [
        caller.subject_id,
        params.get("name"),
        {
            name: value
            for name, value in arguments.items()
            if name != "confirm" and value is not None
        },
        [question.sentence, question.ceiling_micro_usd],
    ]
    return json.dumps(payload, sort_keys=True, separators=(",", ":")).encode()
