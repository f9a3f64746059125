"""When is a tool's answer a task, and how is a task asked about? As SEP-2663 says, and nobody else.

    tools/call ──▶ a tool hands over ──▶ {"resultType": "task", …} ──▶ tasks/get, until it is over

The tool decides, and only if this very request declares the extension. This module knows the
protocol; what a task is, and whose, its source knows. There is no tasks/list, and no tasks/result.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Protocol

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import require_client_extension
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import decode_header_value
from mcp_types import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    RequestParams,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import Field
from typing_extensions import override

from schema.common.errors import Invalid, NotFound
from service.auth.caller import Caller
from service.mcp.dependencies import current_caller
from service.mcp.tool import answering
from service.runtime.context import App

TASKS: Final = "io.modelcontextprotocol/tasks"
CANCEL: Final = "tasks/cancel"
_HANDED_OVER: Final = "holdfast/task"
_MODERN: Final = frozenset(MODERN_PROTOCOL_VERSIONS)

Asked = ServerRequestContext[App, Any]


class TaskStatus(StrEnum):
    """Where a task stands, in the protocol's words; the last three are final."""

    WORKING = "working"
    INPUT_REQUIRED = "input_required"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    """Only by an error of the protocol; a tool that failed has completed, and says so."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task at one moment."""

    task_id: str
    status: TaskStatus
    message: str
    created_at: datetime
    updated_at: datetime
    ttl: timedelta | None
    """From its creation; none while there is no end to it."""
    poll_after: timedelta | None
    outcome: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What its status brings with it: `result`, `error` or `inputRequests`."""

    def created(self) -> dict[str, Any]:
        """Say that a call has become this task."""
        return {"resultType": "task", **self._shown()}

    def detailed(self) -> dict[str, Any]:
        """Say how it stands, and what came of it."""
        return {**self._shown(), **self.outcome}

    def _shown(self) -> dict[str, Any]:
        # Not a model: the SDK leaves null fields of models out, and ttlMs has to be there.
        poll = {} if self.poll_after is None else {"pollIntervalMs": _ms(self.poll_after)}
        return {
            "taskId": self.task_id,
            "status": self.status,
            "statusMessage": self.message,
            "createdAt": self.created_at.isoformat(),
            "lastUpdatedAt": self.updated_at.isoformat(),
            "ttlMs": None if self.ttl is None else _ms(self.ttl),
            **poll,
        }


class TaskSource(Protocol):
    """Where tasks are; of a foreign one it knows as much as of one that never was."""

    async def show(self, app: App, caller: Caller, task_id: str) -> Task:
        """Return a task of the caller's.

        Raises:
            NotFound: they have none of that id.
            Invalid: nobody has.
        """
        ...

    async def update(
        self, app: App, caller: Caller, task_id: str, answers: Mapping[str, Any]
    ) -> None:
        """Take answers to what a task asks; those to nothing that is asked are passed over.

        Raises:
            NotFound: the caller has no such task.
            Invalid: nobody has.
        """
        ...

    async def cancel(self, app: App, caller: Caller, task_id: str) -> None:
        """Call a task off, unless it is over.

        Raises:
            NotFound: the caller has no such task.
            Invalid: nobody has.
            Denied: their token does not let them.
        """
        ...


class TaskParams(RequestParams):
    """Which task."""

    task_id: str


class UpdateParams(TaskParams):
    """What a task asked for."""

    input_responses: dict[str, Any] = Field(default_factory=dict)


def declared(ctx: Asked) -> bool:
    """Say whether this request lets its answer be a task."""
    able = ctx.session.client_capabilities
    extensions = able.extensions if able is not None else None
    return ctx.protocol_version in _MODERN and TASKS in (extensions or {})


def handed_over(task_id: str, meanwhile: CallToolResult) -> CallToolResult:
    """Answer a call with a task; only where it is `declared`."""
    return meanwhile.model_copy(update={"meta": {_HANDED_OVER: task_id}})


class Tasks(Extension):
    """The extension, over one source of tasks."""

    identifier = TASKS

    def __init__(self, source: TaskSource) -> None:
        self._source = source

    @override
    def methods(self) -> Sequence[MethodBinding]:
        """Serve what there is to a task."""
        return (
            MethodBinding("tasks/get", TaskParams, self._get, _MODERN),
            MethodBinding("tasks/update", UpdateParams, self._update, _MODERN),
            MethodBinding(CANCEL, TaskParams, self._cancel, _MODERN),
        )

    @override
    async def intercept_tool_call(
        self,
        params: CallToolRequestParams,
        ctx: ServerRequestContext[Any, Any],
        call_next: CallNext,
    ) -> HandlerResult:
        """Show the task instead of an answer, if the tool has handed over."""
        result = await call_next(ctx)
        handed = result.meta if isinstance(result, CallToolResult) else None
        if handed is None or _HANDED_OVER not in handed:
            return result
        task_id = str(handed[_HANDED_OVER])
        with _asking_for(task_id):
            task = await self._source.show(ctx.lifespan_context, await current_caller(), task_id)
        return task.created()

    async def _get(self, ctx: Asked, params: TaskParams) -> HandlerResult:
        _expect_consistent(ctx, params)
        with _asking_for(params.task_id):
            caller = await current_caller()
            task = await self._source.show(ctx.lifespan_context, caller, params.task_id)
        return task.detailed()

    async def _update(self, ctx: Asked, params: UpdateParams) -> HandlerResult:
        _expect_consistent(ctx, params)
        with _asking_for(params.task_id):
            caller, answers = await current_caller(), params.input_responses
            await self._source.update(ctx.lifespan_context, caller, params.task_id, answers)
        return {}

    async def _cancel(self, ctx: Asked, params: TaskParams) -> HandlerResult:
        _expect_consistent(ctx, params)
        with _asking_for(params.task_id):
            caller = await current_caller()
            await self._source.cancel(ctx.lifespan_context, caller, params.task_id)
        return {}


def _expect_consistent(ctx: Asked, params: TaskParams) -> None:
    """Refuse a request that is routed by another name, or that could not read the answer.

    A header that is missing is let pass, against the letter: the client of fastmcp-tasks 4.1.2
    sends none, and nothing is routed by it here.
    """
    name = ctx.request.headers.get("mcp-name") if ctx.request is not None else None
    if name is not None and decode_header_value(name) != params.task_id:
        raise MCPError(HEADER_MISMATCH, "Mcp-Name header does not match the task that is asked for")
    require_client_extension(ctx, TASKS)


@contextmanager
def _asking_for(task_id: str) -> Generator[None]:
    with answering():
        try:
            yield
        except (NotFound, Invalid):
            raise MCPError(INVALID_PARAMS, f"Unknown task: {task_id}") from None


def _ms(length: timedelta) -> int:
    return round(length.total_seconds() * 1000)
