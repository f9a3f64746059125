"""The tools of the suite that become tasks, and where these tasks are: in memory, moved by a clock.

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
from service.mcp.tasks.extension import TASKS, Task, TaskStatus, declared, handed_over
from service.mcp.tool import Contract
from service.runtime.context import App
from tests.conformance.asking import Answer, Ctx, filled_in, form
from tests.conformance.asking import saying as say

_TTL: Final = timedelta(hours=1)
_POLL: Final = timedelta(seconds=1)


@dataclass
class Made:
    """A task, and what it is waiting for."""

    outcome: Mapping[str, Any]
    """`result` or `error`, once it is over."""
    lasts: timedelta = timedelta(0)
    questions: dict[str, ElicitRequest] = field(default_factory=dict[str, ElicitRequest])
    cancelled: bool = False
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def status(self) -> TaskStatus:
        """Say where it stands by now."""
        if self.cancelled:
            return TaskStatus.CANCELLED
        if self.questions:
            return TaskStatus.INPUT_REQUIRED
        if datetime.now(UTC) < self.began + self.lasts:
            return TaskStatus.WORKING
        return TaskStatus.FAILED if "error" in self.outcome else TaskStatus.COMPLETED

    @property
    def shown(self) -> Mapping[str, Any]:
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


class MadeTasks:
    """The tasks that the suite's tools have made."""

    def __init__(self) -> None:
        self._made: dict[str, Made] = {}

    def begin(self, made: Made) -> CallToolResult:
        """Hand a call over."""
        self._made[task_id := uuid4().hex] = made
        return handed_over(task_id, CallToolResult(content=[]))

    async def show(self, app: App, caller: Caller, task_id: str) -> Task:
        made = self._find(task_id)
        return Task(
            task_id=task_id,
            status=made.status,
            message="As the suite wants it.",
            created_at=made.began,
            updated_at=made.began,
            ttl=_TTL,
            poll_after=_POLL,
            outcome=made.shown,
        )

    async def update(
        self, app: App, caller: Caller, task_id: str, answers: Mapping[str, Any]
    ) -> None:
        made = self._find(task_id)
        made.questions = {key: it for key, it in made.questions.items() if key not in answers}

    async def cancel(self, app: App, caller: Caller, task_id: str) -> None:
        made = self._find(task_id)
        made.cancelled = made.cancelled or made.status in ("working", "input_required")

    def _find(self, task_id: str) -> Made:
        if task_id not in self._made:
            raise NotFound("task", task_id)
        return self._made[task_id]


def task_tools(tasks: MadeTasks) -> list[Contract]:
    """Make the tools."""

    async def greet(name: str) -> CallToolResult:
        """Greet at once."""
        return say(f"Hello, {name}!")

    async def slow_compute(ctx: Ctx, seconds: float, label: str = "") -> CallToolResult:
        """Take a while."""
        if declared(ctx.request_context):
            return tasks.begin(Made(_result(label), timedelta(seconds=seconds)))
        await anyio.sleep(seconds)  # what the suite asks of this tool: to be slow
        return say(label)

    async def failing_job(ctx: Ctx) -> CallToolResult:
        """Fail as a tool does."""
        require_client_extension(ctx.request_context, TASKS)
        return tasks.begin(Made(_result("It did not work.", failed=True), timedelta(seconds=1)))

    async def protocol_error_job(ctx: Ctx) -> CallToolResult:
        """Fail as a server does."""
        require_client_extension(ctx.request_context, TASKS)
        return tasks.begin(Made({"error": {"code": INTERNAL_ERROR, "message": "It broke."}}))

    async def confirm_delete(ctx: Ctx, filename: str) -> CallToolResult:
        """Ask before it is done."""
        require_client_extension(ctx.request_context, TASKS)
        asked = {"confirm": form(f"Delete {filename}?", "confirm", "boolean")}
        return tasks.begin(Made(_result(f"{filename} is deleted."), questions=asked))

    async def multi_input(ctx: Ctx) -> CallToolResult:
        """Ask two things at once."""
        require_client_extension(ctx.request_context, TASKS)
        asked = {"name": form("Who?", "name"), "sure": form("Sure?", "confirm", "boolean")}
        return tasks.begin(Made(_result("Thank you for both."), questions=asked))

    async def test_tool_with_task(ctx: Ctx) -> Answer:
        """Ask, and only then become a task."""
        require_client_extension(ctx.request_context, TASKS)
        name = filled_in(ctx, "user_name", "name")
        if name is None:
            question = form("What is your name?", "name")
            return InputRequiredResult(input_requests={"user_name": question})
        return tasks.begin(Made(_result(f"Hello, {name}!")))

    functions: tuple[Callable[..., Any], ...] = (
        greet,
        slow_compute,
        failing_job,
        protocol_error_job,
        confirm_delete,
        multi_input,
        test_tool_with_task,
    )
    made = [Contract.from_function(function) for function in functions]
    return [tool for tool in made if isinstance(tool, Contract)]


def _result(text: str, *, failed: bool = False) -> dict[str, Any]:
    answer = say(text)
    answer.is_error = failed
    shown = answer.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {"result": {**shown, "resultType": "complete"}}
