"""The promises about logs: every line once, in order, to their owner alone."""

from datetime import timedelta

from schema.artifacts import log_store
from schema.artifacts.log_store import Extent
from schema.db.database import Database
from schema.jobs import run_launch
from schema.jobs.run_launch import Claim
from schema.settings import ROOM
from tests.conftest import ADA, JobFactory
from tests.schema.conftest import ClaimFactory


async def bound(database: Database, claim: ClaimFactory, remote_id: str) -> Claim:
    (one,) = await claim()
    async with database.transaction() as tx:
        await run_launch.bind(
            tx, one.run_id, remote_id=remote_id, stage=None, worker="w", look_again=timedelta(0)
        )
    return one


async def append(database: Database, run: Claim, lines: list[str], *, already: int) -> None:
    async with database.transaction() as tx:
        await log_store.append(tx, run.run_id, lines, already=already, room=ROOM)


async def texts(database: Database, run: Claim, start: int = 0, limit: int = 100) -> list[str]:
    async with database.transaction() as tx:
        lines = await log_store.read(tx, ADA, run.job_id, start=start, limit=limit)
    assert [line.number for line in lines] == list(range(start, start + len(lines)))
    return [line.text for line in lines]


async def test_what_two_workers_captured_is_kept_once(
    database: Database, make_job: JobFactory, claim: ClaimFactory
) -> None:
    """The Hub replays a log from its start; only what follows the last capture is new."""
    await make_job()
    run = await bound(database, claim, "r1")

    await append(database, run, ["a", "b"], already=0)
    await append(database, run, ["a", "b"], already=0)
    await append(database, run, ["c"], already=2)

    assert await texts(database, run) == ["a", "b", "c"]


async def test_a_log_is_read_from_any_line_across_captures(
    database: Database, make_job: JobFactory, claim: ClaimFactory
) -> None:
    """A cursor is a line number: what was read before is not read again."""
    await make_job()
    run = await bound(database, claim, "r1")
    for first in range(0, 9, 3):
        await append(database, run, [str(first + n) for n in range(3)], already=first)

    assert await texts(database, run, start=4, limit=3) == ["4", "5", "6"]
    assert await texts(database, run, start=9) == []


async def test_a_stranger_reads_nothing(
    database: Database, make_job: JobFactory, claim: ClaimFactory
) -> None:
    """Logs often hold what should not have been printed."""
    await make_job()
    run = await bound(database, claim, "r1")
    await append(database, run, ["private"], already=0)

    async with database.transaction() as tx:
        assert await log_store.read(tx, "f" * 24, run.job_id, start=0, limit=9) == []
        assert await log_store.extent(tx, "f" * 24, run.job_id) == Extent()
