"""Scheduled jobs of the local Hub, as the real client sees them."""

from datetime import UTC, datetime
from typing import Any, Final

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, JobNotFoundError

from service.local.hub_emulator.users import find_user
from tests.support.http_clients import get_once
from tests.support.hub.emulator_process import HubEmulatorProcess

SLEEP_JOB: Final[dict[str, Any]] = {"image": "python:3.12", "command": ["sleep", "60"]}


def test_a_scheduled_job_lives_as_it_does_on_the_hub(hub_emulator: HubEmulatorProcess) -> None:
    """The client is the oracle: it reads every answer, and raises what the Hub would have it."""
    api = hub_emulator.api()
    made = api.create_scheduled_job(schedule="0 9 * * 1", labels={"team": "a"}, **SLEEP_JOB)
    other = api.create_scheduled_job(schedule="@hourly", suspend=True, **SLEEP_JOB)

    assert made.status.next_job_run_at is not None
    assert made.status.next_job_run_at > datetime.now(UTC)
    assert (made.status.next_job_run_at.weekday(), made.status.next_job_run_at.hour) == (0, 9)
    assert (made.job_spec.docker_image, made.owner.name) == ("python:3.12", "alice")
    assert other.status.next_job_run_at is None
    assert [each.id for each in api.list_scheduled_jobs()] == [other.id, made.id]
    assert [each.id for each in api.list_scheduled_jobs(labels={"team": "a"})] == [made.id]

    api.suspend_scheduled_job(scheduled_job_id=made.id)
    assert api.inspect_scheduled_job(scheduled_job_id=made.id).suspend
    api.resume_scheduled_job(scheduled_job_id=made.id)
    assert not api.inspect_scheduled_job(scheduled_job_id=made.id).suspend

    api.delete_scheduled_job(scheduled_job_id=made.id)
    with pytest.raises(JobNotFoundError):
        api.inspect_scheduled_job(scheduled_job_id=made.id)
    api.delete_scheduled_job(scheduled_job_id=other.id)


def test_one_that_runs_is_not_started_again_beside_itself(hub_emulator: HubEmulatorProcess) -> None:
    """Unless its owner allows it."""
    api = hub_emulator.api()
    alone = api.create_scheduled_job(schedule="@yearly", **SLEEP_JOB)
    concurrent = api.create_scheduled_job(schedule="@yearly", concurrency=True, **SLEEP_JOB)

    triggered = (alone, concurrent, concurrent)
    jobs = [api.trigger_scheduled_job(scheduled_job_id=each.id) for each in triggered]
    with pytest.raises(HfHubHTTPError, match="409"):
        api.trigger_scheduled_job(scheduled_job_id=alone.id)

    last = api.inspect_scheduled_job(scheduled_job_id=concurrent.id).status.last_job
    assert last is not None
    assert last.id == jobs[-1].id
    assert len({job.id for job in jobs}) == 3
    for job in jobs:
        api.cancel_job(job_id=job.id)
    for each in (alone, concurrent):
        api.delete_scheduled_job(scheduled_job_id=each.id)


def test_a_time_that_is_none_is_refused(hub_emulator: HubEmulatorProcess) -> None:
    """As a bad request, and nothing is kept."""
    api = hub_emulator.api()

    for schedule in ("0 9 * *", "61 * * * *", "@sometimes", "0 0 9 * * *", ""):
        with pytest.raises(HfHubHTTPError, match="Invalid cron"):
            api.create_scheduled_job(schedule=schedule, **SLEEP_JOB)

    assert api.list_scheduled_jobs() == []


def test_what_it_starts_says_so(hub_emulator: HubEmulatorProcess) -> None:
    """Whoever reconciles runs has to tell them from those a person asked for."""
    api: HfApi = hub_emulator.api()
    made = api.create_scheduled_job(schedule="@yearly", **SLEEP_JOB)
    job = api.trigger_scheduled_job(scheduled_job_id=made.id)
    token = find_user(hub_emulator.users, "alice").token

    seen = get_once(
        f"{hub_emulator.url}/api/jobs/alice/{job.id}", headers={"authorization": f"Bearer {token}"}
    ).json()

    assert seen["initiator"] == {"type": "scheduled-job", "id": made.id}
    api.cancel_job(job_id=job.id)
    api.delete_scheduled_job(scheduled_job_id=made.id)
