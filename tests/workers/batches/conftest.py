"""A router, a worker and batches."""

from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from schema.accounts.vault import Vault
from schema.batches import store as batch_store
from schema.db.database import Database
from schema.jobs.tables import Job, JobKind
from schema.settings import Settings
from schema.specs.batch import ItemRequest
from tests.support.factories import JobFactory
from tests.support.hub.model_router import RunningRouter, run_router
from tests.support.jobs.batch_runs import BATCH_SPEC, BatchFactory, lend_token
from tests.support.subjects import ADA_ID
from workers.context import Worker
from workers.executor import ExecutorDeps
from workers.executors import discover_executors
from workers.hub.client import open_hub_jobs_client


@pytest.fixture
def running_router(tmp_path: Path) -> Generator[RunningRouter]:
    """A router that counts its calls."""
    with run_router(tmp_path) as running:
        yield running


@pytest.fixture
async def ada_router_token(
    database: Database, vault: Vault, ada_id: str, running_router: RunningRouter
) -> None:
    """Ada has lent a token that the router takes."""
    await lend_token(database, vault, running_router.token())


@pytest.fixture
def submit_batch(database: Database, make_job: JobFactory, ada_router_token: None) -> BatchFactory:
    """Queue a batch of Ada's; keyword arguments override its request."""

    async def make(
        prompts: Sequence[str],
        *,
        subject_id: str = ADA_ID,
        namespace: str = "ada",
        **overrides: Any,
    ) -> Job:
        inline = {"items": {"count": len(prompts), "origin": "test"}}
        job = await make_job(
            kind=JobKind.BATCH,
            spec=BATCH_SPEC | inline | overrides,
            subject_id=subject_id,
            namespace=namespace,
        )
        items = [ItemRequest(prompt, {"inputs": prompt, "parameters": {}}) for prompt in prompts]
        async with database.transaction() as tx:
            await batch_store.add_items(tx, job.id, subject_id, items)
        return job

    return make


@pytest.fixture
async def worker(
    database: Database,
    vault: Vault,
    make_settings: Callable[..., Settings],
    running_router: RunningRouter,
) -> AsyncGenerator[Worker]:
    """A worker that is not at work yet."""
    worker_settings = make_settings(sweep="50ms", lease="10s", post_timeout="5s")
    async with open_hub_jobs_client(running_router.url, running_router.url) as hub:
        executors = discover_executors(ExecutorDeps(hub, database, worker_settings, vault))
        yield Worker("w1", worker_settings, database, vault, hub, executors)
