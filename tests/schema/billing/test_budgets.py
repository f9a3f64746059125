"""What may be spent is bounded before it is made, however many launches race (I6)."""

import anyio
import pytest

from schema.billing.budgets import Rate
from schema.common.errors import BudgetExceeded, IdempotencyConflict, InDoubt
from schema.db.database import Database
from schema.jobs.tables import Job
from tests.support.factories import FailFirstCommit, JobFactory, WorkspaceFactory
from tests.support.jobs.job_costs import (
    DOLLAR_MICRO_USD,
    TEN_CENT_RATE,
    THIRTY_CENT_RATE,
    cancel_job,
    read_held_and_spent,
)


async def test_of_a_hundred_launches_at_once_only_those_that_fit_are_made(
    database: Database, make_job: JobFactory, make_workspace: WorkspaceFactory
) -> None:
    """Thirty cents each on a dollar: three, however they race; the others leave nothing behind."""
    workspace = await make_workspace()
    made: list[Job] = []
    refused: list[BudgetExceeded] = []

    async def launch() -> None:
        try:
            made.append(await make_job(rate=THIRTY_CENT_RATE, workspace_id=workspace))
        except BudgetExceeded as no:
            refused.append(no)

    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(launch)

    assert (len(made), len(refused)) == (3, 97)
    assert await read_held_and_spent(database, "workspace") == (900_000, 0)
    assert await read_held_and_spent(database) == (900_000, 0)
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM job") == 3
        assert await tx.fetchval("SELECT queued FROM subject") == 3

    await cancel_job(database, made[0])

    assert await read_held_and_spent(database, "workspace") == (600_000, 0)
    await make_job(rate=THIRTY_CENT_RATE, workspace_id=workspace)
    with pytest.raises(BudgetExceeded):
        await make_job(rate=THIRTY_CENT_RATE, workspace_id=workspace)


async def test_a_month_is_bounded_for_all_workspaces_together(
    database: Database, ada_id: str, make_job: JobFactory, make_workspace: WorkspaceFactory
) -> None:
    """Spreading work over workspaces is no way around it; a budget of one's own comes first."""
    one, other = await make_workspace(), await make_workspace(500_000)
    await make_job(rate=THIRTY_CENT_RATE, workspace_id=one, default_monthly_budget=500_000)

    with pytest.raises(
        BudgetExceeded, match=r"of this month.*\$0\.50.*\$0\.30 is reserved"
    ) as refused:
        await make_job(rate=THIRTY_CENT_RATE, workspace_id=other, default_monthly_budget=500_000)
    assert refused.value.scope == "month"
    assert "20m" in str(refused.value)
    assert await read_held_and_spent(database, "workspace") == (300_000, 0)

    async with database.transaction() as tx:
        await tx.execute(
            "UPDATE subject SET monthly_budget_micro_usd = 600000 WHERE id = $1", ada_id
        )
    await make_job(rate=THIRTY_CENT_RATE, workspace_id=other, default_monthly_budget=500_000)
    assert await read_held_and_spent(database) == (600_000, 0)


async def test_the_first_launch_of_a_month_is_bounded_as_well(
    database: Database, make_job: JobFactory
) -> None:
    """There is no row to count on yet."""
    with pytest.raises(BudgetExceeded, match="10m"):
        await make_job(rate=THIRTY_CENT_RATE, default_monthly_budget=100_000)

    assert await read_held_and_spent(database) == (0, 0)


async def test_what_has_no_price_is_refused_only_where_something_is_bounded(
    database: Database, make_job: JobFactory, make_workspace: WorkspaceFactory
) -> None:
    """Unknown is not nothing."""
    await make_job(workspace_id=await make_workspace(None))
    with pytest.raises(BudgetExceeded, match="not known"):
        await make_job(workspace_id=await make_workspace())
    with pytest.raises(BudgetExceeded, match="not known"):
        await make_job(default_monthly_budget=DOLLAR_MICRO_USD)

    assert await read_held_and_spent(database) == (0, 0)


async def test_the_same_launch_again_holds_once(database: Database, make_job: JobFactory) -> None:
    """A repeated call is the same job; another limit under its key is another request."""
    job = await make_job(rate=TEN_CENT_RATE, idempotency_key="k")
    await make_job(rate=TEN_CENT_RATE, idempotency_key="k")
    await make_job(rate=TEN_CENT_RATE, job_id=job.id)

    assert await read_held_and_spent(database) == (100_000, 0)
    limited = Rate(
        TEN_CENT_RATE.price_micro_usd, TEN_CENT_RATE.timeout, most_micro_usd=DOLLAR_MICRO_USD
    )
    with pytest.raises(IdempotencyConflict, match="max_cost_usd"):
        await make_job(rate=limited, idempotency_key="k")
    bounded = await make_job(rate=limited, idempotency_key="l")
    assert (await make_job(rate=limited, idempotency_key="l")).id == bounded.id


async def test_a_launch_that_is_cut_off_holds_nothing(
    database: Database, make_job: JobFactory, fail_first_commit: FailFirstCommit
) -> None:
    """The hold is in the transaction of the job: there is both, or neither."""
    await fail_first_commit("job_cost")

    with pytest.raises(InDoubt):
        await make_job(rate=TEN_CENT_RATE, default_monthly_budget=TEN_CENT_RATE.ceiling_micro_usd)

    assert (
        await read_held_and_spent(database)
        == await read_held_and_spent(database, "job_cost")
        == (0, 0)
    )
    await make_job(rate=TEN_CENT_RATE, default_monthly_budget=TEN_CENT_RATE.ceiling_micro_usd)
