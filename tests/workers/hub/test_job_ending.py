"""What the Hub's last word is taken to mean; the messages are those seen on the live Hub."""

from typing import Any

import pytest

from schema.hub.job import JOB_ADAPTER
from schema.jobs.tables import JobState, Reason
from workers.hub.job_ending import derive_run_result


def make_job(stage: str, message: str | None = None, **status: Any) -> dict[str, Any]:
    return {"id": "a" * 24, "status": {"stage": stage, "message": message, **status}}


@pytest.mark.parametrize(
    ("described", "state", "reason", "exit_code"),
    [
        (make_job("COMPLETED"), JobState.SUCCEEDED, None, 0),
        (
            make_job("ERROR", "Job failed with exit code: 3. Reason: Error"),
            JobState.FAILED,
            Reason.EXIT_NONZERO,
            3,
        ),
        (
            make_job("ERROR", "Job failed with exit code: 137. Reason: OOMKilled"),
            JobState.FAILED,
            Reason.OOM,
            137,
        ),
        (make_job("ERROR", "Job timeout"), JobState.FAILED, Reason.TIMED_OUT, None),
        (make_job("ERROR", "No such image"), JobState.FAILED, Reason.INVALID_REQUEST, None),
        (make_job("ERROR", "Registry timeout"), JobState.FAILED, Reason.INTERNAL, None),
        (make_job("ERROR"), JobState.FAILED, Reason.INTERNAL, None),
        (make_job("CANCELED"), JobState.CANCELLED, Reason.CANCELLED_UPSTREAM, None),
        (
            make_job("CANCELED", cancelReason="NO_CREDITS"),
            JobState.FAILED,
            Reason.INSUFFICIENT_CREDITS,
            None,
        ),
        (make_job("DELETED"), JobState.FAILED, Reason.UPSTREAM_DELETED, None),
    ],
)
def test_each_last_word_has_its_ending(
    described: dict[str, Any], state: JobState, reason: Reason | None, exit_code: int | None
) -> None:
    """A failure is named after its evidence, and success is only what the Hub calls so."""
    ending = derive_run_result(JOB_ADAPTER.validate_python(described))

    assert ending is not None
    assert (ending.state, ending.reason, ending.exit_code) == (state, reason, exit_code)


@pytest.mark.parametrize("stage", ["SCHEDULING", "RUNNING", "HIBERNATING", "UPDATING"])
def test_a_stage_nobody_heard_of_is_not_the_end(stage: str) -> None:
    """A new word of the Hub's must not end a job that is still being paid for."""
    assert derive_run_result(JOB_ADAPTER.validate_python(make_job(stage))) is None


def test_a_job_the_hub_does_not_know_was_deleted() -> None:
    """There is nothing left to wait for."""
    ending = derive_run_result(None)

    assert ending is not None
    assert ending.reason is Reason.UPSTREAM_DELETED


@pytest.mark.parametrize(
    "described",
    [
        {"id": "a" * 24},
        {"id": "a" * 24, "status": "odd", "labels": 3, "startedAt": "yesterday"},
        {"id": "a" * 24, "status": {"stage": 7, "message": []}, "initiator": [], "owner": None},
    ],
)
def test_a_description_that_is_half_understood_still_gives_the_id(
    described: dict[str, Any],
) -> None:
    """Losing the id of something that runs would lose what it costs."""
    assert JOB_ADAPTER.validate_python(described).id == "a" * 24
