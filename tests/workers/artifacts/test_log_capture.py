"""The promises about a log on its way from the Hub: every line once, in order, whatever breaks."""

from collections.abc import AsyncGenerator, Callable, Generator
from datetime import timedelta

import anyio
import pytest

from schema.accounts import secrets as sealed_secrets
from schema.accounts.vault import Secret, Vault
from schema.artifacts import log_store
from schema.artifacts.log_store import LogExtent
from schema.db.database import Database
from schema.hub.client import HubRejected
from schema.jobs import queries as job_queries
from schema.jobs import run_launch
from schema.jobs.tables import Job, JobKind
from schema.settings import Settings
from tests.support.factories import JobFactory
from tests.support.hub.log_hub import LogHub, run_log_hub
from tests.support.jobs.log_capture import MULTILINE_SECRET, capture_once, read_run
from tests.support.subjects import ADA_ID
from workers.context import Worker
from workers.worker import build_worker

MINUTE = timedelta(minutes=1)
LOST_LOG_LINE = "[Holdfast: the Hub did not give the rest of this log]"


@pytest.fixture
def log_server() -> Generator[LogHub]:
    with run_log_hub() as running:
        yield running


@pytest.fixture
async def worker(
    log_server: LogHub, make_settings: Callable[..., Settings]
) -> AsyncGenerator[Worker]:
    """A worker at a Hub that has one log."""
    async with build_worker(make_settings(hub_url=log_server.url, log_bytes=1024 * 1024)) as built:
        yield built


@pytest.fixture
async def job_with_secret(database: Database, vault: Vault, make_job: JobFactory) -> Job:
    """A running job with a secret of several lines."""
    job = await make_job()
    async with database.transaction() as tx:
        await sealed_secrets.save_job_secrets(tx, vault, job.id, ADA_ID, {"KEY": MULTILINE_SECRET})
        (claim,) = await run_launch.claim(
            tx, JobKind.HUB_JOB, limit=1, worker="w", lease=MINUTE, settle_window=MINUTE
        )
        await run_launch.record_remote_id(
            tx, claim.run_id, remote_id="r", stage="RUNNING", worker="w", poll_after=MINUTE
        )
    return job


async def read_log(database: Database, job: Job) -> list[str]:
    """Read all there is of a log, page by page."""
    lines: list[str] = []
    async with database.transaction() as tx:
        extent = await log_store.read_log_extent(tx, ADA_ID, job.id)
        while len(lines) < extent.length:
            page = await log_store.read_lines(tx, ADA_ID, job.id, start=len(lines), limit=500)
            assert [line.number for line in page] == list(range(len(lines), len(lines) + len(page)))
            lines += [line.text for line in page]
    return lines


async def test_a_log_that_grows_is_captured_as_it_grows(
    worker: Worker, log_server: LogHub, database: Database, job_with_secret: Job
) -> None:
    """The Hub replays it from its start each time; what is kept is skipped."""
    for log_server.line_count in (3, 3, 2500, 7001):
        assert await capture_once(worker, is_over=False)
    log_server.line_count = 7010

    assert await capture_once(worker)

    assert await read_log(database, job_with_secret) == [str(number) for number in range(7010)]
    assert log_server.request_count == 5


async def test_a_log_that_says_nothing_more_for_now_is_left_until_the_next_turn(
    worker: Worker, log_server: LogHub, database: Database, job_with_secret: Job
) -> None:
    """The Hub keeps its stream open as long as the job runs, and says that it is alive."""
    log_server.line_count, log_server.stays_open = 3, True

    with anyio.fail_after(10):
        assert await capture_once(worker, is_over=False)

    assert await read_log(database, job_with_secret) == ["0", "1", "2"]


async def test_what_a_program_prints_line_by_line_is_stored_while_it_prints(
    worker: Worker, log_server: LogHub, database: Database, job_with_secret: Job
) -> None:
    """Whoever reads the log of a running job sees the last lines soon, not at the end of a turn."""
    log_server.line_count, log_server.stays_open, log_server.prints_on = 3, True, True

    with anyio.fail_after(10):
        assert await capture_once(worker, is_over=False)
        first = await read_log(database, job_with_secret)
        log_server.line_count = len(first) + 1
        assert await capture_once(worker, is_over=False)
        second = await read_log(database, job_with_secret)

    assert second == [str(number) for number in range(len(second))]
    assert 3 < len(first) < len(second)


async def test_a_stream_that_breaks_off_is_taken_up_where_it_broke(
    worker: Worker, log_server: LogHub, database: Database, job_with_secret: Job
) -> None:
    """As often as it takes, as long as each attempt brings something."""
    log_server.line_count, log_server.break_after_lines = 9000, [0, 2101, 5000, 5000]

    assert await capture_once(worker)

    assert await read_log(database, job_with_secret) == [str(number) for number in range(9000)]


async def test_a_log_that_cannot_be_had_does_not_hold_up_the_end_and_says_so(
    worker: Worker, log_server: LogHub, database: Database, job_with_secret: Job
) -> None:
    """What is there is kept; that something is missing is not hidden."""
    log_server.line_count, log_server.break_after_lines = 9, [5] * 9

    assert await capture_once(worker)

    assert await read_log(database, job_with_secret) == ["0", "1", "2", "3", "4", LOST_LOG_LINE]
    assert log_server.request_count < 9


async def test_what_was_captured_stays_when_the_hub_has_forgotten_it(
    worker: Worker, log_server: LogHub, database: Database, job_with_secret: Job
) -> None:
    """Its own copy is kept for nobody knows how long."""
    log_server.line_count = 3
    assert await capture_once(worker, is_over=False)
    log_server.refusal_statuses = [404]

    assert await capture_once(worker)

    assert await read_log(database, job_with_secret) == ["0", "1", "2", LOST_LOG_LINE]


@pytest.mark.parametrize("status", [401, 429])
async def test_a_log_is_not_given_up_for_a_token_or_for_a_moment(
    worker: Worker, log_server: LogHub, database: Database, job_with_secret: Job, status: int
) -> None:
    """The job ends when its owner has called again, or the Hub is ready to be asked again."""
    log_server.refusal_statuses = [status]

    with pytest.raises(HubRejected):
        await capture_once(worker)

    assert await read_log(database, job_with_secret) == []


async def test_of_two_workers_at_a_log_each_line_is_kept_by_one(
    worker: Worker, log_server: LogHub, database: Database, job_with_secret: Job
) -> None:
    """The lease of a turn may lapse while a log is read; who comes second leaves it alone."""
    log_server.line_count = 5000
    run = await read_run(worker)
    assert await capture_once(worker, run=run)

    assert not await capture_once(worker, run=run)

    assert await read_log(database, job_with_secret) == [str(number) for number in range(5000)]


async def test_a_secret_over_lines_is_found_wherever_a_capture_ends(
    worker: Worker, log_server: LogHub, database: Database, job_with_secret: Job
) -> None:
    """What may be the beginning of one waits for the line that decides it."""
    first, middle, last = MULTILINE_SECRET.reveal().splitlines()
    printed = ["a", first, "b", first, middle, "c", f"d {first}", middle, last, f"e {first}"]
    log_server.format_line = printed.__getitem__
    waiting: list[int] = []
    for log_server.line_count in range(1, len(printed) + 1):
        assert await capture_once(worker, is_over=False)
        waiting.append(log_server.line_count - len(await read_log(database, job_with_secret)))
    assert await capture_once(worker)

    assert await read_log(database, job_with_secret) == [
        *("a", first, "b", first, "[redacted:KEY]", "c"),
        *("d [redacted:KEY]", "[redacted:KEY]", "[redacted:KEY]", f"e {first}"),
    ]
    assert waiting == [0, 1, 0, 1, 2, 0, 1, 2, 0, 1]


async def test_a_log_too_large_keeps_its_beginning_and_its_end(
    worker: Worker, log_server: LogHub, database: Database, job_with_secret: Job
) -> None:
    """How it was set up and why it failed; the numbers of the lines say what is between."""
    log_server.line_count, log_server.format_line = 40_000, lambda number: f"{number:0100}"
    assert await capture_once(worker)

    async with database.transaction() as tx:
        extent = await log_store.read_log_extent(tx, ADA_ID, job_with_secret.id)
        head = await log_store.read_lines(
            tx, ADA_ID, job_with_secret.id, start=extent.head_lines - 2, limit=4
        )
        end = await log_store.read_lines(tx, ADA_ID, job_with_secret.id, start=39_999, limit=4)
        stored = await tx.fetchval(
            "SELECT sum(octet_length(array_to_string(lines, '.')) + 1) FROM log_chunk"
        )

    assert extent.length == 40_000
    assert extent.dropped_lines > 25_000
    last, first = extent.head_lines - 1, extent.tail_start
    assert [line.number for line in head] == [last - 1, last, first, first + 1]
    assert [int(line.text) for line in [*head, *end]] == [*(line.number for line in head), 39_999]
    assert 700_000 < stored <= 1024 * 1024


async def test_what_was_kept_says_how_long_it_is_at_once(
    worker: Worker, log_server: LogHub, database: Database, job_with_secret: Job
) -> None:
    """An empty log is one too."""
    assert await capture_once(worker)

    async with database.transaction() as tx:
        assert await log_store.read_log_extent(tx, ADA_ID, job_with_secret.id) == LogExtent()
        assert await job_queries.get_job_status(tx, ADA_ID, job_with_secret.id) is not None


async def test_without_the_key_of_its_secrets_nothing_of_a_log_is_kept(
    worker: Worker, log_server: LogHub, database: Database, job_with_secret: Job
) -> None:
    """What cannot be looked for might stand in any line."""
    log_server.line_count = 3
    async with database.transaction() as tx:
        await tx.execute("UPDATE job_secret SET sealed = sealed || 'x'")

    assert await capture_once(worker, is_over=False)
    assert await read_log(database, job_with_secret) == []
    assert await capture_once(worker)

    (line,) = await read_log(database, job_with_secret)
    assert line.startswith("[withheld")


async def test_the_token_of_whoever_launched_it_is_not_kept(
    worker: Worker, log_server: LogHub, database: Database, vault: Vault, job_with_secret: Job
) -> None:
    """With pass_token a job has it, and what a job has it may print."""
    async with database.transaction() as tx:
        await tx.execute("DELETE FROM job_secret")
        await sealed_secrets.save_job_secrets(
            tx, vault, job_with_secret.id, ADA_ID, {"HF_TOKEN": Secret("hf_first-one")}
        )
    log_server.line_count, log_server.format_line = 2, ["a hf_first-one", "b"].__getitem__

    assert await capture_once(worker)

    assert await read_log(database, job_with_secret) == ["a [redacted:HF_TOKEN]", "b"]
