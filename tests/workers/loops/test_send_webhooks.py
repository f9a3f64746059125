"""The end of each job reaches its receiver at least once, and holds nothing else up (I8)."""

from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final

import anyio
import pytest

from schema.accounts import restored_subjects
from schema.accounts.vault import Secret, Vault
from schema.billing.budgets import Rate
from schema.common import ids
from schema.db.database import Database
from schema.hub.url_fetcher import Fetcher
from schema.jobs import lifecycle
from schema.jobs.run_end import RunResult
from schema.jobs.tables import Job, JobState, Reason
from schema.settings import Settings
from schema.specs.inputs.webhook_url import WebhookUrl
from schema.workspaces import webhook_queue, webhooks
from schema.workspaces.webhooks import NewTarget
from tests.support.factories import JobFactory
from tests.support.jobs.handles import job_handle
from tests.support.jobs.job_states import RunDriver
from tests.support.subjects import ADA_ID, BOB_ID
from tests.support.webhook_receiver import WebhookReceiver, run_webhook_receiver
from workers.context import Worker
from workers.hub.client import open_hub_jobs_client
from workers.loops import engine
from workers.loops.send_webhooks import WebhookLoop

NOWHERE: Final = "http://127.0.0.1:1"

# What has passed is taken from each moment in the rows, as if the clock had moved.
_PASS_TIME: Final = (
    "UPDATE webhook_delivery SET due_at = due_at - $1::interval, ended_at = ended_at - $1",
    "UPDATE webhook_target SET due_at = due_at - $1::interval, leased_until = leased_until - $1",
)


@pytest.fixture
async def receiver() -> AsyncGenerator[WebhookReceiver]:
    async with run_webhook_receiver() as opened:
        yield opened


@pytest.fixture
async def other_receiver() -> AsyncGenerator[WebhookReceiver]:
    async with run_webhook_receiver() as opened:
        yield opened


@pytest.fixture
async def worker(
    database: Database,
    vault: Vault,
    make_settings: Callable[..., Settings],
    receiver: WebhookReceiver,
    other_receiver: WebhookReceiver,
) -> AsyncGenerator[Worker]:
    """A worker without loops, which may send to the two receivers."""
    async with open_hub_jobs_client(NOWHERE, NOWHERE) as hub:
        yield Worker(
            name="w1",
            settings=make_settings(
                webhook_origins=f"{receiver.origin} {other_receiver.origin} {NOWHERE}",
                webhook_timeout="2m",  # on a loaded machine
            ),
            database=database,
            vault=vault,
            hub=hub,
            executors={},
        )


async def send_due_webhooks(worker: Worker) -> None:
    """Send everything that is due, until each request has its answer."""
    async with anyio.create_task_group() as tasks:
        await WebhookLoop(worker, tasks, Fetcher()).send_due_webhooks()


async def name_webhook(worker: Worker, job: Job, url: str) -> Secret:
    """Announce the end of a job at a URL; return the secret, which counts if the URL is new."""
    new = NewTarget.create(WebhookUrl.parse(url, worker.settings.webhook_origins))
    async with worker.database.transaction() as tx:
        target_id = await webhooks.name_target(tx, worker.vault, job.subject_id, new)
        await webhooks.set_job_target(tx, job.id, job.subject_id, target_id)
    return new.secret


async def cancel(database: Database, job: Job) -> None:
    async with database.transaction() as tx:
        assert await lifecycle.cancel_job(tx, job.id, subject_id=job.subject_id)


async def pass_time(database: Database, duration: timedelta) -> None:
    async with database.transaction() as tx:
        for statement in _PASS_TIME:
            await tx.execute(statement, duration)


async def read_deliveries(database: Database) -> list[dict[str, Any]]:
    async with database.transaction() as tx:
        rows = await tx.fetch("SELECT * FROM webhook_delivery ORDER BY job_id")
        return [dict(row) for row in rows]


async def test_an_end_arrives_signed_with_what_its_receiver_needs(
    worker: Worker, database: Database, make_job: JobFactory, receiver: WebhookReceiver
) -> None:
    """A receiver that knows the secret believes it, and needs no call to decide what to do."""
    job = await make_job(rate=Rate(1, timedelta(minutes=1)))
    secret = await name_webhook(worker, job, receiver.url)
    run_driver = RunDriver(database)
    run_id = await run_driver.start_run()
    await send_due_webhooks(worker)
    assert not receiver.received
    await run_driver.end_run(
        run_id, RunResult(JobState.FAILED, "ERROR", Reason.EXIT_NONZERO, "boom", 3)
    )

    await send_due_webhooks(worker)

    [webhook] = receiver.received
    content = webhook.verify(secret.reveal())
    assert webhook.path == "/hook?key=open-sesame"
    assert content["type"] == "job.failed"
    data = content["data"]
    assert data["job_id"] == job_handle(job)
    assert (data["state"], data["reason"], data["exit_code"]) == ("failed", "exit_nonzero", 3)
    assert data["summary"] == "python:3.12: true: failed (exit_nonzero, exit code 3)."
    assert data["cost"]["final"]
    assert data["url"].endswith("/jobs/ada/6a31d7ef5ff0a6cf94f9f8b9")
    assert "boom" not in webhook.body.decode()
    [delivery] = await read_deliveries(database)
    assert [delivery[name] for name in ("state", "attempts", "last_status")] == [
        "delivered",
        1,
        204,
    ]


async def test_a_running_worker_sends_what_falls_due(
    worker: Worker, database: Database, make_job: JobFactory, receiver: WebhookReceiver
) -> None:
    """No wake-up says that a job has ended: the sweep finds it."""
    job = await make_job()
    await name_webhook(worker, job, receiver.url)
    stop = anyio.Event()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(engine.run_loops, worker, stop)
            await cancel(database, job)

            await receiver.has_received.wait()

            stop.set()
    assert receiver.received[0].content["data"]["job_id"] == job_handle(job)


async def test_each_end_arrives_though_the_receiver_was_down_for_an_hour(
    worker: Worker, database: Database, make_job: JobFactory, receiver: WebhookReceiver
) -> None:
    """A deployment of the receiver, or a network that is cut, loses nothing."""
    jobs = [await make_job() for _ in range(3)]
    [secret, *_] = [await name_webhook(worker, job, receiver.url) for job in jobs]
    receiver.status = "503 Service Unavailable"
    down_for = timedelta(0)
    for job in jobs:
        await cancel(database, job)
    while down_for < timedelta(hours=1):
        await send_due_webhooks(worker)
        await pass_time(database, timedelta(minutes=1))
        down_for += timedelta(minutes=1)
    tries_while_down = len(receiver.received)
    receiver.received.clear()
    receiver.status = "200 OK"

    await pass_time(database, timedelta(hours=1, minutes=30))
    await send_due_webhooks(worker)

    arrived = [webhook.verify(secret.reveal()) for webhook in receiver.received]
    assert {content["data"]["job_id"] for content in arrived} == {job_handle(job) for job in jobs}
    assert {each["state"] for each in await read_deliveries(database)} == {"delivered"}
    assert tries_while_down < 20, "a receiver that is down was called again and again"


async def test_what_is_sent_again_has_the_same_id(
    worker: Worker, database: Database, make_job: JobFactory, receiver: WebhookReceiver
) -> None:
    """So a receiver does nothing twice. A worker that dies has sent, and has not said so."""
    job = await make_job()
    await name_webhook(worker, job, receiver.url)
    await cancel(database, job)
    receiver.is_hanging = True
    with anyio.move_on_after(30):
        async with anyio.create_task_group() as tasks:
            await WebhookLoop(worker, tasks, Fetcher()).send_due_webhooks()
            await receiver.has_received.wait()
            tasks.cancel_scope.cancel()
    receiver.is_hanging = False
    await pass_time(database, timedelta(minutes=10))

    await send_due_webhooks(worker)

    first, again = receiver.received
    assert first.id == again.id
    assert first.body == again.body
    [delivery] = await read_deliveries(database)
    assert (delivery["state"], delivery["attempts"]) == ("delivered", 2)


async def test_a_receiver_that_never_answers_delays_nobody(
    worker: Worker,
    database: Database,
    make_job: JobFactory,
    receiver: WebhookReceiver,
    other_receiver: WebhookReceiver,
) -> None:
    """Its request is under way all the time in which the other one has its answer."""
    slow, quick = await make_job(), await make_job()
    await name_webhook(worker, slow, receiver.url)
    await name_webhook(worker, quick, other_receiver.url)
    receiver.is_hanging = True
    await cancel(database, slow)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            loop = WebhookLoop(worker, tasks, Fetcher())
            await loop.send_due_webhooks()
            await receiver.has_received.wait()
            await cancel(database, quick)

            await loop.send_due_webhooks()
            await other_receiver.has_received.wait()
            tasks.cancel_scope.cancel()
    [webhook] = other_receiver.received
    assert webhook.content["data"]["job_id"] == job_handle(quick)


async def test_one_delivery_that_is_refused_does_not_hold_up_the_next(
    worker: Worker, database: Database, make_job: JobFactory, receiver: WebhookReceiver
) -> None:
    """A bug of the receiver with one message is not an outage."""
    first, second = await make_job(), await make_job()
    await name_webhook(worker, first, receiver.url)
    await name_webhook(worker, second, receiver.url)
    await cancel(database, first)
    receiver.status = "500 Oops"
    await send_due_webhooks(worker)
    await send_due_webhooks(worker)
    assert len(receiver.received) == 1, "it rests"
    receiver.status = "200 OK"
    await cancel(database, second)
    async with database.transaction() as tx:
        await tx.execute("UPDATE webhook_target SET due_at = '-infinity'")

    await send_due_webhooks(worker)

    states = {each["job_id"]: each["state"] for each in await read_deliveries(database)}
    assert states == {first.id: "pending", second.id: "delivered"}


async def test_a_target_is_served_by_one_worker_at_a_time(
    worker: Worker, database: Database, make_job: JobFactory, receiver: WebhookReceiver
) -> None:
    """Two would send the same, and a slow receiver would get all of our requests at once."""
    jobs = [await make_job() for _ in range(2)]
    for job in jobs:
        await name_webhook(worker, job, receiver.url)
        await cancel(database, job)
    lease = timedelta(minutes=1)
    async with database.transaction() as tx:
        [first] = await webhook_queue.lease_targets(tx, limit=9, per_subject=4, lease=lease)
    async with database.transaction() as tx:
        assert not await webhook_queue.lease_targets(tx, limit=9, per_subject=4, lease=lease)
        await webhook_queue.release_target(tx, first)
    async with database.transaction() as tx:
        [again] = await webhook_queue.lease_targets(tx, limit=9, per_subject=4, lease=lease)

    assert again.target_id == first.target_id


async def test_one_subject_with_many_receivers_leaves_room_for_another(
    worker: Worker, database: Database, make_job: JobFactory
) -> None:
    """However many URLs somebody names, only a few of them take a slot at a time."""
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO subject (id, name) VALUES ($1, 'bob')", BOB_ID)
        await tx.execute(
            "INSERT INTO credential (subject_id, sealed, token_sha) VALUES ($1, 'x', 'x')", BOB_ID
        )
    for number in range(8):
        job = await make_job()
        await name_webhook(worker, job, f"{NOWHERE}/{number}")
        await cancel(database, job)
    bobs = await make_job(subject_id=BOB_ID, namespace="bob")
    await name_webhook(worker, bobs, f"{NOWHERE}/bob")
    await cancel(database, bobs)
    lease = timedelta(minutes=1)

    async with database.transaction() as tx:
        leases = await webhook_queue.lease_targets(tx, limit=9, per_subject=4, lease=lease)
    async with database.transaction() as tx:
        more = await webhook_queue.lease_targets(tx, limit=9, per_subject=4, lease=lease)

    assert sorted(each.subject_id for each in leases) == [*([ADA_ID] * 4), BOB_ID]
    assert not more


async def test_a_receiver_that_is_gone_gets_nothing_until_it_is_named_again(
    worker: Worker, database: Database, make_job: JobFactory, receiver: WebhookReceiver
) -> None:
    """410 means that nobody will ever take it."""
    jobs = [await make_job() for _ in range(3)]
    for job in jobs[:2]:
        await name_webhook(worker, job, receiver.url)
        await cancel(database, job)
    receiver.status = "410 Gone"
    await send_due_webhooks(worker)
    await pass_time(database, timedelta(hours=2))
    await send_due_webhooks(worker)
    assert len(receiver.received) == 1
    assert {each["state"] for each in await read_deliveries(database)} == {"disabled"}
    receiver.status = "200 OK"

    await name_webhook(worker, jobs[2], receiver.url)
    await cancel(database, jobs[2])
    await send_due_webhooks(worker)

    assert receiver.received[-1].content["data"]["job_id"] == job_handle(jobs[2])


@pytest.mark.parametrize("as_date", [False, True])
async def test_a_receiver_says_when_to_come_again(
    worker: Worker,
    database: Database,
    make_job: JobFactory,
    receiver: WebhookReceiver,
    *,
    as_date: bool,
) -> None:
    """In seconds, or as a date."""
    job = await make_job()
    await name_webhook(worker, job, receiver.url)
    await cancel(database, job)
    receiver.status = "429 Too Many Requests"
    moment = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)
    receiver.headers = {"retry-after": moment if as_date else "7200"}

    await send_due_webhooks(worker)
    await pass_time(database, timedelta(minutes=110))
    await send_due_webhooks(worker)

    assert len(receiver.received) == 1
    receiver.status = "200 OK"
    await pass_time(database, timedelta(minutes=15))
    await send_due_webhooks(worker)
    assert len(receiver.received) == 2


async def test_what_is_not_taken_in_time_is_given_up(
    worker: Worker, database: Database, make_job: JobFactory, receiver: WebhookReceiver
) -> None:
    """Nobody waits for ever, and the log of the job says so."""
    job = await make_job()
    await name_webhook(worker, job, receiver.url)
    await cancel(database, job)
    receiver.status = "500 Oops"
    await send_due_webhooks(worker)
    await pass_time(database, worker.settings.webhook_deadline)

    await send_due_webhooks(worker)

    [delivery] = await read_deliveries(database)
    assert (delivery["state"], delivery["last_error"]) == ("expired", "status")
    assert len(receiver.received) == 1


async def test_what_no_worker_has_tried_in_time_is_tried_once(
    worker: Worker, database: Database, make_job: JobFactory, receiver: WebhookReceiver
) -> None:
    """An outage of ours must not lose what its receiver would have taken."""
    job = await make_job()
    await name_webhook(worker, job, receiver.url)
    await cancel(database, job)
    await pass_time(database, worker.settings.webhook_deadline * 2)

    await send_due_webhooks(worker)

    assert len(receiver.received) == 1


async def test_a_redirect_is_not_followed(
    worker: Worker,
    database: Database,
    make_job: JobFactory,
    receiver: WebhookReceiver,
    other_receiver: WebhookReceiver,
) -> None:
    """What was checked is the URL, and no other place that it leads to."""
    job = await make_job()
    await name_webhook(worker, job, receiver.url)
    await cancel(database, job)
    receiver.status = "307 Temporary Redirect"
    receiver.headers = {"location": other_receiver.url}
    await send_due_webhooks(worker)

    assert not other_receiver.received
    [delivery] = await read_deliveries(database)
    assert (delivery["state"], delivery["last_status"]) == ("pending", 307)


async def test_an_origin_that_the_operator_has_withdrawn_gets_nothing(
    worker: Worker,
    database: Database,
    vault: Vault,
    make_job: JobFactory,
    receiver: WebhookReceiver,
    make_settings: Callable[..., Settings],
) -> None:
    """The rule that counts is the one of the moment in which it is sent."""
    job = await make_job()
    await name_webhook(worker, job, receiver.url)
    await cancel(database, job)

    await send_due_webhooks(
        Worker("w2", make_settings(), database, vault, worker.hub, executors={})
    )

    assert not receiver.received
    [delivery] = await read_deliveries(database)
    assert delivery["last_error"] == "refused"


async def test_both_secrets_sign_after_a_rotation_and_no_third(
    worker: Worker, database: Database, make_job: JobFactory, receiver: WebhookReceiver
) -> None:
    """A receiver changes over when it likes; a secret that leaked is out after two rotations."""
    job = await make_job()
    leaked = await name_webhook(worker, job, receiver.url)
    url = WebhookUrl.parse(receiver.url, worker.settings.webhook_origins)
    second, third = webhooks.make_secret(), webhooks.make_secret()
    for secret in (second, third):
        async with database.transaction() as tx:
            assert await webhooks.rotate_secret(tx, worker.vault, ADA_ID, url, secret)
            assert not await webhooks.rotate_secret(tx, worker.vault, BOB_ID, url, leaked)
    await cancel(database, job)

    await send_due_webhooks(worker)

    [webhook] = receiver.received
    for secret in (second, third):
        webhook.verify(secret.reveal())
    with pytest.raises(Exception, match="No matching signature"):
        webhook.verify(leaked.reveal())


async def test_an_end_that_a_backup_may_have_brought_back_says_so(
    worker: Worker, database: Database, make_job: JobFactory, receiver: WebhookReceiver
) -> None:
    """It may have been sent before the backup was restored, with the same id."""
    old = await make_job()
    async with database.transaction() as tx:
        now = await tx.fetchval("SELECT clock_timestamp()")
        await restored_subjects.mark_restored(tx, backup_at=now)
    new = await make_job()
    for job in (old, new):
        await name_webhook(worker, job, receiver.url)
        await cancel(database, job)

    await send_due_webhooks(worker)

    sent = [webhook.content["data"] for webhook in receiver.received]
    marks = {data["job_id"]: data.get("restored") for data in sent}
    assert marks == {job_handle(old): True, job_handle(new): None}


async def test_a_retry_and_a_workspace_pass_their_webhook_on(
    worker: Worker, database: Database, make_job: JobFactory, receiver: WebhookReceiver
) -> None:
    """Also a job that a schedule makes, which no call launches."""
    first = await make_job()
    await name_webhook(worker, first, receiver.url)
    workspace_id = ids.new_id()
    async with database.transaction() as tx:
        await tx.execute(
            "INSERT INTO workspace (id, subject_id, name, webhook_target_id)"
            " SELECT $1, subject_id, 'w', id FROM webhook_target",
            workspace_id,
        )
    again = await make_job(rerun_of=first.id)
    grouped = await make_job(workspace_id=workspace_id)
    for job in (again, grouped):
        await cancel(database, job)
    await send_due_webhooks(worker)

    sent = {webhook.content["data"]["job_id"] for webhook in receiver.received}
    assert sent == {job_handle(again), job_handle(grouped)}
