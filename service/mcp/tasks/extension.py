"""Tasks extension of MCP (SEP-2663): a tool call becomes a task, and clients poll the task.

    tools/call ──▶ a tool hands over ──▶ {"resultType": "task", …} ──▶ tasks/get, until it is over

The tool decides, and only if the request itself declares the extension. This module knows the
protocol; a `TaskSource` knows the tasks and their owners. There is no tasks/list and no
tasks/result.
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
    """The status of a task, in the words of the protocol; the last three are final."""

    WORKING = "working"
    INPUT_REQUIRED = "input_required"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    """For errors of the protocol only; a tool that failed has completed, with an error."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it was just read."""

    task_id: str
    status: TaskStatus
    message: str
    created_at: datetime
    updated_at: datetime
    ttl: timedelta | None
    """Counted from the creation; None while no end is known."""
    poll_interval: timedelta | None
    outcome: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The fields that belong to the status: `result`, `error` or `inputRequests`."""

    def to_created_result(self) -> dict[str, Any]:
        """Build the result of a call that became this task."""
        return {"resultType": "task", **self._to_fields()}

    def to_detailed_result(self) -> dict[str, Any]:
        """Build the result of tasks/get: the status, and the outcome."""
        return {**self._to_fields(), **self.outcome}

    def _to_fields(self) -> dict[str, Any]:
        # Not a model: the SDK leaves null fields of models out, and ttlMs must be there.
        poll_interval = (
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
            **poll_interval,
        }


class TaskSource(Protocol):
    """Reads and changes tasks. A foreign task looks like one that does not exist."""

    async def get_task(self, app: App, caller: Caller, task_id: str) -> Task:
        """Return a task of the caller.

        Raises:
            NotFound: the caller has no task with this id.
            Invalid: no task can have this id.
        """
        ...

    async def update_task(
        self, app: App, caller: Caller, task_id: str, answers: Mapping[str, Any]
    ) -> None:
        """Take answers to the questions of a task; answers without a question are ignored.

        Raises:
            NotFound: the caller has no task with this id.
            Invalid: no task can have this id.
        """
        ...

    async def cancel_task(self, app: App, caller: Caller, task_id: str) -> None:
        """Cancel a task, unless it has ended.

        Raises:
            NotFound: the caller has no task with this id.
            Invalid: no task can have this id.
            Denied: the token of the caller does not allow it.
        """
        ...


class TaskParams(RequestParams):
    """The parameters of tasks/get and tasks/cancel."""

    task_id: str


class UpdateParams(TaskParams):
    """The parameters of tasks/update."""

    input_responses: dict[str, Any] = Field(default_factory=dict)


def client_accepts_tasks(ctx: RequestContext) -> bool:
    """Whether the answer to this request may be a task."""
    capabilities = ctx.session.client_capabilities
    extensions = capabilities.extensions if capabilities is not None else None
    return ctx.protocol_version in _MODERN_VERSIONS and TASKS_EXTENSION in (extensions or {})


def task_handover_result(task_id: str, interim_result: CallToolResult) -> CallToolResult:
    """Mark a result so that the client gets the task; only if `client_accepts_tasks`."""
    return interim_result.model_copy(update={"meta": {_TASK_ID_META_KEY: task_id}})


class TasksExtension(Extension):
    """The extension, for one source of tasks."""

    identifier = TASKS_EXTENSION

    def __init__(self, source: TaskSource) -> None:
        self._source = source

    @override
    def methods(self) -> Sequence[MethodBinding]:
        """Return the methods of a task."""
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
        """Answer with the task, if the tool has handed over to one."""
        result = await call_next(ctx)
        meta = result.meta if isinstance(result, CallToolResult) else None
        if meta is None or _TASK_ID_META_KEY not in meta:
            return result
        task_id = str(meta[_TASK_ID_META_KEY])
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
    """Refuse a request whose header names another task, or whose client could not read the answer.

    A missing header is accepted, against the specification: the client of fastmcp-tasks 4.1.2 sends
    none, and nothing here is routed by it.
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
