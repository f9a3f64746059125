"""What takes too long ends with a reason, and with the bill."""

from collections.abc import Generator

import pytest

from schema.jobs.run_launch import Claim
from schema.jobs.tables import JobState, Reason
from tests.service.local.hub.conftest import RunningHub, running_hub
from tests.workers.conftest import create, poll, stage_at, status_of
from workers.context import Worker
from workers.loops.reconcile_runs import attend


@pytest.fixture(scope="module")
def local_hub(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningHub]:
    """A Hub that has no hardware to give."""
    with running_hub(tmp_path_factory.mktemp("hub"), scheduling=600) as running:
        yield running


async def test_a_run_that_never_gets_its_hardware_is_given_up_with_what_was_seen(
    worker: Worker, local_hub: RunningHub, doubted: Claim
) -> None:
    """Nobody waits for ever, and nothing starts after nobody waits."""
    remote_id = await create(worker, local_hub, doubted)
    await attend(worker)
    await poll(worker)
    async with worker.database.transaction() as tx:
        await tx.execute("UPDATE remote_run SET deadline_at = now()")

    await poll(worker)
    await attend(worker)

    status = await status_of(worker, doubted)
    assert (status.state, status.reason) == (JobState.FAILED, Reason.STUCK_SCHEDULING)
    assert status.message == "It was still SCHEDULING after 1d."
    assert stage_at(local_hub, remote_id) == "CANCELED"
