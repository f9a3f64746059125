"""What becomes of the outputs of a job, whatever the Hub and its buckets do meanwhile."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import pytest

from schema.accounts import credentials
from schema.accounts.tables import Hold
from schema.accounts.vault import Secret, Vault
from schema.db.database import Database
from schema.jobs import lifecycle, run_launch
from schema.jobs.queries import UpstreamState
from schema.jobs.tables import JobKind, JobState, Reason
from schema.settings import Settings
from service.local.hub_emulator.app import create_hub_emulator
from service.local.hub_emulator.users import Permission, find_user, load_users
from tests.support.factories import JobFactory
from tests.support.http_server import serve_app
from tests.support.jobs.output_runs import FailingHub, OutputRun, OutputsHub, list_job_ids
from tests.support.polling import wait_until
from tests.support.subjects import ADA_ID
from workers.context import Worker
from workers.executor import ExecutorDeps
from workers.executors.hub_job import create_executor
from workers.hub.client import open_hub_jobs_client
from workers.loops.reconcile_runs import reconcile_runs


@pytest.fixture(scope="module")
def outputs_hub(tmp_path_factory: pytest.TempPathFactory) -> Generator[OutputsHub]:
    folder = tmp_path_factory.mktemp("hub")
    users = load_users(folder)
    struck = FailingHub(
        create_hub_emulator(folder, scheduling_delay=timedelta(0), flush_delay=timedelta(0)),
    )
    with serve_app(struck) as url:
        yield OutputsHub(url, users, struck)


@pytest.fixture(autouse=True)
def no_refusals(outputs_hub: OutputsHub) -> Generator[None]:
    yield
    outputs_hub.failing_hub.refusals.clear()


@pytest.fixture
async def worker(
    outputs_hub: OutputsHub,
    database: Database,
    vault: Vault,
    make_settings: Callable[..., Settings],
) -> AsyncGenerator[Worker]:
    """A worker without loops: each test takes its steps itself."""
    worker_settings = make_settings(
        observe_min="1ms", scheduling_deadline="1h", outputs_patience="1m"
    )
    async with open_hub_jobs_client(outputs_hub.url, outputs_hub.url) as hub:
        executor = create_executor(ExecutorDeps(hub, database, worker_settings, vault))
        yield Worker("w1", worker_settings, database, vault, hub, {JobKind.HUB_JOB: executor})


@pytest.fixture
async def lend_hub_token(
    worker: Worker, ada_id: str, vault: Vault
) -> Callable[[str], Awaitable[None]]:
    async def lend(token: str) -> None:
        async with worker.database.transaction() as tx:
            await credentials.save_credential(
                tx, vault, subject_id=ada_id, name="ada", token=Secret(token), expires_at=None
            )

    return lend


OutputRunFactory = Callable[..., Awaitable[OutputRun]]


@pytest.fixture
async def make_run(
    worker: Worker,
    outputs_hub: OutputsHub,
    make_job: JobFactory,
    lend_hub_token: Callable[[str], Awaitable[None]],
) -> OutputRunFactory:
    """Claim a job of Alice's that declares two outputs; keyword arguments override its request."""
    await lend_hub_token(find_user(outputs_hub.users, "alice").token)

    async def make(**overrides: Any) -> OutputRun:
        bucket = overrides.setdefault("outputs_in", f"alice/b-{uuid4().hex[:8]}/ws_1")
        spec = {
            "image": "x",
            "command": ["true"],
            "outputs": ["model.bin", "plots/"],
            "timeout": 60,
        }
        await make_job(namespace="alice", spec=spec | overrides)
        async with worker.database.transaction() as tx:
            (claim,) = await run_launch.claim(
                tx,
                JobKind.HUB_JOB,
                limit=1,
                worker="w1",
                lease=timedelta(minutes=1),
                settle_window=worker.settings.settle,
            )
        return OutputRun(worker, outputs_hub, claim, bucket)

    return make


async def test_what_a_job_was_to_leave_is_kept_with_its_size_and_revision(
    make_run: OutputRunFactory,
) -> None:
    """The bucket is private and made when it is needed; the job is told where it is mounted."""
    script = "cd $HOLDFAST_OUTPUTS && mkdir plots && printf 123 > model.bin && echo x > plots/a.png"
    run = await make_run(command=["sh", "-c", script])

    await run.complete()
    wait_until(lambda: run.find_in_bucket("model.bin") is not None)
    status = await run.poll()

    job_files, bucket_file = await run.read_files(), run.find_in_bucket("model.bin")
    assert bucket_file is not None
    assert status.state is JobState.SUCCEEDED
    assert run.hub.api().bucket_info(run.folder.bucket).private
    assert job_files.keys() == {"model.bin", "plots/a.png"}
    model = job_files["model.bin"]
    assert (model.size_bytes, model.revision) == (3, bucket_file.xet_hash)
    assert model.uri == f"hf://buckets/{run.folder.bucket}/{bucket_file.path}"
    assert job_files["plots/a.png"].media_type == "image/png"


async def test_outputs_that_arrive_late_are_waited_for(make_run: OutputRunFactory) -> None:
    """Uploads go on after the end: too early a look would call a good job a failed one."""
    run = await make_run()
    await run.complete()

    first = await run.poll()
    second = await run.poll(after="30s")
    run.write_to_bucket("model.bin", "plots/a.png")
    last = await run.poll(after="25s")

    assert [status.state for status in (first, second)] == [JobState.RUNNING] * 2
    assert first.stage == "COMPLETED"
    assert (last.state, last.reason) == (JobState.SUCCEEDED, None)
    assert (await run.read_files()).keys() == {"model.bin", "plots/a.png"}


async def test_a_job_that_completes_without_its_outputs_has_failed(
    make_run: OutputRunFactory,
) -> None:
    """The command said 0; what it was run for is not there. What is there, is kept."""
    run = await make_run(outputs=["model.bin", "log.txt", "plots/"])
    await run.complete()
    run.write_to_bucket("log.txt", "undeclared")

    waiting = await run.poll()
    status = await run.poll(after="61s")

    assert waiting.state is JobState.RUNNING
    assert (status.state, status.reason) == (JobState.FAILED, Reason.OUTPUTS_MISSING)
    assert status.exit_code == 0
    where = run.folder.uri()
    assert status.message == f"Not in {where} 1m after it had completed: model.bin, plots/."
    assert (await run.read_files()).keys() == {"log.txt"}


@pytest.mark.parametrize("later", ["1s", "59s"])
async def test_the_time_for_outputs_begins_when_the_job_is_seen_to_be_over(
    make_run: OutputRunFactory, later: str
) -> None:
    """A job that ran for days, past its own deadline even, gets all of it."""
    run = await make_run()
    await run.complete()
    status = await run.poll(after="30d")
    assert status.state is JobState.RUNNING

    assert (await run.poll(after=later)).state is JobState.RUNNING


async def test_what_a_failed_job_left_is_kept_without_waiting(make_run: OutputRunFactory) -> None:
    """Its end is what it is; a checkpoint may still be worth something."""
    run = await make_run(command=["false"])
    await run.complete()
    run.write_to_bucket("plots/half.png")

    status = await run.poll()

    assert (status.state, status.reason) == (JobState.FAILED, Reason.EXIT_NONZERO)
    assert (await run.read_files()).keys() == {"plots/half.png"}


async def test_what_a_cancelled_job_left_is_kept_once_it_is_stopped(
    make_run: OutputRunFactory,
) -> None:
    run = await make_run(command=["sleep", "60"])
    await run.launch()
    run.write_to_bucket("plots/half.png")
    async with run.worker.database.transaction() as tx:
        await lifecycle.cancel_job(tx, run.claim.job_id, subject_id=ADA_ID)

    await reconcile_runs(run.worker)

    status = await run.read_status()
    assert (status.state, status.upstream) == (JobState.CANCELLED, UpstreamState.STOPPED)
    assert (await run.read_files()).keys() == {"plots/half.png"}


@pytest.mark.parametrize("struck", ["/paths-info", "/tree/"])
async def test_a_hub_that_does_not_answer_is_asked_again(
    make_run: OutputRunFactory, struck: str
) -> None:
    """Neither a success that nobody saw, nor a failure for want of an answer."""
    run = await make_run()
    await run.complete()
    run.write_to_bucket("model.bin", "plots/a.png")
    run.hub.failing_hub.refusals[struck] = (HTTPStatus.BAD_GATEWAY, "bad gateway")

    first = await run.poll()
    second = await run.poll(after="5m")
    run.hub.failing_hub.refusals.clear()
    last = await run.poll()

    assert (first.state, second.state) == (JobState.RUNNING, JobState.RUNNING)
    assert last.state is JobState.SUCCEEDED


@pytest.mark.parametrize(
    ("status", "patience", "explanation"),
    [
        (HTTPStatus.INTERNAL_SERVER_ERROR, "10m", "10m: 500: broken"),
        (HTTPStatus.FORBIDDEN, "1m", "1m: 403: broken"),
        (HTTPStatus.UNAUTHORIZED, "1m", "1m: 403: broken"),
    ],
)
async def test_outputs_that_nobody_can_see_are_no_success(
    make_run: OutputRunFactory, status: HTTPStatus, patience: str, explanation: str
) -> None:
    """The handle comes to its end, and says why. A 401 here need not be about the token."""
    run = await make_run()
    await run.complete()
    run.write_to_bucket("model.bin", "plots/a.png")
    run.hub.failing_hub.refusals["/paths-info"] = (status, "broken")

    waiting = await run.poll()
    ended = await run.poll(after=patience)

    assert waiting.state is JobState.RUNNING
    assert (ended.state, ended.reason) == (JobState.FAILED, Reason.OUTPUTS_MISSING)
    where = run.folder.uri()
    assert (
        ended.message
        == f"Whether its outputs are in {where} could not be checked for {explanation}"
    )
    assert ended.hold is None


async def test_a_bucket_that_was_deleted_has_no_outputs(make_run: OutputRunFactory) -> None:
    run = await make_run()
    await run.complete()
    run.hub.api().delete_bucket(run.folder.bucket)

    await run.poll()
    status = await run.poll(after="61s")

    assert (status.state, status.reason) == (JobState.FAILED, Reason.OUTPUTS_MISSING)


async def test_outputs_are_looked_for_with_the_next_token_when_the_first_is_dead(
    make_run: OutputRunFactory, lend_hub_token: Callable[[str], Awaitable[None]]
) -> None:
    """Nobody is told of a success, or of a failure, that nobody could see."""
    run = await make_run()
    await run.complete()
    run.write_to_bucket("model.bin", "plots/a.png")
    dead = (HTTPStatus.UNAUTHORIZED, "Invalid credentials in Authorization header")
    run.hub.failing_hub.refusals |= {"/paths-info": dead, "/auth-check/": dead}

    blind = await run.poll()
    run.hub.failing_hub.refusals.clear()
    still_blind = await run.poll(after="1h")
    await lend_hub_token(find_user(run.hub.users, "alice").token)
    ended = await run.poll()

    assert (blind.state, blind.hold) == (JobState.RUNNING, Hold.CREDENTIALS)
    assert still_blind.state is JobState.RUNNING
    assert (ended.state, ended.hold) == (JobState.SUCCEEDED, None)


async def test_a_second_run_of_the_same_job_says_nothing_about_its_outputs(
    make_run: OutputRunFactory,
) -> None:
    """It is there to be killed: what the job left is what the first one left."""
    run = await make_run(command=["sleep", "60"])
    await run.launch()
    run.write_to_bucket("model.bin", "plots/a.png")
    async with run.worker.database.transaction() as tx:
        await lifecycle.cancel_job(tx, run.claim.job_id, subject_id=ADA_ID)
        await tx.execute("UPDATE remote_run SET origin = 'surplus'")
        await tx.execute("UPDATE subject SET active = 0")

    await reconcile_runs(run.worker)

    assert await run.read_files() == {}


async def test_nothing_private_is_written_to_a_bucket_that_others_can_read(
    make_run: OutputRunFactory, outputs_hub: OutputsHub
) -> None:
    outputs_hub.api().create_bucket("alice/open", exist_ok=True)
    run = await make_run(outputs_in="alice/open")
    before = list_job_ids(outputs_hub)

    await run.launch()

    status = await run.read_status()
    assert (status.state, status.reason) == (JobState.FAILED, Reason.INVALID_REQUEST)
    assert status.message == "The bucket alice/open is public, so outputs are not written to it."
    assert list_job_ids(outputs_hub) == before


async def test_a_token_that_may_not_make_the_bucket_launches_nothing(
    make_run: OutputRunFactory,
    outputs_hub: OutputsHub,
    lend_hub_token: Callable[[str], Awaitable[None]],
) -> None:
    """It says what is missing, before a job has run whose results would be lost."""
    only_jobs = [Permission.WRITE_JOBS]
    await lend_hub_token(
        next(user.token for user in outputs_hub.users if user.permissions == only_jobs)
    )
    run = await make_run()
    before = list_job_ids(outputs_hub)

    await run.launch()

    status = await run.read_status()
    assert (status.state, status.reason) == (JobState.FAILED, Reason.MISSING_PERMISSION)
    assert "missing permissions: repo.write" in (status.message or "")
    assert list_job_ids(outputs_hub) == before


@pytest.mark.parametrize(
    ("refused", "hold"),
    [
        ({"/api/buckets/": (500, "broken")}, None),
        ({"/api/buckets/": (429, "slow down")}, None),
        ({"/api/buckets/": (401, "Invalid"), "/auth-check/": (401, "Invalid")}, Hold.CREDENTIALS),
    ],
)
async def test_a_bucket_that_cannot_be_had_just_now_leaves_the_job_in_the_queue(
    make_run: OutputRunFactory,
    outputs_hub: OutputsHub,
    refused: dict[str, tuple[int, str]],
    hold: Hold | None,
) -> None:
    """Provably nothing was launched, so it may be tried again."""
    run = await make_run()
    before = list_job_ids(outputs_hub)
    outputs_hub.failing_hub.refusals |= refused

    await run.launch()

    status = await run.read_status()
    assert (status.state, status.hold) == (JobState.QUEUED, hold)
    assert list_job_ids(outputs_hub) == before
