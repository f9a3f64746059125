"""Which launches that were never confirmed are tried once more."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from schema.jobs import run_launch
from schema.jobs.tables import JobKind, JobState
from schema.settings import Settings
from tests.support.factories import JobFactory
from tests.support.jobs.hub_runs import SLEEP_SPEC, make_rows_due, read_status
from workers.context import Worker
from workers.loops.reconcile_runs import reconcile_runs


@pytest.mark.usefixtures("ada_hub_token")
@pytest.mark.parametrize(
    ("unknown", "flavor", "attempts", "state"),
    [
        (None, "cpu-basic", 1, JobState.QUEUED),
        (None, "a10g-small", 1, JobState.FAILED),
        ("fail", "cpu-basic", 1, JobState.FAILED),
        ("relaunch", "a10g-small", 1, JobState.QUEUED),
        # What came late would be started anew by the Hub, as often as that was asked to.
        ("relaunch", "cpu-basic", 2, JobState.FAILED),
    ],
)
async def test_an_absent_run_is_relaunched_where_a_duplicate_costs_little(
    worker: Worker,
    make_settings: Callable[..., Settings],
    make_job: JobFactory,
    unknown: str | None,
    flavor: str,
    attempts: int,
    state: JobState,
) -> None:
    """Only a second request can be a second bill, so it is the operator's choice, and cheap."""
    settings = make_settings(settle="1ms", post_timeout="1ms", lease="1s", unknown=unknown)
    worker = replace(worker, settings=settings)
    await make_job(namespace="alice", spec=SLEEP_SPEC | {"flavor": flavor, "attempts": attempts})
    async with worker.database.transaction() as tx:
        (claim,) = await run_launch.claim(
            tx,
            JobKind.HUB_JOB,
            limit=1,
            worker="w1",
            lease=settings.lease,
            settle_window=settings.settle,
        )
        await run_launch.mark_unconfirmed(tx, claim.run_id, cause="no answer", worker="w1")

    for _ in range(3):
        await make_rows_due(worker, "remote_run")
        await reconcile_runs(worker)

    assert (await read_status(worker, claim)).state is state
