"""Completion of arguments as a person types: their own handles, hardware, states."""

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

from schema.common.ids import HandleKind
from schema.hub.client import FLAVORS
from schema.jobs import queries as job_queries
from schema.jobs.tables import JobState
from service.mcp.dependencies import current_caller
from service.mcp.prompts import McpPrompt
from service.mcp.resources import JOB_FILE_URI, JOB_ITEMS_URI, JOB_LOG_URI, JOB_URI, WORKSPACE_URI
from service.mcp.tool import raise_mcp_errors
from service.runtime.context import App

_MAX_VALUES: Final = 50
"""Nobody chooses from a longer list; list_jobs has all of it."""
_HANDLE_ARGUMENTS: Final = {
    "job_id": HandleKind.JOB,
    "job_ids": HandleKind.JOB,
    "workspace_id": HandleKind.WORKSPACE,
}
_WORD_ARGUMENTS: Final[Mapping[str, Iterable[str]]] = {
    "flavor": FLAVORS,
    "state": tuple(JobState),
}
_TEMPLATE_KINDS: Final = {
    JOB_URI: HandleKind.JOB,
    JOB_LOG_URI: HandleKind.JOB,
    JOB_ITEMS_URI: HandleKind.JOB,
    JOB_FILE_URI: HandleKind.JOB,
    WORKSPACE_URI: HandleKind.WORKSPACE,
}

CompletionHandler = Callable[
    [
        PromptReference | ResourceTemplateReference,
        CompletionArgument,
        CompletionContext | None,
    ],
    Awaitable[Completion],
]


def build_completion_handler(
    get_app: Callable[[], App], prompts: Iterable[McpPrompt]
) -> CompletionHandler:
    """Build the handler that completes arguments of these prompts and of our resource templates."""
    arguments = {
        prompt.name: frozenset(argument.name for argument in prompt.arguments or ())
        for prompt in prompts
    }

    async def complete(
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        _: CompletionContext | None,
    ) -> Completion:
        kind = None
        if isinstance(ref, ResourceTemplateReference):
            if ref.uri not in _TEMPLATE_KINDS:
                raise MCPError(INVALID_PARAMS, f"Unknown resource: {ref.uri}")
            kind = _TEMPLATE_KINDS[ref.uri] if argument.name == "id" else None
        elif ref.name not in arguments:
            raise MCPError(INVALID_PARAMS, f"Unknown prompt: {ref.name}")
        elif argument.name in arguments[ref.name]:
            kind = _HANDLE_ARGUMENTS.get(argument.name)
            if kind is None:
                return _complete_word(argument)
        return (
            Completion(values=[])
            if kind is None
            else await _complete_handle(get_app(), kind, argument)
        )

    return complete


def _complete_word(argument: CompletionArgument) -> Completion:
    prefix = argument.value.strip().lower()
    words = [word for word in _WORD_ARGUMENTS.get(argument.name, ()) if word.startswith(prefix)]
    return Completion(
        values=words[:_MAX_VALUES], total=len(words), has_more=len(words) > _MAX_VALUES
    )


async def _complete_handle(app: App, kind: HandleKind, argument: CompletionArgument) -> Completion:
    # Of several handles, the last is the one that is being typed.
    earlier, comma, prefix = (
        argument.value.rpartition(",") if argument.name == "job_ids" else ("", "", argument.value)
    )
    with raise_mcp_errors():
        caller = await current_caller()
        async with app.transaction(caller) as tx:
            handles = await job_queries.find_handles_by_prefix(
                tx, caller.subject_id, kind, prefix, limit=_MAX_VALUES + 1
            )
    values = [
        f"{earlier}{comma}{handle}" for handle in handles[:_MAX_VALUES] if handle not in earlier
    ]
    return Completion(values=values, has_more=len(handles) > _MAX_VALUES)
