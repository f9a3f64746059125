"""What a worker does with a run that was started by hand and adopted."""

from datetime import UTC, datetime

import pytest

from schema.common import ids
from schema.jobs import adoption
from schema.jobs.adoption import UntrackedRun
from tests.support.hub.emulator_process import HubEmulatorProcess
from tests.support.jobs.hub_runs import poll_namespace, read_stage
from tests.support.polling import wait_until
from tests.support.subjects import ADA_ID
from workers.context import Worker

pytestmark = pytest.mark.usefixtures("ada_hub_token")


async def test_no_stage_of_an_adopted_run_has_a_deadline(
    worker: Worker, hub_emulator: HubEmulatorProcess
) -> None:
    """It is seen without a label of ours, and never ended because a stage of it lasts long."""
    api = hub_emulator.api()
    job = api.run_job(image="python:3.12", command=["sleep", "600"], namespace="alice")
    wait_until(lambda: read_stage(hub_emulator, job.id) == "RUNNING")
    run = UntrackedRun(ids.new_id(), ids.new_id(), ADA_ID, "alice", job.id, "SCHEDULING", None)
    async with worker.database.transaction() as tx:
        await adoption.recreate_job(
            tx,
            run,
            title="python:3.12: sleep 600",
            labels={},
            spec={"image": "python:3.12", "command": ["sleep", "600"], "timeout": 1},
            created_at=datetime.now(UTC),
            has_secrets=False,
            rate=None,
            adoption={"missing": []},
        )
        await adoption.adopt_run(
            tx, run, earliest=datetime.now(UTC), max_stage_duration=None, actor=ADA_ID
        )

    await poll_namespace(worker)

    async with worker.database.transaction() as tx:
        row = await tx.fetchrow("SELECT stage, deadline_at, desired FROM remote_run")
    assert row is not None
    assert tuple(row.values()) == ("RUNNING", None, "alive")
    api.cancel_job(job_id=job.id, namespace="alice")
