"""Every item of a batch comes to one outcome, and none that is done is ever sent again."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from asyncpg.exceptions import ForeignKeyViolationError

from schema.batches import queries as batch_queries
from schema.batches import store as batch_store
from schema.batches.store import BatchStep, ItemOutcome
from schema.batches.tables import ItemState
from schema.common import ids
from schema.db.database import Database
from schema.jobs import lifecycle, run_end, run_launch
from schema.jobs.run_end import RunResult
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.tables import Job, JobKind, JobState, Reason
from schema.specs.batch import ItemRequest
from tests.support.database.row_security import tenant_transaction
from tests.support.factories import ClaimFactory, JobFactory
from tests.support.jobs.retention import prune_older_than
from tests.support.subjects import ADA_ID, EVE_ID

ALL_STATES = list(ItemState)
LEASE = timedelta(minutes=1)


def make_items(count: int) -> list[ItemRequest]:
    return [ItemRequest(f"item-{number}", {"inputs": f"say {number}"}) for number in range(count)]


def make_done_item(position: int, **overrides: Any) -> ItemOutcome:
    fields: dict[str, Any] = {"result": {"text": "yes"}, "prompt_tokens": 3}
    return ItemOutcome(position, ItemState.DONE, 1, **fields | overrides)


@pytest.fixture
async def batch_job(database: Database, make_job: JobFactory) -> Job:
    """A batch of five, in the queue."""
    made = await make_job(kind=JobKind.BATCH, spec={"model": "m"})
    async with database.transaction() as tx:
        await batch_store.add_items(tx, made.id, ADA_ID, make_items(5))
    return made


@pytest.fixture
async def batch_run(database: Database, batch_job: Job, claim_jobs: ClaimFactory) -> UUID:
    """The run of a worker that has begun it."""
    return await begin_run(database, claim_jobs)


async def begin_run(database: Database, claim: ClaimFactory) -> UUID:
    (claimed,) = await claim(JobKind.BATCH, lease=LEASE)
    assert isinstance(claimed, ClaimedJob)
    async with database.transaction() as tx:
        assert await run_launch.begin_calls(tx, [claimed.run_id], worker="w1")
    return claimed.run_id


async def advance(
    database: Database, run_id: UUID, results: list[ItemOutcome], **options: Any
) -> BatchStep:
    async with database.transaction() as tx:
        return await batch_store.advance_items(tx, run_id, results, **options)


async def read_states(database: Database, job: Job) -> list[str]:
    async with database.transaction() as tx:
        shown = await batch_queries.list_items(
            tx, ADA_ID, job.id, states=ALL_STATES, start=0, limit=100, max_result_chars=1000
        )
    return [f"{item.state}" for item in shown]


async def let_lease_lapse(database: Database, run_id: UUID) -> None:
    """Let the worker fall silent, and somebody notice."""
    async with database.transaction() as tx:
        await tx.execute("UPDATE remote_run SET due_at = now() WHERE id = $1", run_id)
    async with database.transaction() as tx:
        await run_launch.mark_not_created(
            tx, run_id, reason=None, message="silent", worker="w2", only_if_lapsed=True
        )


async def test_items_are_marked_in_order_and_no_more_than_there_is_room_for(
    database: Database, batch_job: Job, batch_run: UUID
) -> None:
    """What is marked may be in doubt after a crash, so it is never more than is under way."""
    first = await advance(database, batch_run, [], max_new_items=2)
    assert [item.custom_id for item in first.items] == ["item-0", "item-1"]

    second = await advance(
        database, batch_run, [make_done_item(1)], after_position=1, max_new_items=1
    )

    assert [item.request for item in second.items] == [{"inputs": "say 2"}]
    assert await read_states(database, batch_job) == ["sent", "done", "sent", "pending", "pending"]


async def test_a_worker_that_lost_its_lease_writes_nothing(
    database: Database, batch_job: Job, batch_run: UUID
) -> None:
    """Another may have sent the same items by then, and would find them answered by nobody."""
    await advance(database, batch_run, [], max_new_items=2)
    await let_lease_lapse(database, batch_run)

    step = await advance(
        database, batch_run, [make_done_item(0)], after_position=1, max_new_items=2
    )

    assert (step.holds_lease, step.items) == (False, [])
    assert await read_states(database, batch_job) == [
        "sent",
        "sent",
        "pending",
        "pending",
        "pending",
    ]


@pytest.mark.parametrize(
    ("repeat", "left"), [(False, "unknown"), (True, "pending")], ids=["report", "repeat"]
)
async def test_what_a_lost_worker_had_sent_goes_by_the_callers_policy(
    database: Database,
    batch_job: Job,
    batch_run: UUID,
    claim_jobs: ClaimFactory,
    *,
    repeat: bool,
    left: str,
) -> None:
    """Nobody knows whether it was carried out; what was answered stays as it is either way."""
    await advance(database, batch_run, [], max_new_items=3)
    await advance(database, batch_run, [make_done_item(1)], after_position=2)
    await let_lease_lapse(database, batch_run)
    second = await begin_run(database, claim_jobs)

    async with database.transaction() as tx:
        await batch_store.recover_sent_items(tx, second, resend=repeat, max_tries=4)

    assert await read_states(database, batch_job) == [left, "done", left, "pending", "pending"]
    marked = await advance(database, second, [], max_new_items=5)
    again = [0, 2] if repeat else []
    assert [item.position for item in marked.items] == [*again, 3, 4] if again else [3, 4]


async def test_an_item_that_takes_every_worker_down_is_not_sent_for_ever(
    database: Database, batch_job: Job, batch_run: UUID, claim_jobs: ClaimFactory
) -> None:
    """Each run that was lost with it counts as a try."""
    for _ in range(2):
        await advance(database, batch_run, [], max_new_items=1)
        await let_lease_lapse(database, batch_run)
        batch_run = await begin_run(database, claim_jobs)
        async with database.transaction() as tx:
            await batch_store.recover_sent_items(tx, batch_run, resend=True, max_tries=2)

    assert (await read_states(database, batch_job))[0] == "unknown"


async def test_a_mark_whose_commit_was_never_confirmed_is_found_again(
    database: Database, batch_job: Job, batch_run: UUID
) -> None:
    """The item was not sent; as marked and forgotten it would never be."""
    lost = await advance(database, batch_run, [], max_new_items=2)

    again = await advance(database, batch_run, [], max_new_items=2)

    assert again == lost


async def test_an_item_to_be_tried_again_is_marked_again(
    database: Database, batch_job: Job, batch_run: UUID
) -> None:
    """It lies behind the others, so it is asked for by its position."""
    await advance(database, batch_run, [], max_new_items=2)
    await advance(
        database, batch_run, [ItemOutcome(0, ItemState.PENDING, 1, message="429")], after_position=1
    )

    step = await advance(
        database, batch_run, [], resend_positions=[0], after_position=1, max_new_items=1
    )

    assert [(item.position, item.tries) for item in step.items] == [(0, 1), (2, 0)]


async def test_what_was_answered_before_a_cancel_is_kept_and_nothing_more_is_sent(
    database: Database, batch_job: Job, batch_run: UUID
) -> None:
    """It was paid for; what was under way is unknown, for nobody awaits it."""
    await advance(database, batch_run, [], max_new_items=2)
    async with database.transaction() as tx:
        assert await lifecycle.cancel_job(tx, batch_job.id, subject_id=ADA_ID)

    step = await advance(
        database, batch_run, [make_done_item(0)], after_position=1, max_new_items=2
    )

    assert (step.holds_lease, step.should_continue, step.items) == (True, False, [])
    assert await read_states(database, batch_job) == [
        "done",
        "unknown",
        "pending",
        "pending",
        "pending",
    ]
    async with database.transaction() as tx:
        tally = await batch_queries.count_subject_items(tx, ADA_ID, batch_job.id)
        lost = RunResult(JobState.FAILED, "ABORTED", Reason.OUTCOME_UNKNOWN, "Called off.")
        await run_end.end_call(tx, batch_run, lost, worker="w1")
    assert tally == batch_store.BatchCounts(5, 1, 0, 1, 3, 0)


async def test_an_answer_is_settled_once(
    database: Database, batch_job: Job, batch_run: UUID
) -> None:
    """The same write again, its commit unconfirmed, changes nothing; nor does another answer."""
    await advance(database, batch_run, [], max_new_items=1)
    await advance(database, batch_run, [make_done_item(0)])

    await advance(database, batch_run, [make_done_item(0, result={"text": "another"})])

    async with database.transaction() as tx:
        (item,) = await batch_queries.list_items(
            tx, ADA_ID, batch_job.id, states=[ItemState.DONE], start=0, limit=9, max_result_chars=99
        )
    assert item.result == {"text": "yes"}


async def test_items_that_were_read_are_kept_once_and_only_under_the_lease(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Read twice, a file that has changed in between could give one item twice."""
    job = await make_job(kind=JobKind.BATCH, spec={"model": "m"})
    run = await begin_run(database, claim_jobs)
    async with database.transaction() as tx:
        await batch_store.add_items_from_source(tx, run, make_items(2), source={"revision": "abc"})
    async with database.transaction() as tx:
        await batch_store.add_items_from_source(tx, run, make_items(2), source={"revision": "abc"})
    assert await read_states(database, job) == ["pending", "pending"]
    async with database.transaction() as tx:
        assert await batch_store.get_items_source(tx, job.id) == {"revision": "abc"}

    other = await make_job(kind=JobKind.BATCH, spec={"model": "m"})
    late = await begin_run(database, claim_jobs)
    await let_lease_lapse(database, late)
    async with database.transaction() as tx:
        await batch_store.add_items_from_source(tx, late, make_items(2), source={"revision": "abc"})
    assert await read_states(database, other) == []


async def test_ten_thousand_items_are_one_statement(database: Database, batch_job: Job) -> None:
    """A launch keeps them within the call; row by row it would take seconds."""
    async with database.transaction() as tx:
        await tx.execute("DELETE FROM batch_item")
        await tx.execute("SET LOCAL statement_timeout = '5s'")
        await batch_store.add_items(tx, batch_job.id, ADA_ID, make_items(10_000))
        assert (await batch_store.count_items(tx, batch_job.id)).total == 10_000


@pytest.mark.parametrize(
    ("every", "expected"), [(False, ["item-0", "item-2"]), (True, make_items(3))]
)
async def test_a_retry_takes_over_what_has_no_result_or_everything(
    database: Database,
    batch_job: Job,
    batch_run: UUID,
    make_job: JobFactory,
    *,
    every: bool,
    expected: Any,
) -> None:
    """In its own order, and as it was asked for."""
    async with database.transaction() as tx:
        await tx.execute("DELETE FROM batch_item WHERE position > 2")
    await advance(database, batch_run, [], max_new_items=2)
    await advance(database, batch_run, [make_done_item(1)], after_position=1)
    later = await make_job(kind=JobKind.BATCH, spec={"model": "m"})
    for _ in range(2):  # the same submission again takes nothing over
        async with database.transaction() as tx:
            await batch_queries.copy_items(
                tx, ADA_ID, later.id, source_job_id=batch_job.id, include_done=every
            )

    async with database.transaction() as tx:
        items = await batch_queries.list_items(
            tx, ADA_ID, later.id, states=ALL_STATES, start=0, limit=9, max_result_chars=9
        )
    names = [each.custom_id if isinstance(each, ItemRequest) else each for each in expected]
    assert [(item.position, item.custom_id) for item in items] == list(enumerate(names))
    assert {item.state for item in items} == {ItemState.PENDING}


async def test_nobody_takes_over_the_items_of_anybody_else(
    database: Database, database_url: str, batch_job: Job
) -> None:
    """Not with a statement that forgets whose, either: Postgres shows them to nobody else."""
    careless = batch_queries._COPY_ITEMS.replace("job.subject_id = $1", "$1::text IS NOT NULL")  # pyright: ignore[reportPrivateUsage]  # tried without its comparison
    new, every = ids.new_id(), True
    taking = (careless, EVE_ID, new, batch_job.id, every)
    async with tenant_transaction(database_url, EVE_ID) as tx:
        assert await tx.execute(*taking) == "INSERT 0 0"
        await batch_queries.copy_items(
            tx, EVE_ID, new, source_job_id=batch_job.id, include_done=True
        )
    with pytest.raises(
        ForeignKeyViolationError
    ):  # without row-level security there is something to take
        async with database.transaction() as tx:
            await tx.execute(*taking)


async def test_a_batch_is_pruned_in_chunks_before_its_job_is(
    database: Database, batch_job: Job
) -> None:
    """Thousands of rows in one statement would hold others up, or never end."""
    left: list[tuple[int, int]] = []
    async with database.transaction() as tx:
        await tx.execute("DELETE FROM batch_item")
        await batch_store.add_items(tx, batch_job.id, ADA_ID, make_items(6000))
        await lifecycle.cancel_job(tx, batch_job.id, subject_id=ADA_ID)
    more = True
    while more:
        async with database.transaction() as tx:
            more = await prune_older_than(tx, timedelta(0))
            item_count: int = await tx.fetchval("SELECT count(*) FROM batch_item")
            left.append((item_count, await tx.fetchval("SELECT count(*) FROM job")))

    assert left == [(1000, 1), (0, 0), (0, 0)]
