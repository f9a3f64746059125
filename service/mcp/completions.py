"""How does what somebody has begun to type go on? Handles of their own, hardware, states."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    Completion,
    CompletionArgument,
    CompletionContext,
    PromptReference,
    ResourceTemplateReference,
)

from schema.common.ids import Kind
from schema.jobs import queries as job_queries
from schema.jobs.tables import JobState
from service.auth.hub_client import FLAVORS
from service.mcp.dependencies import current_caller
from service.mcp.prompts import Recipe
from service.mcp.resources import JOB, LOGS, WORKSPACE
from service.mcp.tool import answering
from service.runtime.context import App

_OFFERED: Final = 50
"""More is not a choice, but a list; list_jobs has it."""
_HANDLES: Final = {
    "job_id": Kind.JOB,
    "job_ids": Kind.JOB,
    "workspace_id": Kind.WORKSPACE,
}
_WORDS: Final[Mapping[str, Iterable[str]]] = {
    "flavor": FLAVORS,
    "state": tuple(JobState),
}
_TEMPLATES: Final = {JOB: Kind.JOB, LOGS: Kind.JOB, WORKSPACE: Kind.WORKSPACE}

Complete = Callable[
    [
        PromptReference | ResourceTemplateReference,
        CompletionArgument,
        CompletionContext | None,
    ],
    Awaitable[Completion],
]


def completing(application: Callable[[], App], prompts: Iterable[Recipe]) -> Complete:
    """Complete the arguments of these prompts, and of our addresses."""
    arguments = {
        prompt.name: frozenset(each.name for each in prompt.arguments or ()) for prompt in prompts
    }

    async def complete(
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        _: CompletionContext | None,
    ) -> Completion:
        kind = None
        if isinstance(ref, ResourceTemplateReference):
            if ref.uri not in _TEMPLATES:
                raise MCPError(INVALID_PARAMS, f"Unknown resource: {ref.uri}")
            kind = _TEMPLATES[ref.uri] if argument.name == "id" else None
        elif ref.name not in arguments:
            raise MCPError(INVALID_PARAMS, f"Unknown prompt: {ref.name}")
        elif argument.name in arguments[ref.name]:
            kind = _HANDLES.get(argument.name)
            if kind is None:
                return _words(argument)
        return (
            Completion(values=[]) if kind is None else await _handles(application(), kind, argument)
        )

    return complete


def _words(argument: CompletionArgument) -> Completion:
    begun = argument.value.strip().lower()
    words = [word for word in _WORDS.get(argument.name, ()) if word.startswith(begun)]
    return Completion(values=words[:_OFFERED], total=len(words), has_more=len(words) > _OFFERED)


async def _handles(app: App, kind: Kind, argument: CompletionArgument) -> Completion:
    # Where several go, the last is the one being typed.
    before, comma, begun = (
        argument.value.rpartition(",") if argument.name == "job_ids" else ("", "", argument.value)
    )
    with answering():
        caller = await current_caller()
        async with app.transaction(caller) as tx:
            found = await job_queries.beginning(
                tx, caller.subject_id, kind, begun, limit=_OFFERED + 1
            )
    values = [f"{before}{comma}{handle}" for handle in found[:_OFFERED] if handle not in before]
    return Completion(values=values, has_more=len(found) > _OFFERED)
