"""What is said of a job before it has finished: why it waits, and what may still go wrong."""

from datetime import timedelta
from typing import Any

import pytest

from schema.accounts import operator_actions
from schema.db.database import Database
from schema.jobs import run_launch
from schema.jobs.queries import JobStatus
from schema.jobs.tables import JobKind, JobState
from service.views import job_summary, job_warnings
from service.views.jobs import JobView
from tests.support.factories import JobFactory
from tests.support.jobs.handles import job_handle
from tests.support.jobs.job_states import RunDriver
from tests.support.jobs.job_statuses import HUB_URL, NOW, make_status
from tests.support.mcp.client import call_for_result
from tests.support.subjects import ADA_ID

MINUTE = timedelta(minutes=1)
GPU = {"flavor": "a10g-large", "timeout": 1800.0}


def make_running_job(elapsed: timedelta, **overrides: Any) -> JobStatus:
    """A job that has been running for a while."""
    fields: dict[str, Any] = {
        "state": JobState.RUNNING,
        "stage": "RUNNING",
        "attempt": 1,
        "started_at": NOW - elapsed,
        "spec": GPU,
    }
    return make_status(**fields | overrides)


def make_scheduling_job(elapsed: timedelta, **overrides: Any) -> JobStatus:
    """A job that has been waiting for hardware."""
    fields: dict[str, Any] = {
        "state": JobState.RUNNING,
        "stage": "SCHEDULING",
        "attempt": 1,
        "posted_at": NOW - elapsed,
        "spec": GPU,
    }
    return make_status(**fields | overrides)


@pytest.mark.parametrize(
    ("known", "says"),
    [
        ({}, "Queued; it is launched as soon as a worker is free."),
        ({"ahead": 1}, "Queued behind 1 job of yours; it is launched as soon"),
        (
            {"ahead": 3, "active": 100, "max_active": 100},
            "your limit of running jobs is reached (100 at a time), so it is",
        ),
        (
            {"active": 2, "max_active": 100, "max_active_of_kind": 2, "room_of_kind": 0},
            "your limit of running Hugging Face Jobs is reached (2 at a time), so it is launched",
        ),
        (
            {"kind": "ours", "max_active": 9, "max_active_of_kind": 1, "room_of_kind": 0},
            "your limit of running jobs of this kind is reached (1 at a time)",
        ),
        ({"max_active_of_kind": 2, "room_of_kind": 1}, "launched as soon as a worker is free"),
        ({"max_active": 0}, "whoever runs this Holdfast launches no jobs of yours for now."),
        (
            {"kind": JobKind.BATCH, "max_active_of_kind": 0, "room_of_kind": 0},
            "whoever runs this Holdfast launches no batches of yours for now.",
        ),
        ({"launches_from": NOW + 2 * MINUTE}, "asked for a pause, so your jobs are launched in 2m"),
        ({"tries": 2, "due_at": NOW + MINUTE}, "tried again by itself in 1m."),
    ],
)
def test_a_queued_job_says_what_it_waits_for(known: dict[str, Any], says: str) -> None:
    """Whose turn it is, and what has to happen first."""
    assert says in job_summary.summarize_job(make_status(**known))


@pytest.mark.parametrize(
    ("waited", "says", "warned"),
    [
        (timedelta(seconds=30), "it waits for a10g-large hardware, at no cost", False),
        (9 * MINUTE, "it waits for a10g-large hardware for 9m, at no cost", False),
        (25 * MINUTE, "it waits for a10g-large hardware for 25m, at no cost", True),
    ],
)
def test_a_job_that_waits_long_for_hardware_is_said_to(
    waited: timedelta, says: str, *, warned: bool
) -> None:
    """Whoever waits for what never comes would rather know that something else is free."""
    waiting = make_scheduling_job(waited, deadline_at=NOW + timedelta(hours=5))
    view = JobView.from_status(waiting, HUB_URL)

    assert says in view.summary
    assert bool(view.warnings) is warned
    if warned:
        [warning] = view.warnings
        assert "No a10g-large has been free for 25m; list_hardware shows other" in warning
        assert "cancelling costs nothing" in warning
        assert "given up in 5h" in warning
        assert view.summary.endswith(warning)


@pytest.mark.parametrize(
    ("ran", "timeout", "warned"),
    [
        (24 * MINUTE, 30 * MINUTE, None),
        (26 * MINUTE, 30 * MINUTE, "stopped in 4m, at its timeout of 30m; it cannot be extended"),
        (31 * MINUTE, 30 * MINUTE, "stopped any moment now, at its timeout of 30m"),
        (8 * 60 * MINUTE, 10 * 60 * MINUTE, None),
        (9.5 * 60 * MINUTE, 10 * 60 * MINUTE, "stopped in 30m, at its timeout of 10h"),
        (2 * MINUTE, 6 * MINUTE, None),
        (4 * MINUTE, 6 * MINUTE, "stopped in 2m, at its timeout of 6m"),
    ],
)
def test_a_job_near_its_timeout_is_said_to_be(
    ran: timedelta, timeout: timedelta, warned: str | None
) -> None:
    """In its last tenth or five minutes, though never in the first half of what it was given."""
    near = make_running_job(ran, spec=GPU | {"timeout": timeout.total_seconds()})

    text = " ".join(job_warnings.list_warnings(near))

    assert (warned or "") in text
    assert bool(text) is (warned is not None)


def test_of_several_attempts_nobody_says_when_this_one_ends() -> None:
    """When it began is not told; a warning that may be an hour off is none."""
    spec = GPU | {"timeout": 1800, "attempts": 2}

    assert job_warnings.list_warnings(make_running_job(58 * MINUTE, spec=spec)) == []


@pytest.mark.parametrize(
    ("job", "expires_in", "warned"),
    [
        (make_status(spec=GPU), 20 * MINUTE, True),
        (make_status(spec=GPU), 31 * MINUTE, False),
        (make_running_job(20 * MINUTE), 9 * MINUTE, True),
        (make_running_job(20 * MINUTE), 11 * MINUTE, False),
        (make_running_job(20 * MINUTE), -MINUTE, False),
        (make_running_job(20 * MINUTE, spec=GPU | {"attempts": 2}), 11 * MINUTE, True),
        (make_status(spec=GPU, state=JobState.SUCCEEDED, attempt=1), 9 * MINUTE, False),
    ],
)
def test_a_token_that_ends_before_the_job_does_is_told_of(
    job: JobStatus, expires_in: timedelta, *, warned: bool
) -> None:
    """After that it can be neither seen nor stopped, and nobody would know why."""
    job = job.model_copy(update={"token_expires_at": NOW + expires_in})

    warnings = job_warnings.list_warnings(job)

    assert bool(warnings) is warned
    if warned:
        assert "Your token expires in " in warnings[0]


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
def test_nothing_is_warned_of_once_it_is_over(state: JobState) -> None:
    """It can no longer happen."""
    over = make_running_job(29 * MINUTE, state=state, token_expires_at=NOW + MINUTE)

    assert JobView.from_status(over, HUB_URL).warnings == []


async def test_a_place_in_the_queue_counts_only_ones_own_of_the_same_kind(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """Read in the one statement that reads the job; what others have queued is not told."""
    made = [await make_job() for _ in range(3)]
    await make_job(kind=JobKind.INFERENCE, spec={"model": "m/m"})
    last = job_handle((await make_job()).id)
    first = job_handle(made[0].id)

    view = await call_for_result(service_url, "job_status", job_ids=[first, last])
    claimed = timedelta(minutes=5)
    async with database.transaction() as tx:
        await tx.execute("UPDATE subject SET max_active = 1 WHERE id = $1", ADA_ID)
        await run_launch.claim(
            tx, JobKind.HUB_JOB, limit=1, worker="w", lease=claimed, settle_window=claimed
        )
    full = await call_for_result(service_url, "job_status", job_ids=last)

    summaries = [job["summary"] for job in view["jobs"]]
    assert summaries[0].startswith("Queued; it is launched")
    assert summaries[1].startswith("Queued behind 3 jobs of yours; it is launched")
    assert full["jobs"][0]["summary"].startswith(
        "Queued behind 2 jobs of yours; your limit of running jobs is reached (1 at a time)"
    )


async def test_a_job_that_waits_for_the_limit_of_its_kind_names_it(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """The limit of the deployment, or of the person; jobs of other kinds do not wait for it."""
    call = job_handle((await make_job(kind=JobKind.INFERENCE, spec={"model": "m/m"})).id)
    handles = [job_handle((await make_job()).id) for _ in range(3)]

    async def read_summaries(*job_ids: str) -> list[str]:
        view = await call_for_result(service_url, "job_status", job_ids=list(job_ids))
        return [job["summary"] for job in view["jobs"]]

    await read_summaries(*handles)
    async with database.transaction() as tx:
        await operator_actions.save_default_limits(
            tx, max_active=50, max_active_by_kind={JobKind.HUB_JOB: 1}
        )
        minute = timedelta(minutes=1)
        await run_launch.claim(
            tx, JobKind.HUB_JOB, limit=9, worker="w", lease=minute, settle_window=minute
        )
    of_deployment = await read_summaries(call, handles[2])
    async with database.transaction() as tx:
        await operator_actions.limit_subject(tx, ADA_ID, max_active=2, kind=JobKind.HUB_JOB)
    [of_person] = await read_summaries(handles[2])

    reached = "your limit of running Hugging Face Jobs is reached (1 at a time)"
    assert of_deployment[0] == "Queued; it is launched as soon as a worker is free."
    assert reached in of_deployment[1]
    assert of_person.endswith("it is launched as soon as a worker is free.")


async def test_what_upstream_and_the_token_say_reaches_the_view(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """The moments are the database's, so no clock of ours can be wrong about them."""
    spec: dict[str, Any] = {"image": "i", "command": ["true"], "flavor": "a10g-large"}
    handle = job_handle((await make_job(spec=spec | {"timeout": 3600.0})).id)
    await call_for_result(service_url, "job_status", job_ids=handle)
    run_id = await RunDriver(database).start_run()
    async with database.transaction() as tx:
        await tx.execute(
            "UPDATE remote_run SET stage = 'SCHEDULING', posted_at = now() - interval '25 min',"
            " deadline_at = now() + interval '5 hours 30 seconds' WHERE id = $1",
            run_id,
        )
        await tx.execute(
            "UPDATE credential SET expires_at = now() + interval '20 min 30 s'"
            " WHERE subject_id = $1",
            ADA_ID,
        )

    [view] = (await call_for_result(service_url, "job_status", job_ids=handle))["jobs"]

    stuck, token = view["warnings"]
    assert "No a10g-large has been free for 25m" in stuck
    assert "given up in 5h" in stuck
    assert token.startswith("Your token expires in 20m")
    assert view["summary"].endswith(f"{stuck} {token}")
