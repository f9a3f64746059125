"""The progress that a worker writes while an executor reports far more of it."""

from collections.abc import Callable
from typing import cast
from uuid import UUID

import anyio

from schema.accounts.vault import Secret, Vault
from schema.db.database import Database
from schema.jobs import progress as job_progress
from schema.jobs.progress import JobProgress
from schema.settings import Settings
from tests.support.factories import JobFactory
from tests.support.jobs.job_states import RunDriver
from workers.artifacts.redaction import Redactor
from workers.attempts.progress import ProgressReporter
from workers.context import Worker
from workers.hub.client import HubJobsClient

KEY = "correct-horse-battery-staple-41"


async def write_reports(reporter: ProgressReporter, database: Database) -> str:
    """Let a reporter write once; return all that the database then has of it."""
    async with anyio.create_task_group() as group:
        group.start_soon(reporter.write_until_cancelled)
        with anyio.fail_after(30):
            while True:
                async with database.transaction() as tx:
                    stored = await tx.fetchval(
                        "SELECT job.progress::text || (SELECT string_agg(facts::text, '') "
                        "FROM job_event) FROM job"
                    )
                if stored is not None:
                    group.cancel_scope.cancel()
                    return str(stored)
                await anyio.sleep(0.01)  # between two looks at the row
    raise AssertionError("nothing was written")


async def test_values_are_written_once_for_many_reports_and_nothing_has_a_secret(
    database: Database,
    vault: Vault,
    make_settings: Callable[..., Settings],
    make_job: JobFactory,
) -> None:
    """A Space reports a thousand times a second, and may repeat the token that it got."""
    await make_job()
    run_id: UUID = await RunDriver(database).start_run()
    worker = Worker(
        name="w1",
        settings=make_settings(),
        database=database,
        vault=vault,
        hub=cast("HubJobsClient", None),  # nothing here speaks to the Hub
        executors={},
    )
    reporter = ProgressReporter(worker, run_id, Redactor({"KEY": Secret(KEY)}))
    renders = 0

    def render(redactor: job_progress.TextRedactor) -> str:
        nonlocal renders
        renders += 1
        return redactor.redact(f"yielded {KEY}")

    for _ in range(1000):
        reporter(
            JobProgress(message=f"{KEY}{' ' * 10_150}{KEY}{'x' * 20_000}", render_partial=render)
        )
    stored = await write_reports(reporter, database)

    assert renders == 1
    assert stored.count("[redacted:KEY]") == 3  # in the row, in its message, and in the event
    assert not any(KEY[at : at + 6] in stored for at in range(len(KEY) - 5))
