"""One capture of a job's log, as a worker makes it.

Run as a program (`python3 -m tests.support.jobs.log_capture`), it is a process that can be killed.
"""

from typing import Final

import anyio

from schema.accounts import credentials
from schema.accounts.vault import Secret
from schema.jobs import work_queues
from schema.jobs.work_queues import DueRun, PollLease
from schema.settings import Settings
from tests.support.subjects import ADA_ID
from workers.artifacts.log_capture import capture_log, load_redactor
from workers.context import Worker
from workers.worker import build_worker

MULTILINE_SECRET: Final = Secret("-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\n-----END KEY-----")


async def read_run(worker: Worker) -> DueRun:
    """Read Ada's one run, as the poll loop does."""
    async with worker.database.transaction() as tx:
        (run,) = await work_queues.list_bound_runs(tx, [PollLease(ADA_ID, "ada", 0)])
    return run.read()


async def capture_once(worker: Worker, *, is_over: bool = True, run: DueRun | None = None) -> bool:
    """Capture what is new in the log of a run.

    Args:
        run: Ada's one run if None.
    """
    run = run or await read_run(worker)
    async with worker.database.transaction() as tx:
        token = await credentials.load_token(tx, worker.vault, ADA_ID)
    assert token is not None
    redactor = await load_redactor(worker, run, token)
    return await capture_log(worker, run, token, redactor, is_finished=is_over)


async def _main() -> None:
    async with build_worker(Settings.from_env()) as worker:
        assert await capture_once(worker)


if __name__ == "__main__":
    anyio.run(_main)
