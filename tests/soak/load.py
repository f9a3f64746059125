"""What the people of a soak do all the time: launch, repeat, cancel, look, wait.

Whatever a caller was answered is written down, to be compared with the rows and the Hub at the end.
An answer that says that a server cannot be reached is no answer: the same call is made again, with
the same idempotency key.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast
from uuid import UUID, uuid4

import httpx2
from mcp import MCPError
from mcp_types import CallToolResult

from schema.common import ids
from tests.e2e.secret_canary import Canary
from tests.soak.users import SoakUser
from tests.support.mcp.client import answer_text, open_mcp_client

WAITER_COUNT: Final = 100
"""How many wait for one job in the second half of a run."""
WORKSPACE_BUDGET_USD: Final = 0.05
_PATIENCE_SECONDS: Final = 300.0
"""How long one call is tried again while parts of the deployment are down."""
_RETRY_SECONDS: Final = 0.5
_PAUSE_SECONDS: Final = (0.2, 1.2)
"""Between two things that one caller does, at random."""
_OUTAGE_CODES: Final = {"Unavailable", "InDoubt", "RoleRefused", "RateLimited"}
_SHORT_JOB: Final[dict[str, Any]] = {"image": "python:3.12", "timeout": "5m"}
_MAX_CANCEL_DELAY_SECONDS: Final = 3.0


@dataclass(slots=True)
class Ledger:
    """What callers were answered, and what must not have happened."""

    handles: dict[UUID, str] = field(default_factory=dict[UUID, str])
    """Each job that was answered, and what is to become of it."""
    owners: dict[UUID, str] = field(default_factory=dict[UUID, str])
    cancelled: set[UUID] = field(default_factory=set[UUID])
    calls: Counter[str] = field(default_factory=Counter[str])
    """Answered calls, by tool."""
    refusals: Counter[str] = field(default_factory=Counter[str])
    """Refusals that are right, by code."""
    outages: Counter[str] = field(default_factory=Counter[str])
    """Calls that had to be made again, by what the caller saw."""
    durations: list[tuple[float, str, float]] = field(
        default_factory=list[tuple[float, str, float]]
    )
    """When each call was answered, its tool, and how many seconds the last attempt took."""
    violations: list[str] = field(default_factory=list[str])


class Caller:
    """One program that acts for a person, through whichever service answers."""

    def __init__(
        self, user: SoakUser, urls: Sequence[str], ledger: Ledger, is_over: asyncio.Event
    ) -> None:
        self.user = user
        self.ledger = ledger
        self.handles: list[str] = []
        self.urls = urls
        self._is_over = is_over
        self._choice = random.Random()  # noqa: S311  # no secret

    async def run(
        self, actions: Sequence[tuple[int, Callable[["Session"], Awaitable[None]]]]
    ) -> None:
        """Do one thing after another, at random, until the run is over."""
        weights, choices = zip(*actions, strict=True)
        session = Session(self, self.urls)
        while not self._is_over.is_set():
            [action] = self._choice.choices(choices, weights)
            await action(session)
            await self.pause(self._choice.uniform(*_PAUSE_SECONDS))

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until the run is over."""
        try:
            await asyncio.wait_for(self._is_over.wait(), seconds)
        except TimeoutError:
            return


class Session:
    """The calls of a caller, each through another service than the one before."""

    def __init__(self, caller: Caller, urls: Sequence[str]) -> None:
        self.caller = caller
        self.ledger = caller.ledger
        self._urls = urls
        self._number = random.randrange(len(urls))  # noqa: S311  # no secret

    async def call(
        self, tool: str, *, refusals: Sequence[str] = (), **arguments: Any
    ) -> dict[str, Any] | None:
        """Call a tool until it is answered; None if it was refused with one of these codes."""
        answer = await self.call_for_answer(tool, **arguments)
        if answer is None:
            return None
        if not answer.is_error:
            structured: dict[str, Any] = answer.structured_content or {}
            return structured
        code = _read_code(answer)
        self.ledger.refusals[code] += 1
        if code not in refusals:
            self.ledger.violations.append(
                f"{tool} was refused for {self.caller.user.name}: {answer_text(answer)[:300]}"
            )
        return None

    async def call_for_answer(self, tool: str, **arguments: Any) -> CallToolResult | None:
        """Call a tool until it is answered, with a result or a refusal; None if it never was."""
        give_up_at = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < give_up_at:
            started_at = time.monotonic()
            self._number += 1
            url = self._urls[self._number % len(self._urls)]
            try:
                async with open_mcp_client(url, self.caller.user.token) as client:
                    answer = await client.call_tool(tool, arguments)
            except (httpx2.HTTPError, MCPError, OSError, ExceptionGroup) as error:
                self.ledger.outages[_describe(error)] += 1
            else:
                if not answer.is_error or _read_code(answer) not in _OUTAGE_CODES:
                    elapsed = time.monotonic() - started_at
                    self.ledger.calls[tool] += 1
                    self.ledger.durations.append((time.monotonic(), tool, elapsed))
                    return answer
                self.ledger.outages[_read_code(answer)] += 1
            await asyncio.sleep(_RETRY_SECONDS)  # as a client does before it tries again
        self.ledger.violations.append(
            f"{tool} was not answered within {_PATIENCE_SECONDS:g} s for {self.caller.user.name}"
        )
        return None

    async def launch(self, tool: str, expectation: str, **arguments: Any) -> str | None:
        """Launch something and write its handle down; the repeated call must answer the same."""
        arguments["idempotency_key"] = str(uuid4())
        view = await self.call(tool, refusals=("BudgetExceeded",), **arguments)
        if view is None:
            return None
        handle = str(view["job_id"])
        job_id = ids.parse_handle(ids.HandleKind.JOB, handle)
        self.ledger.handles[job_id] = expectation
        self.ledger.owners[job_id] = self.caller.user.name
        self.caller.handles.append(handle)
        repeated = await self.call(tool, **arguments)
        if repeated is not None and repeated["job_id"] != handle:
            self.ledger.violations.append(
                f"the same call was two jobs: {repeated['job_id']}, {handle}"
            )
        return handle


async def launch_short_job(session: Session) -> None:
    """A job that ends well."""
    await session.launch(
        "launch_job", "succeeds", command=["sh", "-c", "echo step 1/1; sleep 0.2"], **_SHORT_JOB
    )


async def launch_failing_job(session: Session) -> None:
    """A job that ends with an exit code."""
    await session.launch(
        "launch_job", "fails", command=["sh", "-c", "echo so; exit 3"], **_SHORT_JOB
    )


async def launch_and_cancel(session: Session) -> None:
    """A job that is called off at some moment of its life."""
    handle = await session.launch(
        "launch_job", "is cancelled", command=["sleep", "900"], **_SHORT_JOB | {"timeout": "2m"}
    )
    if handle is None:
        return
    await session.caller.pause(random.uniform(0, _MAX_CANCEL_DELAY_SECONDS))  # noqa: S311
    await cancel(session, handle)


async def launch_chain(session: Session) -> None:
    """A job that waits for another one."""
    parent = await session.launch("launch_job", "succeeds", command=["true"], **_SHORT_JOB)
    if parent is not None:
        await session.launch(
            "launch_job", "follows", command=["true"], after=[parent], **_SHORT_JOB
        )


async def ask_model(session: Session) -> None:
    """One call of a model."""
    await session.launch(
        "launch_inference",
        "asks a model",
        model="local/echo",
        inputs=[{"role": "user", "content": "hello"}],
    )


async def launch_batch(session: Session) -> None:
    """A few calls of a model in one job."""
    items = [{"custom_id": f"item-{number}", "inputs": f"say {number}"} for number in range(20)]
    await session.launch("launch_inference", "is a batch", model="local/echo", items=items)


async def look_around(session: Session) -> None:
    """Read what there is of one of the own jobs."""
    if not session.caller.handles:
        return
    handle = random.choice(session.caller.handles)  # noqa: S311  # no secret
    await session.call("job_status", job_ids=[handle])
    await session.call("list_jobs", limit=20)
    await session.call("job_logs", job_id=handle)


def launch_with_secret(canary: Canary) -> Callable[[Session], Awaitable[None]]:
    """Return what launches a job with a secret that must not be seen anywhere."""

    async def launch(session: Session) -> None:
        await session.launch(
            "launch_job",
            "succeeds",
            command=["sh", "-c", 'test -n "$KEY"'],
            secrets={"KEY": canary.make_secret("job")},
            **_SHORT_JOB,
        )

    return launch


async def spend_in_workspace(session: Session) -> None:
    """Launch into a workspace with a small budget, which refuses when it is used up."""
    name = f"soak-{uuid4().hex[:12]}"
    view = await session.call("create_workspace", name=name, budget_usd=WORKSPACE_BUDGET_USD)
    if view is None:
        return
    for _ in range(3):
        await session.launch(
            "launch_job",
            "succeeds",
            command=["true"],
            workspace_id=view["workspace_id"],
            **_SHORT_JOB | {"timeout": "2h"},
        )


def spy_on(others: Sequence[Caller]) -> Callable[[Session], Awaitable[None]]:
    """Return what asks for a job of somebody else, and for one that does not exist."""

    async def spy(session: Session) -> None:
        foreign = [
            handle
            for other in others
            if other.user.name != session.caller.user.name
            for handle in other.handles[-20:]
        ]
        if not foreign:
            return
        handle = random.choice(foreign)  # noqa: S311  # no secret
        unknown = ids.format_handle(ids.HandleKind.JOB, ids.new_id())
        for tool in ("job_logs", "job_result", "cancel_job"):
            seen = await session.call_for_answer(tool, job_id=handle)
            expected = await session.call_for_answer(tool, job_id=unknown)
            if seen is None or expected is None:
                continue
            if answer_text(seen).replace(handle, unknown) != answer_text(expected):
                session.ledger.violations.append(
                    f"{tool} answers for a job of somebody else: {answer_text(seen)[:300]}"
                )

    return spy


async def launch_long_job(session: Session) -> str:
    """A job that goes on until it is called off."""
    handle = await session.launch(
        "launch_job", "is cancelled", command=["sleep", "7200"], image="python:3.12", timeout="3h"
    )
    assert handle is not None
    return handle


async def cancel(session: Session, handle: str) -> None:
    """Call a job off, and write down that it was: a job that was over before stays what it was."""
    view = await session.call("cancel_job", job_id=handle)
    if view is not None and view["state"] == "cancelled":
        session.ledger.cancelled.add(ids.parse_handle(ids.HandleKind.JOB, handle))


async def wait_for_job(session: Session, handle: str) -> None:
    """Wait for a job for a while, as an assistant does; one of many who wait for the same job."""
    await session.call("wait_for_jobs", job_ids=[handle], until="terminal", timeout_seconds=20)


def _read_code(answer: CallToolResult) -> str:
    error: dict[str, str] = (answer.meta or {}).get("holdfast/error", {})
    return error.get("code", "no code")


def _describe(error: BaseException) -> str:
    cause = error
    while isinstance(cause, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", cause)
        cause = group.exceptions[0]
    if isinstance(cause, httpx2.HTTPStatusError):
        return f"HTTP {cause.response.status_code}"
    return type(cause).__name__
