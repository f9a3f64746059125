"""What was moved is told, once it is committed, in few messages; and losing them harms nobody."""

# redis 5 leaves its keyword arguments untyped.
# pyright: reportUnknownMemberType=false

from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import anyio
import anyio.lowlevel
import pytest
from redis.asyncio import Redis

from schema.accounts.row_security import DatabaseRole
from schema.db.database import Database
from schema.jobs import lifecycle, run_end, run_launch
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobState
from schema.messaging import change_notifications
from schema.messaging.change_notifications import ChangePublisher
from service.local.ports import find_free_port
from tests.support.database.servers import BreakableValkey
from tests.support.factories import ClaimFactory, JobFactory
from tests.support.polling import eventually


class ChangeRecorder:
    """Remembers what it heard."""

    def __init__(self) -> None:
        self.heard: list[dict[UUID, int]] = []

    def record(self, moved: Mapping[UUID, int]) -> None:
        self.heard.append(dict(moved))

    @property
    def newest_versions(self) -> dict[UUID, int]:
        """Every job that was heard of, at the version heard last."""
        return {job_id: version for moved in self.heard for job_id, version in moved.items()}


@pytest.fixture
def recorder() -> ChangeRecorder:
    """Somebody who is told."""
    return ChangeRecorder()


@pytest.fixture
async def worker_database(database_url: str, recorder: ChangeRecorder) -> AsyncGenerator[Database]:
    """The test's database, as a worker has it, with somebody to tell."""
    async with Database(
        database_url,
        application_name="tests",
        role=DatabaseRole.WORKER,
        on_job_changes=recorder.record,
    ) as opened:
        yield opened


@pytest.fixture
def breakable_valkey(tmp_path: Path) -> Generator[BreakableValkey]:
    """A Valkey to break."""
    server = BreakableValkey(tmp_path / "valkey")
    server.start()
    yield server
    server.stop()


async def count_listeners(redis: Redis) -> int:
    """Count who listens."""
    [(_, count)] = await redis.pubsub_numsub("holdfast:moves")
    return int(count)


@asynccontextmanager
async def subscribe_to_changes(url: str, recorder: ChangeRecorder) -> AsyncGenerator[Redis]:
    """Listen as the service does; yield a look at that Valkey, once it knows of it."""
    async with anyio.create_task_group() as listener:
        listener.start_soon(change_notifications.listen_for_changes, url, recorder.record)
        async with Redis.from_url(url) as redis:
            await eventually(lambda: count_listeners(redis), lambda count: count == 1)
            yield redis
        listener.cancel_scope.cancel()


async def wait_for_change(recorder: ChangeRecorder) -> None:
    """Wait until something was."""
    with anyio.fail_after(10):
        while not recorder.newest_versions:
            await anyio.lowlevel.checkpoint()


async def test_every_move_of_a_jobs_life_is_told(
    worker_database: Database,
    recorder: ChangeRecorder,
    make_job: JobFactory,
    claim_jobs: ClaimFactory,
    ada_id: str,
) -> None:
    """No move has to remember to say that it was made."""
    job = await make_job()
    [run] = await claim_jobs()

    async with worker_database.transaction() as tx:
        await run_launch.mark_unconfirmed(tx, run.run_id, cause="?", worker="w")
    async with worker_database.transaction() as tx:
        await run_launch.record_remote_id(
            tx, run.run_id, remote_id="r", stage=None, worker="w", poll_after=timedelta(0)
        )
        await run_end.record_stage(tx, run.run_id, stage="RUNNING", started_at=None, worker="w")
    async with worker_database.transaction() as tx:
        await lifecycle.cancel_job(tx, job.id, subject_id=ada_id)
    async with worker_database.transaction() as tx:
        await run_end.end_run(tx, run.run_id, RunResult(JobState.CANCELLED, "CANCELED"), worker="w")

    assert recorder.heard == [{job.id: version} for version in (3, 5, 6, 7)]


async def test_what_was_rolled_back_is_not_told(
    worker_database: Database, recorder: ChangeRecorder, make_job: JobFactory, ada_id: str
) -> None:
    """Whoever heard of it would find nothing."""
    job = await make_job()

    async def cancel_and_fail() -> None:
        async with worker_database.transaction() as tx:
            await lifecycle.cancel_job(tx, job.id, subject_id=ada_id)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await cancel_and_fail()

    assert recorder.heard == []


async def test_a_connection_tells_nobody_of_the_transaction_before(
    database_url: str, recorder: ChangeRecorder, make_job: JobFactory, ada_id: str
) -> None:
    """A pooled connection goes from one transaction to the next."""
    job = await make_job()
    async with Database(
        database_url, application_name="tests", on_job_changes=recorder.record, max_connections=1
    ) as database:
        async with database.transaction() as tx:
            await lifecycle.cancel_job(tx, job.id, subject_id=ada_id)
        async with database.transaction() as tx:
            await tx.fetchval("SELECT 1")

    assert recorder.heard == [{job.id: 2}]


async def test_moves_that_come_together_are_one_message(
    valkey_url: str, recorder: ChangeRecorder
) -> None:
    """A worker that claims a hundred jobs does not send a hundred messages."""
    jobs = [uuid4() for _ in range(100)]

    async def newest() -> dict[UUID, int]:
        return recorder.newest_versions

    async with (
        subscribe_to_changes(valkey_url, recorder),
        change_notifications.open_change_publisher(valkey_url) as sender,
    ):
        for version in (1, 3, 2):
            for job_id in jobs:
                sender.enqueue({job_id: version})
                await anyio.lowlevel.checkpoint()
        await eventually(newest, lambda moved: moved == dict.fromkeys(jobs, 3))

    assert len(recorder.heard) < 15, "three hundred moves"


async def test_what_is_told_last_is_sent_before_the_process_ends(
    valkey_url: str, recorder: ChangeRecorder
) -> None:
    """A worker that stops hands its work back, which are moves as well."""
    job_id = uuid4()

    async with subscribe_to_changes(valkey_url, recorder):
        async with change_notifications.open_change_publisher(valkey_url) as sender:
            sender.enqueue({job_id: 7})
        await wait_for_change(recorder)

    assert recorder.heard == [{job_id: 7}]


async def test_who_listens_hears_again_when_a_killed_valkey_is_back(
    breakable_valkey: BreakableValkey, recorder: ChangeRecorder
) -> None:
    """Or every wait would be a second late until the process ends."""
    url = breakable_valkey.start()
    async with anyio.create_task_group() as listener:
        listener.start_soon(change_notifications.listen_for_changes, url, recorder.record)
        async with change_notifications.open_change_publisher(url) as sender:

            async def tell_and_listen() -> int:
                sender.enqueue({uuid4(): 1})
                return len(recorder.heard)

            await eventually(tell_and_listen, bool)
            breakable_valkey.kill()
            sender.enqueue({uuid4(): 1})
            await sender.publish_pending()
            before = len(recorder.heard)
            breakable_valkey.start()
            await eventually(tell_and_listen, lambda heard: heard > before)
        listener.cancel_scope.cancel()


async def test_without_a_valkey_telling_costs_nothing_and_keeps_nothing() -> None:
    """The moves are made, and found by those who look."""
    async with change_notifications.open_change_publisher(
        f"redis://127.0.0.1:{find_free_port()}/0"
    ) as sender:
        for _ in range(3):
            sender.enqueue({uuid4(): 1})
            await sender.publish_pending()

        assert sender.pending_count == 0


async def test_a_sender_that_falls_behind_forgets(valkey_url: str) -> None:
    """A Valkey that hangs must not fill the memory of a worker."""
    async with Redis.from_url(valkey_url) as redis:
        sender = ChangePublisher(redis)
        for _ in range(30_000):
            sender.enqueue({uuid4(): 1})

    assert sender.pending_count <= 10_001


@pytest.mark.parametrize("garbage", [b"", b"no", b"[]", b"3", b'{"x": 1}', b'{"0": []}', b"\xff"])
async def test_garbage_is_passed_over(
    valkey_url: str, recorder: ChangeRecorder, garbage: bytes
) -> None:
    """Anybody who reaches Valkey can write there; what is heard after it is heard."""
    job_id = uuid4()

    async with subscribe_to_changes(valkey_url, recorder) as redis:
        await redis.publish("holdfast:moves", garbage)
        await redis.publish("holdfast:moves", change_notifications.encode_versions({job_id: 2}))
        await wait_for_change(recorder)

    assert recorder.newest_versions == {job_id: 2}
