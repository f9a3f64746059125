"""What a call to the Hub, or for an input, that went wrong means for the attempt it was for."""

from typing import Final, assert_never

from pydantic import ValidationError

from schema.jobs.tables import Reason
from workers.executor import Later, Refused, TokenRefused, Unclear
from workers.hub.client import Ambiguous, Answered4xx, Unreached
from workers.inputs.url_fetcher import FetchFailed, FetchRefused

HubTrouble = Unreached | Answered4xx | Ambiguous
FetchTrouble = FetchFailed | FetchRefused
"""What goes wrong before anything is sent: an input could not be had."""

_REASONS: Final = {402: Reason.INSUFFICIENT_CREDITS, 403: Reason.MISSING_PERMISSION}
_UNAUTHORIZED: Final = 401
_TOO_MANY: Final = 429


def trouble(error: HubTrouble | FetchTrouble) -> Later | Refused | TokenRefused | Unclear:
    """Say what it means; only what was certainly not carried out may be tried again."""
    match error:
        case Unreached() | FetchFailed():
            return Later(str(error))
        case FetchRefused():
            return Refused(Reason.INVALID_REQUEST, str(error))
        case Ambiguous():
            return Unclear(str(error))
        case Answered4xx(status=status, message=message) if status == _UNAUTHORIZED:
            return TokenRefused(message)
        case Answered4xx(status=status, message=message) if status == _TOO_MANY:
            return Later(message, error.retry_after)
        case Answered4xx(status=status):
            # With the status: it is part of the evidence.
            return Refused(_REASONS.get(status, Reason.INVALID_REQUEST), str(error))
        case _:
            assert_never(error)


def outgrown(error: ValidationError) -> Refused:
    """Refuse a request that was taken by rules which are not the ones of today."""
    wrong = error.errors(include_url=False, include_input=False)
    found = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in wrong)
    return Refused(Reason.INVALID_REQUEST, f"It cannot be launched as it was written. {found}")
