"""What takes too long ends with a reason, and with the bill."""

from collections.abc import Generator

import pytest

from schema.jobs.run_launch import ClaimedJob
from schema.jobs.tables import JobState, Reason
from tests.support.hub.emulator_process import HubEmulatorProcess, run_hub_emulator
from tests.support.jobs.hub_runs import create_upstream_job, poll_namespace, read_stage, read_status
from workers.context import Worker
from workers.loops.reconcile_runs import reconcile_runs


@pytest.fixture(scope="module")
def hub_emulator(tmp_path_factory: pytest.TempPathFactory) -> Generator[HubEmulatorProcess]:
    """A Hub that has no hardware to give."""
    with run_hub_emulator(tmp_path_factory.mktemp("hub"), scheduling_seconds=600) as running:
        yield running


async def test_a_run_that_never_gets_its_hardware_is_given_up_with_what_was_seen(
    worker: Worker, hub_emulator: HubEmulatorProcess, unconfirmed_claim: ClaimedJob
) -> None:
    """Nobody waits for ever, and nothing starts after nobody waits."""
    remote_id = await create_upstream_job(worker, hub_emulator, unconfirmed_claim)
    await reconcile_runs(worker)
    await poll_namespace(worker)
    async with worker.database.transaction() as tx:
        await tx.execute("UPDATE remote_run SET deadline_at = now()")

    await poll_namespace(worker)
    await reconcile_runs(worker)

    status = await read_status(worker, unconfirmed_claim)
    assert (status.state, status.reason) == (JobState.FAILED, Reason.STUCK_SCHEDULING)
    assert status.message == "It was still SCHEDULING after 1d."
    assert read_stage(hub_emulator, remote_id) == "CANCELED"
