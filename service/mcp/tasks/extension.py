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
from service.mcp.tool import raise_mcp_errors
from service.runtime.context import App

TASKS_EXTENSION: Final = "io.modelcontextprotocol/tasks"
CANCEL_METHOD: Final = "tasks/cancel"
_TASK_ID_META_KEY: Final = "holdfast/task"
_MODERN_VERSIONS: Final = frozenset(MODERN_PROTOCOL_VERSIONS)

RequestContext = ServerRequestContext[App, Any]


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
    poll_interval: timedelta | None
    outcome: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What its status brings with it: `result`, `error` or `inputRequests`."""

    def to_created_result(self) -> dict[str, Any]:
        """Say that a call has become this task."""
        return {"resultType": "task", **self._to_fields()}

    def to_detailed_result(self) -> dict[str, Any]:
        """Say how it stands, and what came of it."""
        return {**self._to_fields(), **self.outcome}

    def _to_fields(self) -> dict[str, Any]:
        # Not a model: the SDK leaves null fields of models out, and ttlMs has to be there.
        poll = (
            {}
            if self.poll_interval is None
            else {"pollIntervalMs": _to_milliseconds(self.poll_interval)}
        )
        return {
            "taskId": self.task_id,
            "status": self.status,
            "statusMessage": self.message,
            "createdAt": self.created_at.isoformat(),
            "lastUpdatedAt": self.updated_at.isoformat(),
            "ttlMs": None if self.ttl is None else _to_milliseconds(self.ttl),
            **poll,
        }


class TaskSource(Protocol):
    """Where tasks are; of a foreign one it knows as much as of one that never was."""

    async def get_task(self, app: App, caller: Caller, task_id: str) -> Task:
        """Return a task of the caller's.

        Raises:
            NotFound: they have none of that id.
            Invalid: nobody has.
        """
        ...

    async def update_task(
        self, app: App, caller: Caller, task_id: str, answers: Mapping[str, Any]
    ) -> None:
        """Take answers to what a task asks; those to nothing that is asked are passed over.

        Raises:
            NotFound: the caller has no such task.
            Invalid: nobody has.
        """
        ...

    async def cancel_task(self, app: App, caller: Caller, task_id: str) -> None:
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


def client_accepts_tasks(ctx: RequestContext) -> bool:
    """Say whether this request lets its answer be a task."""
    able = ctx.session.client_capabilities
    extensions = able.extensions if able is not None else None
    return ctx.protocol_version in _MODERN_VERSIONS and TASKS_EXTENSION in (extensions or {})


def task_handover_result(task_id: str, interim_result: CallToolResult) -> CallToolResult:
    """Answer a call with a task; only where it is `declared`."""
    return interim_result.model_copy(update={"meta": {_TASK_ID_META_KEY: task_id}})


class TasksExtension(Extension):
    """The extension, over one source of tasks."""

    identifier = TASKS_EXTENSION

    def __init__(self, source: TaskSource) -> None:
        self._source = source

    @override
    def methods(self) -> Sequence[MethodBinding]:
        """Serve what there is to a task."""
        return (
            MethodBinding("tasks/get", TaskParams, self._get, _MODERN_VERSIONS),
            MethodBinding("tasks/update", UpdateParams, self._update, _MODERN_VERSIONS),
            MethodBinding(CANCEL_METHOD, TaskParams, self._cancel, _MODERN_VERSIONS),
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
        if handed is None or _TASK_ID_META_KEY not in handed:
            return result
        task_id = str(handed[_TASK_ID_META_KEY])
        with _unknown_task_errors(task_id):
            task = await self._source.get_task(
                ctx.lifespan_context, await current_caller(), task_id
            )
        return task.to_created_result()

    async def _get(self, ctx: RequestContext, params: TaskParams) -> HandlerResult:
        _expect_matching_header(ctx, params)
        with _unknown_task_errors(params.task_id):
            caller = await current_caller()
            task = await self._source.get_task(ctx.lifespan_context, caller, params.task_id)
        return task.to_detailed_result()

    async def _update(self, ctx: RequestContext, params: UpdateParams) -> HandlerResult:
        _expect_matching_header(ctx, params)
        with _unknown_task_errors(params.task_id):
            caller, answers = await current_caller(), params.input_responses
            await self._source.update_task(ctx.lifespan_context, caller, params.task_id, answers)
        return {}

    async def _cancel(self, ctx: RequestContext, params: TaskParams) -> HandlerResult:
        _expect_matching_header(ctx, params)
        with _unknown_task_errors(params.task_id):
            caller = await current_caller()
            await self._source.cancel_task(ctx.lifespan_context, caller, params.task_id)
        return {}


def _expect_matching_header(ctx: RequestContext, params: TaskParams) -> None:
    """Refuse a request that is routed by another name, or that could not read the answer.

    A header that is missing is let pass, against the letter: the client of fastmcp-tasks 4.1.2
    sends none, and nothing is routed by it here.
    """
    name = ctx.request.headers.get("mcp-name") if ctx.request is not None else None
    if name is not None and decode_header_value(name) != params.task_id:
        raise MCPError(HEADER_MISMATCH, "Mcp-Name header does not match the task that is asked for")
    require_client_extension(ctx, TASKS_EXTENSION)


@contextmanager
def _unknown_task_errors(task_id: str) -> Generator[None]:
    with raise_mcp_errors():
        try:
            yield
        except (NotFound, Invalid):
            raise MCPError(INVALID_PARAMS, f"Unknown task: {task_id}") from None


def _to_milliseconds(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)
