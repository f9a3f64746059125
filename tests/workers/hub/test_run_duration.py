"""How long a job ran is what the Hub bills; what the Hub does not say is not made up."""

from datetime import timedelta
from typing import Any

import pytest

from schema.hub.job import JOB_ADAPTER
from workers.hub.job_ending import derive_run_result

STARTED = {"startedAt": "2026-11-21T02:00:00Z"}
FINISHED = {"finishedAt": "2026-11-21T02:03:00Z"}


@pytest.mark.parametrize(
    ("stage", "times", "ran"),
    [
        ("COMPLETED", {**STARTED, **FINISHED, "durations": {"runningSecs": 12}}, 180),
        ("COMPLETED", {**STARTED, **FINISHED, "durations": {"runningSecs": 190}}, 190),
        ("COMPLETED", {**STARTED, "durations": {"runningSecs": 12}}, 12),
        ("COMPLETED", {"durations": {"runningSecs": 12}}, 12),
        ("COMPLETED", {**STARTED, **FINISHED}, 180),
        ("COMPLETED", {**STARTED, **FINISHED, "durations": {"runningSecs": -1}}, 180),
        ("COMPLETED", {**STARTED, **FINISHED, "durations": "long"}, 180),
        ("COMPLETED", {**STARTED, "finishedAt": "2026-11-21T01:00:00Z"}, 0),
        ("COMPLETED", {"startedAt": "2026-11-21T02:00:00", **FINISHED}, 180),
        ("COMPLETED", {"startedAt": "2026-11-21T04:00:00+02:00", **FINISHED}, 180),
        ("COMPLETED", {"startedAt": "0001-01-01T00:00:00+14:00", **FINISHED}, None),
        ("ERROR", {}, None),
        ("CANCELED", STARTED, None),
        ("CANCELED", {}, None),
    ],
)
def test_how_long_a_job_ran_is_read_from_its_times(
    stage: str, times: dict[str, Any], ran: float | None
) -> None:
    """The longer of its timestamps and its duration counts: the Hub rounds a duration down."""
    ending = derive_run_result(
        JOB_ADAPTER.validate_python({"id": "r", "status": {"stage": stage}, **times})
    )

    assert ending is not None
    assert ending.run_duration == (None if ran is None else timedelta(seconds=ran))


@pytest.mark.parametrize(
    ("status", "times", "never_started"),
    [
        ({"stage": "CANCELED"}, {}, True),
        ({"stage": "CANCELED"}, FINISHED, True),
        ({"stage": "CANCELED"}, {"durations": {"runningSecs": 0}}, True),
        ({"stage": "CANCELED"}, {"durations": {"runningSecs": 7}}, False),
        ({"stage": "CANCELED"}, STARTED, False),
        ({"stage": "ERROR"}, {}, False),
        ({"stage": "ERROR"}, FINISHED, True),
        ({"stage": "ERROR", "message": "Job timeout"}, FINISHED, False),
        ({"stage": "ERROR", "message": "Job failed with exit code: 1."}, FINISHED, False),
        ({"stage": "ERROR", "message": "Reason: ErrImagePull"}, {}, True),
        ({"stage": "ERROR", "message": "Reason: StartError"}, STARTED, False),
        ({"stage": "COMPLETED"}, FINISHED, False),
        ({"stage": "DELETED"}, FINISHED, False),
    ],
)
def test_a_job_never_started_only_if_the_hub_says_so(
    status: dict[str, Any],
    times: dict[str, Any],
    never_started: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    """It has no start and no running time, and it did not end as only a job that ran can end."""
    ending = derive_run_result(JOB_ADAPTER.validate_python({"id": "r", "status": status, **times}))

    assert ending is not None
    assert ending.never_started is never_started


@pytest.mark.parametrize(
    ("created_at", "waited"),
    [
        ("2026-11-21T01:59:30Z", 30),
        ("2026-11-21T01:59:30", 30),
        ("2026-11-21T05:00:00Z", 0),
        ("yesterday", None),
        (None, None),
    ],
)
def test_the_wait_until_the_start_is_read_from_one_clock(
    created_at: str | None, waited: float | None
) -> None:
    """Both times are the Hub's, so its clock may differ from ours by hours."""
    ending = derive_run_result(
        JOB_ADAPTER.validate_python(
            {"id": "r", "status": {"stage": "CANCELED"}, "createdAt": created_at, **STARTED}
        )
    )

    assert ending is not None
    assert ending.time_to_start == (None if waited is None else timedelta(seconds=waited))
