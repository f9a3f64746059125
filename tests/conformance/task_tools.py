"""Tools of the suite that become tasks, kept in memory and moved by a clock.

What speaks to the client about them is our extension.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import anyio
from mcp.server.mcpserver import require_client_extension
from mcp_types import INTERNAL_ERROR, CallToolResult, ElicitRequest, InputRequiredResult

from schema.common.errors import NotFound
from service.auth.caller import Caller
from service.mcp.tasks.extension import (
    TASKS_EXTENSION,
    Task,
    TaskStatus,
    client_accepts_tasks,
    task_handover_result,
)
from service.mcp.tool import McpTool
from service.runtime.context import App
from tests.conformance.input_required_tools import (
    ToolAnswer,
    ToolContext,
    elicit_form,
    read_form_field,
)
from tests.conformance.input_required_tools import text_result as say

_TTL: Final = timedelta(hours=1)
_POLL_INTERVAL: Final = timedelta(seconds=1)


@dataclass
class SuiteTask:
    """A task, and what it is waiting for."""

    outcome: Mapping[str, Any]
    """`result` or `error`, once it is over."""
    duration: timedelta = timedelta(0)
    questions: dict[str, ElicitRequest] = field(default_factory=dict[str, ElicitRequest])
    cancelled: bool = False
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def status(self) -> TaskStatus:
        """Say where it stands by now."""
        if self.cancelled:
            return TaskStatus.CANCELLED
        if self.questions:
            return TaskStatus.INPUT_REQUIRED
        if datetime.now(UTC) < self.started_at + self.duration:
            return TaskStatus.WORKING
        return TaskStatus.FAILED if "error" in self.outcome else TaskStatus.COMPLETED

    @property
    def payload(self) -> Mapping[str, Any]:
        """Return what the status brings with it."""
        match self.status:
            case TaskStatus.INPUT_REQUIRED:
                dumped = {
                    key: question.model_dump(mode="json", by_alias=True, exclude_none=True)
                    for key, question in self.questions.items()
                }
                return {"inputRequests": dumped}
            case TaskStatus.COMPLETED | TaskStatus.FAILED:
                return self.outcome
            case _:
                return {}


class SuiteTasks:
    """The tasks that the suite's tools have made."""

    def __init__(self) -> None:
        self._tasks: dict[str, SuiteTask] = {}

    def start_task(self, task: SuiteTask) -> CallToolResult:
        """Hand a call over."""
        self._tasks[task_id := uuid4().hex] = task
        return task_handover_result(task_id, CallToolResult(content=[]))

    async def get_task(self, app: App, caller: Caller, task_id: str) -> Task:
        task = self._find(task_id)
        return Task(
            task_id=task_id,
            status=task.status,
            message="As the suite wants it.",
            created_at=task.started_at,
            updated_at=task.started_at,
            ttl=_TTL,
            poll_interval=_POLL_INTERVAL,
            outcome=task.payload,
        )

    async def update_task(
        self, app: App, caller: Caller, task_id: str, answers: Mapping[str, Any]
    ) -> None:
        task = self._find(task_id)
        task.questions = {
            key: question for key, question in task.questions.items() if key not in answers
        }

    async def cancel_task(self, app: App, caller: Caller, task_id: str) -> None:
        task = self._find(task_id)
        task.cancelled = task.cancelled or task.status in ("working", "input_required")

    def _find(self, task_id: str) -> SuiteTask:
        if task_id not in self._tasks:
            raise NotFound("task", task_id)
        return self._tasks[task_id]


def make_task_tools(tasks: SuiteTasks) -> list[McpTool]:
    """Make the tools."""

    async def greet(name: str) -> CallToolResult:
        """Greet at once."""
        return say(f"Hello, {name}!")

    async def slow_compute(ctx: ToolContext, seconds: float, label: str = "") -> CallToolResult:
        """Take a while."""
        if client_accepts_tasks(ctx.request_context):
            return tasks.start_task(SuiteTask(_task_outcome(label), timedelta(seconds=seconds)))
        await anyio.sleep(seconds)  # what the suite asks of this tool: to be slow
        return say(label)

    async def failing_job(ctx: ToolContext) -> CallToolResult:
        """Fail as a tool does."""
        require_client_extension(ctx.request_context, TASKS_EXTENSION)
        return tasks.start_task(
            SuiteTask(_task_outcome("It did not work.", failed=True), timedelta(seconds=1))
        )

    async def protocol_error_job(ctx: ToolContext) -> CallToolResult:
        """Fail as a server does."""
        require_client_extension(ctx.request_context, TASKS_EXTENSION)
        return tasks.start_task(
            SuiteTask({"error": {"code": INTERNAL_ERROR, "message": "It broke."}})
        )

    async def confirm_delete(ctx: ToolContext, filename: str) -> CallToolResult:
        """Ask before it is done."""
        require_client_extension(ctx.request_context, TASKS_EXTENSION)
        questions = {"confirm": elicit_form(f"Delete {filename}?", "confirm", "boolean")}
        return tasks.start_task(
            SuiteTask(_task_outcome(f"{filename} is deleted."), questions=questions)
        )

    async def multi_input(ctx: ToolContext) -> CallToolResult:
        """Ask two things at once."""
        require_client_extension(ctx.request_context, TASKS_EXTENSION)
        questions = {
            "name": elicit_form("Who?", "name"),
            "sure": elicit_form("Sure?", "confirm", "boolean"),
        }
        return tasks.start_task(
            SuiteTask(_task_outcome("Thank you for both."), questions=questions)
        )

    async def test_tool_with_task(ctx: ToolContext) -> ToolAnswer:
        """Ask, and only then become a task."""
        require_client_extension(ctx.request_context, TASKS_EXTENSION)
        name = read_form_field(ctx, "user_name", "name")
        if name is None:
            question = elicit_form("What is your name?", "name")
            return InputRequiredResult(input_requests={"user_name": question})
        return tasks.start_task(SuiteTask(_task_outcome(f"Hello, {name}!")))

    functions: tuple[Callable[..., Any], ...] = (
        greet,
        slow_compute,
        failing_job,
        protocol_error_job,
        confirm_delete,
        multi_input,
        test_tool_with_task,
    )
    made = [McpTool.from_function(function) for function in functions]
    return [tool for tool in made if isinstance(tool, McpTool)]


def _task_outcome(text: str, *, failed: bool = False) -> dict[str, Any]:
    answer = say(text)
    answer.is_error = failed
    shown = answer.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {"result": {**shown, "resultType": "complete"}}
