"""Every way to start a worker, with Redis and without it."""

from collections.abc import Generator
from contextlib import contextmanager

import pytest

from service.local.ports import find_free_port
from service.local.stack import Stack
from tests.support.programs import run_program
from tests.support.stack import McpCaller, without_worker

pytestmark = pytest.mark.xdist_group("stack")


@contextmanager
def run_only_worker(stack: Stack, *command: str, **environment: str) -> Generator[None]:
    """Run a worker in place of the stack's; it stops with exit code 0."""
    environment = stack.environment | environment
    with without_worker(stack), run_program(*command, environment=environment) as worker:
        yield
        worker.terminate()
        assert worker.wait(timeout=15) == 0


async def test_plain_arq_starts_a_worker(stack: Stack, alice: McpCaller) -> None:
    """Whoever already runs arq under a supervisor needs nothing of ours to start one."""
    with run_only_worker(stack, "arq", "workers.worker.WorkerSettings"):
        handle = await alice.launch("true")
        view = await alice.wait_until_finished(handle)

    assert view["state"] == "succeeded"


async def test_a_worker_starts_and_works_where_there_is_no_redis(
    stack: Stack, alice: McpCaller
) -> None:
    """Redis only sends wake-ups: without it everything is done, a moment later."""
    nowhere = f"redis://127.0.0.1:{find_free_port()}/0"
    with run_only_worker(stack, "service", "worker", HOLDFAST_REDIS_URL=nowhere):
        handle = await alice.launch("true")
        view = await alice.wait_until_finished(handle)

    assert view["state"] == "succeeded"
