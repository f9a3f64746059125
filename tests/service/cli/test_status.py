"""`holdfast status` draws what the queues were like."""

from collections.abc import Callable
from io import BytesIO, TextIOWrapper

import pytest
from rich.console import Console

from schema.db.database import Database
from schema.jobs import lifecycle
from schema.jobs.monitoring import queue_history
from schema.jobs.tables import JobKind
from schema.settings import Settings
from service.cli.status import draw_sparkline, show_status
from tests.support.factories import JobFactory
from tests.support.subjects import ADA_ID


@pytest.mark.parametrize(
    ("values", "drawn"),
    [([], ""), ([0, 0], ""), ([0, 1, 2], "_=@ 2"), ([1, 1000, 500], ".@= 1000"), ([3], "@ 3")],
)
def test_a_line_is_as_high_as_its_largest_value(values: list[int], drawn: str) -> None:
    """What is little is still told from what is nothing."""
    assert draw_sparkline(values, levels="_.:-=+*#@") == drawn


@pytest.fixture
async def past_jobs(database: Database, make_job: JobFactory) -> None:
    """Three jobs of half an hour ago, of which one ended a moment ago, and one of now."""
    jobs = [await make_job() for _ in range(3)]
    async with database.transaction() as tx:
        await lifecycle.cancel_job(tx, jobs[0].id, subject_id=ADA_ID)
        await tx.execute(
            """
            WITH moved AS (
                UPDATE job SET created_at = now() - interval '32 minutes', version = version + 1
                RETURNING *
            )
            INSERT INTO job_event (job_id, version, kind, state, actor)
            SELECT id, version, 'stage', state, 'w' FROM moved
            """
        )
    await make_job(kind=JobKind.INFERENCE)


async def test_the_history_of_a_queue_is_read_from_its_jobs(
    database: Database, past_jobs: None
) -> None:
    """The last of twelve moments is now."""
    async with database.transaction() as tx:
        history = await queue_history.read_queue_history(tx)

    jobs, calls = history[JobKind.HUB_JOB], history[JobKind.INFERENCE]
    assert jobs.waiting == [0] * 5 + [3] * 6 + [2]
    assert jobs.ended == [0] * 11 + [1]
    assert calls.waiting == [0] * 11 + [1]


@pytest.mark.parametrize(
    ("encoding", "drawn"), [("utf-8", "·····██████▅ 3"), ("ascii", "_____@@@@@@+ 3")]
)
async def test_the_lines_are_drawn_in_what_the_terminal_can_show(
    make_settings: Callable[..., Settings], past_jobs: None, encoding: str, drawn: str
) -> None:
    """Elsewhere the blocks would be question marks, or end the command."""
    output = BytesIO()
    file = TextIOWrapper(output, encoding=encoding, write_through=True)

    await show_status(make_settings(), Console(file=file, width=160))

    assert drawn in output.getvalue().decode(encoding)
