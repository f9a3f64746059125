"""Limits, as whoever meets one hears of them: `LimitUsage` in `_meta`, and the same in words."""

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

import httpx2
import pytest

from schema.common.errors import HoldfastError, LimitUsage, TooManySchedules, TooManyWaits
from schema.common.text import format_utc
from tests.support.factories import StartService
from tests.support.mcp.client import (
    answer_text,
    call_for_result,
    call_tool,
    post_message,
    read_refusal,
)

GPU_LAUNCH: Final[dict[str, Any]] = {
    "image": "python:3.12",
    "command": ["true"],
    "flavor": "a10g-small",
    "timeout": "30m",
}
CEILING_USD: Final = 0.50001
SLACK: Final = timedelta(minutes=5)
"""What a slow machine may take between a refusal and a look at the clock."""


def select_limit(error: dict[str, Any]) -> dict[str, Any]:
    return {name: error[name] for name in ("unit", "limit", "used", "resets_at")}


def begin_next_month() -> datetime:
    now = datetime.now(UTC)
    year, month = divmod(now.year * 12 + now.month, 12)
    return datetime(year, month + 1, 1, tzinfo=UTC)


async def call_until_refused(url: str, authorization: str) -> httpx2.Response:
    for _ in range(5):
        response = await post_message(url, "tools/list", authorization=authorization)
        if not response.is_success:
            return response
    pytest.fail("no call was refused")


async def test_open_jobs_over_their_limit(start_service: StartService) -> None:
    """No moment makes room: the person, or the end of a job, does."""
    with start_service(open_jobs=1) as url:
        await call_for_result(url, "launch_job", image="python:3.12", command=["true"])
        answer = await call_tool(url, "launch_job", image="python:3.12", command=["true"])

    assert select_limit(dict(read_refusal(answer))) == {
        "unit": "open jobs",
        "limit": 1,
        "used": 1,
        "resets_at": None,
    }
    assert "1 open job and may have 1 at a time" in answer_text(answer)


async def test_a_months_budget_says_when_the_next_one_begins(start_service: StartService) -> None:
    """What is held counts as used: it cannot be spent twice."""
    months = {begin_next_month()}
    with start_service(monthly_budget_usd=0.75) as url:
        await call_for_result(url, "launch_job", **GPU_LAUNCH)
        answer = await call_tool(url, "launch_job", **GPU_LAUNCH)
        account = await call_for_result(url, "whoami")
    months.add(begin_next_month())

    limit = select_limit(dict(read_refusal(answer)))
    named = limit.pop("resets_at")
    assert limit == {"unit": "USD", "limit": 0.75, "used": pytest.approx(CEILING_USD)}
    assert named in {month.isoformat() for month in months}
    resets_at = datetime.fromisoformat(named)
    assert "is $0.75" in answer_text(answer)
    assert "$0.51 is reserved" in answer_text(answer)
    assert f"The next month begins at {format_utc(resets_at)}." in answer_text(answer)
    assert datetime.fromisoformat(account["month"]["resets_at"]) in months


async def test_a_workspaces_budget_has_no_end(service_url: str) -> None:
    """Nothing is free again until somebody raises it, or a job ends below its worst case."""
    workspace = await call_for_result(service_url, "create_workspace", name="w", budget_usd=0.75)
    launch = GPU_LAUNCH | {"workspace_id": workspace["workspace_id"]}
    await call_for_result(service_url, "launch_job", **launch)

    answer = await call_tool(service_url, "launch_job", **launch)

    assert select_limit(dict(read_refusal(answer))) == {
        "unit": "USD",
        "limit": 0.75,
        "used": pytest.approx(CEILING_USD),
        "resets_at": None,
    }
    assert "next month" not in answer_text(answer)


@pytest.mark.parametrize("token", ["Bearer hf_ada", ""], ids=["signed in", "anonymous"])
async def test_calls_over_their_limit(start_service: StartService, token: str) -> None:
    """The moment is that of Retry-After: whoever comes then is let in."""
    with start_service(calls_per_minute=1) as url:
        response = await call_until_refused(url, authorization=token)

    error = response.json()["error"]
    limit = select_limit(error["data"]["holdfast/error"])
    resets_at = datetime.fromisoformat(limit.pop("resets_at"))
    pause = timedelta(seconds=int(response.headers["retry-after"]))
    assert response.status_code == HTTPStatus.TOO_MANY_REQUESTS
    assert limit == {"unit": "calls", "limit": 1, "used": 1}
    assert timedelta(0) <= datetime.now(UTC) + pause - resets_at < SLACK
    assert "1 call in 60 seconds" in error["message"]
    assert f"at {format_utc(resets_at)}." in error["message"]


@pytest.mark.parametrize(
    ("failure", "unit"),
    [(TooManyWaits(8), "waiting calls"), (TooManySchedules(100), "schedules")],
    ids=["waits", "schedules"],
)
def test_what_is_counted_by_its_number_is_full(failure: HoldfastError, unit: str) -> None:
    """As many are used as there may be."""
    assert failure.limit_usage is not None
    limit = failure.limit_usage.limit

    assert failure.limit_usage == LimitUsage(unit, limit, limit)
    assert f"You have {limit} {unit.removesuffix('s')}" in str(failure)


def test_an_error_about_no_limit_has_only_its_code() -> None:
    """A program can tell them apart by whether there is a limit."""
    assert HoldfastError("no").to_dict() == {"code": "HoldfastError"}
