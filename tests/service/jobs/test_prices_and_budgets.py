"""Prices, budgets and dry runs, as a client meets them (I6)."""

import json
import re
from datetime import timedelta
from typing import Any, Final

import pytest

from schema.db.database import Database
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobState
from tests.support.factories import StartService
from tests.support.hub.fake_hub import FakeHub, whoami_answer
from tests.support.jobs.job_states import RunDriver
from tests.support.mcp.client import answer_text, call_for_result, call_tool
from tests.support.subjects import ADA_ID

JOB_ARGUMENTS: Final[dict[str, Any]] = {"image": "python:3.12", "command": ["true"]}
A10G_ARGUMENTS: Final[dict[str, Any]] = {**JOB_ARGUMENTS, "flavor": "a10g-small", "timeout": "30m"}
"""A sixtieth of a dollar a minute: half a dollar and a bit."""


START_JOB: Final = """
WITH moved AS (
    UPDATE job SET started_at = now() - interval '150 seconds', version = version + 1
    RETURNING *
)
INSERT INTO job_event (job_id, version, kind, state, actor)
SELECT id, version, 'stage', state, 'w' FROM moved
"""


@pytest.fixture
def run_driver(database: Database) -> RunDriver:
    """Whoever moves jobs."""
    return RunDriver(database)


async def test_hardware_is_listed_with_its_price(service_url: str) -> None:
    """Whoever chooses sees what it costs, the cheapest first."""
    view = await call_for_result(service_url, "list_hardware", max_price=1.0, gpu_only=True)

    names = [flavor["name"] for flavor in view["flavors"]]
    assert names == ["t4-small", "t4-medium", "l4x1"]
    assert view["flavors"][0]["usd_per_minute"] == 0.006667
    assert view["flavors"][0]["gpu"] == "1x T4, 16 GB"
    assert not view["stale"]


async def test_prices_are_asked_for_once(service_url: str, fake_hub: FakeHub) -> None:
    """The Hub counts requests."""
    for _ in range(3):
        await call_for_result(service_url, "list_hardware")

    assert fake_hub.price_request_count == 1


async def test_a_restart_while_the_hub_is_away_still_prices(
    start_service: StartService, fake_hub: FakeHub
) -> None:
    """The last good list counts, and is said to be of when."""
    with start_service() as service:
        before = await call_for_result(service, "list_hardware")
    fake_hub.answers_prices = False

    with start_service() as service:
        answer = await call_tool(service, "list_hardware")
        launched = await call_for_result(service, "launch_job", **A10G_ARGUMENTS)

    view: dict[str, Any] = answer.structured_content
    assert "does not answer" in answer_text(answer)
    assert view["stale"]
    assert (view["as_of"], view["flavors"]) == (before["as_of"], before["flavors"])
    assert launched["cost"]["ceiling_usd"] == 0.50001


async def test_without_any_price_list_nothing_is_launched(
    service_url: str, fake_hub: FakeHub
) -> None:
    """What cannot be bounded is not begun."""
    fake_hub.answers_prices = False

    answer = await call_tool(service_url, "launch_job", **JOB_ARGUMENTS)

    assert answer.is_error
    assert "what it costs is not known" in answer_text(answer)
    assert (await call_for_result(service_url, "list_jobs"))["jobs"] == []


async def test_a_flavor_that_cannot_be_priced_is_refused_before_there_is_a_handle(
    service_url: str, fake_hub: FakeHub
) -> None:
    """A typo is answered with what was meant; a price in an unknown unit is no price."""
    fake_hub.hardware.append({"name": "odd", "unitCostMicroUSD": 1, "unitLabel": "fortnight"})
    fake_hub.hardware.append({"name": "free-of-price", "unitLabel": "minute"})

    typo = await call_tool(service_url, "launch_job", **{**JOB_ARGUMENTS, "flavor": "a10-small"})
    odd = await call_tool(service_url, "launch_job", **{**JOB_ARGUMENTS, "flavor": "odd"})
    unpriced = await call_tool(
        service_url, "launch_job", **{**JOB_ARGUMENTS, "flavor": "free-of-price"}
    )

    assert "a10g-small" in answer_text(typo)
    assert "list_hardware" in answer_text(typo)
    assert all(answer.is_error for answer in (typo, odd, unpriced))
    assert "no price for odd" in answer_text(odd)
    assert (await call_for_result(service_url, "list_jobs"))["jobs"] == []


async def test_a_limit_of_the_caller_is_kept_and_says_what_fits(service_url: str) -> None:
    """The longest timeout that fits, rather than trial and error."""
    refused = await call_tool(service_url, "launch_job", **A10G_ARGUMENTS, max_cost_usd=0.2)
    launched = await call_for_result(
        service_url, "launch_job", **{**A10G_ARGUMENTS, "timeout": "11m"}, max_cost_usd=0.2
    )

    assert refused.is_error
    assert '"11m"' in answer_text(refused)
    assert launched["cost"]["ceiling_usd"] == pytest.approx(0.183337)


async def test_attempts_and_ports_are_part_of_the_worst_case(service_url: str) -> None:
    """Each attempt is billed, and so is what is exposed; both before anything is made."""
    group = (await call_for_result(service_url, "create_workspace", name="g", budget_usd=1))[
        "workspace_id"
    ]
    twice: dict[str, Any] = A10G_ARGUMENTS | {"attempts": 2, "workspace_id": group}

    above = await call_tool(
        service_url, "launch_job", **A10G_ARGUMENTS, attempts=2, max_cost_usd=0.9
    )
    refused = await call_tool(service_url, "launch_job", **twice)
    fits = await call_for_result(
        service_url, "launch_job", **{**twice, "timeout": "29m"}, dry_run=True
    )
    ports = await call_for_result(
        service_url, "launch_job", **A10G_ARGUMENTS, expose=[80, 81, 82], dry_run=True
    )

    assert "for 30m, 2 times" in answer_text(above)
    assert 'timeout that fits is "26m"' in answer_text(above)
    assert (refused.meta or {})["holdfast/error"]["code"] == "BudgetExceeded"
    assert 'timeout="29m"' in answer_text(refused)
    assert (fits["needs"], fits["ceiling_usd"]) == ([], pytest.approx(2 * 29 * 0.016667))
    assert ports["ceiling_usd"] == pytest.approx(30 * (0.016667 + 0.0005))
    assert (await call_for_result(service_url, "list_jobs"))["jobs"] == []


async def test_a_budget_of_a_workspace_holds_and_is_shown(service_url: str) -> None:
    """A refusal says what there is, what is needed, and what would fit."""
    group = (await call_for_result(service_url, "create_workspace", name="g", budget_usd=1))[
        "workspace_id"
    ]
    await call_for_result(service_url, "launch_job", **A10G_ARGUMENTS, workspace_id=group)

    refused = await call_tool(service_url, "launch_job", **A10G_ARGUMENTS, workspace_id=group)

    code = (refused.meta or {})["holdfast/error"]["code"]
    assert code == "BudgetExceeded"
    assert "$1.00" in answer_text(refused)
    assert "$0.51" in answer_text(refused)
    assert 'timeout="29m"' in answer_text(refused)
    (listed,) = (await call_for_result(service_url, "list_workspaces"))["workspaces"]
    assert (listed["budget_usd"], listed["held_usd"], listed["spent_usd"]) == (1, 0.50001, 0)
    assert listed["left_usd"] == 0.49999


async def test_a_month_is_bounded_for_everybody_and_whoami_says_so(
    start_service: StartService,
) -> None:
    """One setting, for a deployment that pays for nobody's accident."""
    with start_service(monthly_budget_usd="0.6") as service:
        await call_for_result(service, "launch_job", **A10G_ARGUMENTS)
        refused = await call_tool(service, "launch_job", **A10G_ARGUMENTS)
        unpriced = await call_tool(service, "launch_inference", model="m/m", inputs="Hi")
        view = await call_for_result(service, "whoami")

    assert "of this month" in answer_text(refused)
    assert "not known" in answer_text(unpriced)
    assert re.fullmatch(r"\d{4}-\d\d-01T00:00:00Z", view["month"].pop("resets_at"))
    assert view["month"] == {
        "budget_usd": 0.6,
        "spent_usd": 0,
        "held_usd": 0.50001,
        "left_usd": 0.09999,
    }


async def test_a_call_costs_what_nobody_knows_and_is_never_said_to_be_free(
    service_url: str,
) -> None:
    """Where nothing is bounded it may be made; where a limit is given it cannot be kept."""
    view = await call_for_result(service_url, "launch_inference", model="m/m", inputs="Hi")
    bounded = await call_tool(
        service_url, "launch_inference", model="m/m", inputs="Hi", max_cost_usd=1
    )

    assert view["cost"] == {"ceiling_usd": None, "so_far_usd": None, "final": False}
    assert bounded.is_error
    assert "max_cost_usd" in answer_text(bounded)


async def test_the_cost_of_a_job_is_shown_before_during_and_after(
    service_url: str, database: Database, run_driver: RunDriver
) -> None:
    """While it runs by the clock, in the end by what was settled."""
    job = await call_for_result(service_url, "launch_job", **A10G_ARGUMENTS)
    assert job["cost"] == {"ceiling_usd": 0.50001, "so_far_usd": 0, "final": False}

    run_id = await run_driver.start_run()
    async with database.transaction() as tx:
        await tx.execute(START_JOB)
    (running,) = (await call_for_result(service_url, "job_status", job_ids=job["job_id"]))["jobs"]
    assert running["cost"] == {"ceiling_usd": 0.50001, "so_far_usd": 0.050001, "final": False}
    assert "$0.05 so far" in running["summary"]

    done = RunResult(JobState.SUCCEEDED, "COMPLETED", run_duration=timedelta(seconds=61))
    await run_driver.end_run(run_id, done)
    (over,) = (await call_for_result(service_url, "job_status", job_ids=job["job_id"]))["jobs"]
    assert over["cost"] == {"ceiling_usd": 0.50001, "so_far_usd": 0.033334, "final": True}
    assert "It cost $0.03." in over["summary"]


async def test_a_dry_run_checks_everything_and_makes_nothing(
    service_url: str, database: Database, fake_hub: FakeHub
) -> None:
    """It says what a launch would cost, and what it lacks; of secrets it shows the names."""
    group = (await call_for_result(service_url, "create_workspace", name="g", budget_usd=0.1))[
        "workspace_id"
    ]
    arguments: dict[str, Any] = {**A10G_ARGUMENTS, "secrets": {"KEY": "s3cret"}, "dry_run": True}

    fits = await call_for_result(service_url, "launch_job", **arguments)
    lacking = await call_tool(service_url, "launch_job", **arguments, workspace_id=group)
    fake_hub.denied_namespaces["ada"] = "no"
    fake_hub.whoami_by_token["hf_new"] = whoami_answer(ADA_ID, "ada")
    denied = await call_for_result(service_url, "launch_job", **arguments, caller_token="hf_new")
    call_ = await call_for_result(
        service_url, "launch_inference", model="m/m", inputs="Hi", dry_run=True
    )

    assert (fits["dry_run"], fits["needs"], fits["ceiling_usd"]) == (True, [], 0.50001)
    assert fits["spec"]["secrets"] == ["KEY"]
    assert "s3cret" not in json.dumps([fits, denied])
    view: dict[str, Any] = lacking.structured_content
    assert "$0.10" in view["needs"][0]
    assert view["budget_left_usd"] == 0.1
    assert "does not let your token" in denied["needs"][0]
    assert (call_["needs"], call_["ceiling_usd"]) == ([], None)
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM job") == 0
        assert await tx.fetchval("SELECT count(*) FROM spending") == 0
