"""What each way of going wrong is taken to mean; a wrong one costs a launch, or a second one."""

from datetime import timedelta

import pytest

from schema.job import Reason
from workers.hub import Ambiguous, Answered4xx, Unreached
from workers.outcome import Later, Outcome, Refused, TokenRefused, Unclear
from workers.trouble import HubTrouble, trouble

SOON = timedelta(seconds=9)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Unreached("no connection"), Later("no connection")),
        (Ambiguous("500: oops"), Unclear("500: oops")),
        (Answered4xx(401, "expired", None), TokenRefused("expired")),
        (Answered4xx(429, "slow down", SOON), Later("slow down", SOON)),
        (Answered4xx(402, "pay", None), Refused(Reason.INSUFFICIENT_CREDITS, "402: pay")),
        (Answered4xx(403, "no", None), Refused(Reason.MISSING_PERMISSION, "403: no")),
        (Answered4xx(400, "what?", None), Refused(Reason.INVALID_REQUEST, "400: what?")),
        (Answered4xx(404, "where?", None), Refused(Reason.INVALID_REQUEST, "404: where?")),
    ],
)
def test_only_what_was_certainly_not_carried_out_is_tried_again(
    error: HubTrouble, outcome: Outcome
) -> None:
    """Doubt is never a reason to send a request a second time."""
    assert trouble(error) == outcome
