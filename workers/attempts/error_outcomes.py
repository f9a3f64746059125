"""Outcomes of attempts in which a request to the Hub, or the fetch of an input, failed."""

from http import HTTPStatus
from typing import Final, assert_never

from pydantic import ValidationError

from schema.hub.client import HubAmbiguous, HubRejected, HubUnreachable
from schema.hub.url_fetcher import FetchFailed, FetchRefused
from schema.jobs.tables import Reason
from workers.executor import Rejected, RetryLater, TokenRejected, Unknown

HubRequestError = HubUnreachable | HubRejected | HubAmbiguous
InputFetchError = FetchFailed | FetchRefused
"""An input could not be fetched, so nothing has been sent."""

_REASON_BY_STATUS: Final[dict[int, Reason]] = {
    HTTPStatus.PAYMENT_REQUIRED: Reason.INSUFFICIENT_CREDITS,
    HTTPStatus.FORBIDDEN: Reason.MISSING_PERMISSION,
}


def outcome_from_error(
    error: HubRequestError | InputFetchError,
) -> RetryLater | Rejected | TokenRejected | Unknown:
    """Return the outcome of an error; only what was certainly not carried out is tried again."""
    match error:
        case HubUnreachable() | FetchFailed():
            return RetryLater(str(error))
        case FetchRefused():
            return Rejected(Reason.INVALID_REQUEST, str(error))
        case HubAmbiguous():
            return Unknown(str(error))
        case HubRejected(status=HTTPStatus.UNAUTHORIZED, message=message):
            return TokenRejected(message)
        case HubRejected(status=HTTPStatus.TOO_MANY_REQUESTS, message=message):
            return RetryLater(message, error.retry_after)
        case HubRejected(status=status):
            # `str(error)` names the status, which is part of the evidence.
            return Rejected(_REASON_BY_STATUS.get(status, Reason.INVALID_REQUEST), str(error))
        case _:
            assert_never(error)


def reject_outdated_spec(error: ValidationError) -> Rejected:
    """Reject a stored request that was valid by earlier rules, and is not by those of today."""
    problems = "; ".join(
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_input=False)
    )
    return Rejected(Reason.INVALID_REQUEST, f"It cannot be launched as it was written. {problems}")
