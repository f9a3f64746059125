"""What each way of going wrong is taken to mean; a wrong one costs a launch, or a second one."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast
from uuid import uuid4

import pytest

from schema.accounts.vault import Secret
from schema.jobs.tables import Reason
from tests.workers.conftest import unheard
from workers.attempts.error_outcomes import FetchTrouble, HubTrouble, trouble
from workers.executor import Executor, Later, Order, Outcome, Refused, TokenRefused, Unclear
from workers.executors.hub_job import HubJobExecutor
from workers.executors.inference import InferenceExecutor
from workers.hub.client import Ambiguous, Answered4xx, Hub, Unreached
from workers.inputs.url_fetcher import FetchFailed, FetchRefused

SOON = timedelta(seconds=9)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Unreached("no connection"), Later("no connection")),
        (Ambiguous("500: oops"), Unclear("500: oops")),
        (FetchFailed("no answer"), Later("no answer")),
        (FetchRefused("too large"), Refused(Reason.INVALID_REQUEST, "too large")),
        (Answered4xx(401, "expired", None), TokenRefused("expired")),
        (Answered4xx(429, "slow down", SOON), Later("slow down", SOON)),
        (Answered4xx(402, "pay", None), Refused(Reason.INSUFFICIENT_CREDITS, "402: pay")),
        (Answered4xx(403, "no", None), Refused(Reason.MISSING_PERMISSION, "403: no")),
        (Answered4xx(400, "what?", None), Refused(Reason.INVALID_REQUEST, "400: what?")),
        (Answered4xx(404, "where?", None), Refused(Reason.INVALID_REQUEST, "404: where?")),
    ],
)
def test_only_what_was_certainly_not_carried_out_is_tried_again(
    error: HubTrouble | FetchTrouble, outcome: Outcome
) -> None:
    """Doubt is never a reason to send a request a second time."""
    assert trouble(error) == outcome


@pytest.mark.parametrize(
    ("executor", "spec"),
    [
        (HubJobExecutor, {"image": "python:3.12", "command": ["true"]}),
        (InferenceExecutor, {"model": "m", "inputs": "?"}),
    ],
)
async def test_what_was_taken_by_other_rules_is_refused_and_never_sent(
    executor: Callable[[Hub], Executor], spec: dict[str, Any]
) -> None:
    """A release may read requests more strictly than the one that queued them."""
    order = Order(
        run_id=uuid4(),
        job_id=uuid4(),
        namespace="ada",
        spec=spec | {"timeout": 10.0**9},
        labels={},
        token=Secret("hf_ada"),
        secrets={},
        within=SOON,
        report=unheard,
    )

    outcome = await executor(cast("Hub", None)).execute(order)

    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.INVALID_REQUEST
    assert "timeout" in outcome.message
