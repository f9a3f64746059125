"""The tool `spending`: what was spent, on what, and what is left, also for who sees only text."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import pytest

from schema.billing.budgets import Rate
from schema.common import ids
from schema.common.ids import HandleKind
from schema.db.database import Database
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobKind, JobState
from service.mcp.tools.account import spending
from tests.support.factories import JobFactory, StartService
from tests.support.jobs.job_states import RunDriver
from tests.support.mcp.client import answer_text, call_for_result, call_tool, read_refusal
from tests.support.subjects import ADA_ID

RATE = Rate(10_000, timedelta(minutes=30))
"""A cent a minute: thirty at most."""


@pytest.fixture
async def url(start_service: StartService) -> AsyncGenerator[str]:
    """A service with a budget of two dollars a month."""
    with start_service(monthly_budget_usd="2") as opened:
        yield opened


@pytest.fixture
async def workspace(url: str, database: Database, make_job: JobFactory) -> str:
    """A workspace whose job cost 12 cents; beside it a job that runs, and an unpriced call."""
    made = await call_for_result(url, "create_workspace", name="nlp", budget_usd=0.5)
    workspace_id: str = made["workspace_id"]
    run_driver = RunDriver(database)
    spec = {"image": "i", "command": ["true"], "flavor": "a10g-small"}
    await make_job(
        spec=spec, rate=RATE, workspace_id=ids.parse_handle(HandleKind.WORKSPACE, workspace_id)
    )
    run_id = await run_driver.start_run(remote_id="1" * 24)
    await run_driver.end_run(
        run_id, RunResult(JobState.SUCCEEDED, "COMPLETED", run_duration=timedelta(minutes=12))
    )
    await make_job(spec=spec, rate=RATE)
    await run_driver.start_run(remote_id="2" * 24)
    await make_job(kind=JobKind.INFERENCE, spec={"model": "m/m"})
    return workspace_id


async def test_one_call_says_what_was_spent_on_what_and_what_is_left(
    url: str, workspace: str
) -> None:
    """In words that say the same as the object does, with the time zone of the days."""
    answer = await call_tool(url, spending.__name__, since="1d")

    view = answer.structured_content
    text = answer_text(answer)
    assert view is not None
    assert (view["total"]["jobs"], view["total"]["spent_usd"], view["total"]["held_usd"]) == (
        3,
        0.12,
        0.3,
    )
    assert f"From {view['first_day']} to {view['last_day']}, whole days in UTC: 3 jobs" in text
    assert "3 jobs, $0.12 spent, $0.30 held for 1 not settled, 1 without a price" in text
    assert f"nlp | a10g-small | {workspace} | 1 job | $0.12 spent | $0.38 left of $0.50" in text
    assert "no workspace | no flavor | 1 job | $0.00 spent | 1 without a price" in text
    assert "what they cost is not known here" in text
    assert "This month $0.12 is spent and $0.30 held, of a budget of $2.00" in text
    assert "; $1.58 is left." in text
    assert (view["left_out"], view["complete_from"]) == (0, None)


async def test_a_workspace_a_month_and_other_groups_can_be_chosen(url: str, workspace: str) -> None:
    inside = await call_for_result(
        url, "spending", group_by="kind", workspace_id=workspace, since="1d"
    )
    last = await call_tool(url, "spending", month="last", group_by=[])
    by_day = await call_for_result(url, "spending", group_by=["Month", "namespace"], since="1d")

    assert [group["group"] for group in inside["groups"]] == [{"kind": "hub_job"}]
    assert "0 jobs, $0.00 spent." in answer_text(last)
    assert {group["group"]["namespace"] for group in by_day["groups"]} == {"ada"}
    assert all(len(group["group"]["month"]) == len("2026-12") for group in by_day["groups"])


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ({"month": "december"}, "Invalid", 'write "this", "last", or one such as "2026-11"'),
        ({"month": "2026-13"}, "Invalid", "is not a month"),
        ({"month": "0000-01"}, "Invalid", "is not a month"),
        ({"month": "last", "since": "2d"}, "Invalid", "month goes with neither since nor until"),
        ({"month": "2999-01"}, "Invalid", "Nothing is spent yet from 2999-01-01 on: today is"),
        ({"since": "2d", "until": "3d"}, "Invalid", "until is before since"),
        ({"group_by": "color"}, "Invalid", "workspace"),
        ({"workspace_id": ""}, "Invalid", "is not a workspace handle"),
        ({"workspace_id": "ws_01krz4c0s0e5xv4k6w2q8ntb7m"}, "NotFound", "ws_01krz4c0s0e5xv4k6w2q8"),
    ],
)
async def test_what_means_nothing_is_refused_and_says_what_would(
    service_url: str, arguments: dict[str, Any], code: str, sentence: str
) -> None:
    """An amount of other days would be taken for the answer."""
    answer = await call_tool(service_url, "spending", **arguments)

    assert read_refusal(answer)["code"] == code
    assert sentence in answer_text(answer)


async def test_days_whose_sums_may_be_deleted_are_named(service_url: str) -> None:
    """Sums of deleted jobs are stored for two years, so what is older may be more than is shown."""
    answer = await call_tool(service_url, "spending", since="2000-01-01")

    view = answer.structured_content
    assert view is not None
    assert view["complete_from"] > "2000-01-01"
    assert f"It is complete from {view['complete_from']} on" in answer_text(answer)


async def test_groups_without_room_are_summed_up(
    service_url: str, database: Database, ada_id: str
) -> None:
    """So what is shown, and the rest, make the total, however many groups there are."""
    async with database.transaction() as tx:
        await tx.execute(
            """
            INSERT INTO usage_history (subject_id, day, kind, namespace, jobs, succeeded, failed,
                                       cancelled, spent_micro_usd, uncounted_micro_usd, unpriced)
            SELECT $1, (now() AT TIME ZONE 'UTC')::date, 'hub_job', number || repeat('é', 90), 1,
                   1, 0, 0, number * 10000, 0, 0
              FROM generate_series(1, 150) AS number
            """,
            ADA_ID,
        )

    answer = await call_tool(service_url, "spending", group_by="namespace", since="1d")

    view = answer.structured_content
    assert view is not None
    shown = [group["spent_usd"] for group in view["groups"]]
    assert shown == [number / 100 for number in range(150, 150 - len(shown), -1)]
    assert view["left_out"] == view["rest"]["jobs"] == 150 - len(shown) > 0
    assert view["rest"]["spent_usd"] == sum(range(1, 151 - len(shown))) / 100
    assert f"{view['left_out']} more groups without room here: {view['left_out']} jobs" in (
        answer_text(answer)
    )
