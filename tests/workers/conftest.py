"""A worker whose steps are taken one by one, and the local Hub it speaks to."""

from collections.abc import AsyncGenerator, Callable, Generator
from datetime import timedelta

import pytest

from schema.accounts import credentials
from schema.accounts.vault import Secret, Vault
from schema.db.database import Database
from schema.jobs import run_launch
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.tables import JobKind
from schema.settings import Settings
from service.local.hub_emulator.users import find_user
from tests.support.factories import JobFactory
from tests.support.hub.emulator_process import HubEmulatorProcess, run_hub_emulator
from tests.support.hub.scripted_hub import ScriptedHub, run_scripted_hub
from tests.support.jobs.hub_runs import SLEEP_SPEC
from workers.context import Worker
from workers.executors.hub_job import HubJobExecutor
from workers.hub.client import open_hub_jobs_client


@pytest.fixture(scope="module")
def hub_emulator(tmp_path_factory: pytest.TempPathFactory) -> Generator[HubEmulatorProcess]:
    with run_hub_emulator(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture
async def worker(
    hub_emulator: HubEmulatorProcess,
    database: Database,
    vault: Vault,
    make_settings: Callable[..., Settings],
) -> AsyncGenerator[Worker]:
    """A worker without loops: each test takes its steps itself."""
    async with open_hub_jobs_client(hub_emulator.url, hub_emulator.url) as gateway:
        executor = HubJobExecutor(gateway)
        yield Worker(
            name="w1",
            settings=make_settings(settle="1ms", post_timeout="1ms", lease="1s"),
            database=database,
            vault=vault,
            hub=gateway,
            executors={JobKind.HUB_JOB: executor},
        )


@pytest.fixture
async def ada_hub_token(
    worker: Worker, hub_emulator: HubEmulatorProcess, ada_id: str, vault: Vault
) -> None:
    """Ada has lent a token that the Hub takes."""
    token = find_user(hub_emulator.users, "alice").token
    async with worker.database.transaction() as tx:
        await credentials.save_credential(
            tx, vault, subject_id=ada_id, name="ada", token=Secret(token), expires_at=None
        )


@pytest.fixture
async def unconfirmed_claim(
    worker: Worker, ada_hub_token: None, make_job: JobFactory
) -> ClaimedJob:
    """A run whose create request was sent, and whose answer nobody has seen."""
    await make_job(namespace="alice", spec=SLEEP_SPEC)
    async with worker.database.transaction() as tx:
        (claim,) = await run_launch.claim(
            tx,
            JobKind.HUB_JOB,
            limit=1,
            worker="w1",
            lease=timedelta(minutes=1),
            settle_window=worker.settings.settle,
        )
        await run_launch.mark_unconfirmed(tx, claim.run_id, cause="no answer", worker="w1")
    return claim


@pytest.fixture
def scripted_hub() -> Generator[ScriptedHub]:
    """A Hub that gives the answers that the test writes."""
    with run_scripted_hub() as hub:
        yield hub
