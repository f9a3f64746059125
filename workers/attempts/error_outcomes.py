"""What a call to the Hub, or for an input, that went wrong means for the attempt it was for."""

from typing import Final, assert_never

from pydantic import ValidationError

from schema.hub.client import HubAmbiguous, HubRejected, HubUnreachable
from schema.jobs.tables import Reason
from workers.executor import Rejected, RetryLater, TokenRejected, Unknown
from workers.inputs.url_fetcher import FetchFailed, FetchRefused

HubRequestError = HubUnreachable | HubRejected | HubAmbiguous
InputFetchError = FetchFailed | FetchRefused
"""What goes wrong before anything is sent: an input could not be had."""

_REASON_BY_STATUS: Final = {402: Reason.INSUFFICIENT_CREDITS, 403: Reason.MISSING_PERMISSION}
_UNAUTHORIZED: Final = 401
_TOO_MANY: Final = 429


def outcome_from_error(
    error: HubRequestError | InputFetchError,
) -> RetryLater | Rejected | TokenRejected | Unknown:
    """Say what it means; only what was certainly not carried out may be tried again."""
    match error:
        case HubUnreachable() | FetchFailed():
            return RetryLater(str(error))
        case FetchRefused():
            return Rejected(Reason.INVALID_REQUEST, str(error))
        case HubAmbiguous():
            return Unknown(str(error))
        case HubRejected(status=status, message=message) if status == _UNAUTHORIZED:
            return TokenRejected(message)
        case HubRejected(status=status, message=message) if status == _TOO_MANY:
            return RetryLater(message, error.retry_after)
        case HubRejected(status=status):
            # With the status: it is part of the evidence.
            return Rejected(_REASON_BY_STATUS.get(status, Reason.INVALID_REQUEST), str(error))
        case _:
            assert_never(error)


def reject_outdated_spec(error: ValidationError) -> Rejected:
    """Refuse a request that was taken by rules which are not the ones of today."""
    wrong = error.errors(include_url=False, include_input=False)
    found = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in wrong)
    return Rejected(Reason.INVALID_REQUEST, f"It cannot be launched as it was written. {found}")
