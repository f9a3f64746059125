"""How long a job ran is what the Hub bills; what it does not tell is not made up."""

from datetime import timedelta
from typing import Any

import pytest

from workers.hub.job import JOB_ADAPTER
from workers.hub.job_ending import derive_run_result

STARTED = {"startedAt": "2026-11-21T02:00:00Z"}
FINISHED = {"finishedAt": "2026-11-21T02:03:00Z"}


@pytest.mark.parametrize(
    ("stage", "times", "ran"),
    [
        ("COMPLETED", {**STARTED, **FINISHED, "durations": {"runningSecs": 12}}, 12),
        ("COMPLETED", {**STARTED, **FINISHED}, 180),
        ("COMPLETED", {**STARTED, **FINISHED, "durations": {"runningSecs": -1}}, 180),
        ("COMPLETED", {**STARTED, **FINISHED, "durations": "long"}, 180),
        ("COMPLETED", {**STARTED, "finishedAt": "2026-11-21T01:00:00Z"}, 0),
        ("COMPLETED", {"startedAt": "2026-11-21T02:00:00", **FINISHED}, None),
        ("ERROR", {}, None),
        ("CANCELED", STARTED, None),
        ("CANCELED", {}, 0),
    ],
)
def test_how_long_a_job_ran_is_read_from_its_times(
    stage: str, times: dict[str, Any], ran: float | None
) -> None:
    """What was cancelled before it was started did not run; of the others nobody guesses here."""
    ending = derive_run_result(
        JOB_ADAPTER.validate_python({"id": "r", "status": {"stage": stage}, **times})
    )

    assert ending is not None
    assert ending.run_duration == (None if ran is None else timedelta(seconds=ran))
