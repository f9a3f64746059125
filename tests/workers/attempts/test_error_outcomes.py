"""What each way of going wrong is taken to mean; a wrong one costs a launch, or a second one."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast
from uuid import uuid4

import pytest

from schema.accounts.vault import Secret
from schema.hub.client import HubAmbiguous, HubRejected, HubUnreachable
from schema.hub.url_fetcher import FetchFailed, FetchRefused
from schema.jobs.tables import Reason
from tests.support.jobs.hub_runs import ignore_progress
from workers.attempts.error_outcomes import HubRequestError, InputFetchError, outcome_from_error
from workers.executor import (
    ExecutionRequest,
    Executor,
    Outcome,
    Rejected,
    RetryLater,
    TokenRejected,
    Unknown,
)
from workers.executors.hub_job import HubJobExecutor
from workers.executors.inference import InferenceExecutor
from workers.hub.client import HubJobsClient

TIMEOUT = timedelta(seconds=9)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (HubUnreachable("no connection"), RetryLater("no connection")),
        (HubAmbiguous("500: oops"), Unknown("500: oops")),
        (FetchFailed("no answer"), RetryLater("no answer")),
        (FetchRefused("too large"), Rejected(Reason.INVALID_REQUEST, "too large")),
        (HubRejected(401, "expired", None), TokenRejected("expired")),
        (HubRejected(429, "slow down", TIMEOUT), RetryLater("slow down", TIMEOUT)),
        (HubRejected(402, "pay", None), Rejected(Reason.INSUFFICIENT_CREDITS, "402: pay")),
        (HubRejected(403, "no", None), Rejected(Reason.MISSING_PERMISSION, "403: no")),
        (HubRejected(400, "what?", None), Rejected(Reason.INVALID_REQUEST, "400: what?")),
        (HubRejected(404, "where?", None), Rejected(Reason.INVALID_REQUEST, "404: where?")),
    ],
)
def test_only_what_was_certainly_not_carried_out_is_tried_again(
    error: HubRequestError | InputFetchError, outcome: Outcome
) -> None:
    """Doubt is never a reason to send a request a second time."""
    assert outcome_from_error(error) == outcome


@pytest.mark.parametrize(
    ("executor", "spec"),
    [
        (HubJobExecutor, {"image": "python:3.12", "command": ["true"]}),
        (InferenceExecutor, {"model": "m", "inputs": "?"}),
    ],
)
async def test_what_was_taken_by_other_rules_is_refused_and_never_sent(
    executor: Callable[[HubJobsClient], Executor], spec: dict[str, Any]
) -> None:
    """A release may read requests more strictly than the one that queued them."""
    order = ExecutionRequest(
        run_id=uuid4(),
        job_id=uuid4(),
        namespace="ada",
        spec=spec | {"timeout": 10.0**9},
        labels={},
        token=Secret("hf_ada"),
        secrets={},
        request_timeout=TIMEOUT,
        report_progress=ignore_progress,
    )

    outcome = await executor(cast("HubJobsClient", None)).execute(order)

    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.INVALID_REQUEST
    assert "timeout" in outcome.message
