"""The nonce of a run: where it is written, and which listed job is taken for the run."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from schema.accounts.vault import Secret
from schema.hub.job import JOB_ADAPTER
from schema.hub.labels import RUN_LABEL, RUN_VARIABLE
from schema.jobs.run_tables import DesiredState, RemoteRun, RunOrigin, RunState
from schema.jobs.tables import JobKind
from tests.support.hub.recording_hub import RecordingHub
from tests.support.jobs.hub_runs import ignore_progress
from workers.executor import Created, ExecutionRequest
from workers.executors.hub_job import HubJobExecutor
from workers.hub.client import HubJobsClient
from workers.loops.reconcile_runs import is_job_of_run

RUN_ID = uuid4()


async def test_a_request_carries_its_nonce_as_a_label_and_where_nobody_can_edit_it() -> None:
    """By the label it is found, by the variable it is known; no label of the caller stands in."""
    recorder = RecordingHub()
    forged = {RUN_LABEL: "theirs", "team": "blue"}
    spec = {"image": "alpine", "command": ["true"], "env": {"DEBUG": "1"}}
    order = ExecutionRequest(
        RUN_ID,
        uuid4(),
        "ada",
        spec,
        forged,
        Secret("hf_ada"),
        {},
        timedelta(seconds=1),
        ignore_progress,
    )

    outcome = await HubJobExecutor(cast("HubJobsClient", recorder)).execute(order)

    (body,) = recorder.bodies
    assert outcome == Created("r1", None)
    assert (body["labels"][RUN_LABEL], body["labels"]["team"]) == (str(RUN_ID), "blue")
    assert body["environment"] == {
        RUN_VARIABLE: str(RUN_ID),
        "DEBUG": "1",
        "PYTHONUNBUFFERED": "1",
    }


@pytest.mark.parametrize(
    ("overrides", "expected_secrets"),
    [
        ({}, None),
        ({"secrets": ["KEY"]}, {"KEY": "s"}),
        ({"secrets": ["KEY"], "pass_token": True}, {"KEY": "s", "HF_TOKEN": "hf_ada"}),
    ],
)
async def test_the_callers_token_is_handed_to_the_command_only_when_that_was_asked_for(
    overrides: dict[str, Any], expected_secrets: dict[str, str] | None
) -> None:
    """Whatever code gets it acts as them; the Hub keeps it apart from what others may read."""
    recorder = RecordingHub()
    spec = {"image": "alpine", "command": ["true"], **overrides}
    secrets = {"KEY": Secret("s")} if overrides else {}
    token, within = Secret("hf_ada"), timedelta(seconds=1)
    order = ExecutionRequest(
        RUN_ID, uuid4(), "ada", spec, {}, token, secrets, within, ignore_progress
    )

    await HubJobExecutor(cast("HubJobsClient", recorder)).execute(order)

    (body,) = recorder.bodies
    assert body.get("secrets") == expected_secrets
    assert "hf_ada" not in str({**body, "secrets": None})


def make_run(run_id: UUID) -> RemoteRun:
    now = datetime.now(UTC)
    return RemoteRun(
        id=run_id,
        job_id=uuid4(),
        subject_id="ada",
        namespace="ada",
        kind=JobKind.HUB_JOB,
        attempt=1,
        origin=RunOrigin.OURS,
        state=RunState.UNKNOWN,
        desired=DesiredState.ALIVE,
        remote_id=None,
        due_at=now,
        deadline_at=None,
        absent_after=now,
        misses=0,
        kills=0,
        stage=None,
        log_lines=0,
        posted_at=now,
        seen_at=None,
    )


@pytest.mark.parametrize(
    ("described", "ours"),
    [
        ({}, True),
        ({"environment": {RUN_VARIABLE: str(RUN_ID)}}, True),
        ({"environment": {RUN_VARIABLE: str(uuid4())}}, False),
        ({"initiator": {"type": "user"}}, True),
        ({"initiator": {"type": "duplicated-job"}}, False),
        ({"initiator": {"type": "scheduled-job"}}, False),
    ],
)
def test_a_listed_job_is_a_run_unless_it_is_a_copy_or_names_another(
    described: dict[str, Any], *, ours: bool
) -> None:
    """Labels can be edited and are copied; a person's own job must never be killed for them."""
    job = JOB_ADAPTER.validate_python({"id": "r1", "labels": {RUN_LABEL: str(RUN_ID)}} | described)

    assert is_job_of_run(job, make_run(RUN_ID)) is ours
