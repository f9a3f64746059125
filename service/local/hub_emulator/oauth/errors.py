"""How OAuth says no, and how it reads what it is asked: each parameter once."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.local.hub_emulator.errors import encode_header_text

ORGS_PARAMETER: Final = "orgIds"
"""The one parameter that may be repeated."""


class OAuthError(Exception):
    """An answer that says no, in the words of RFC 6749 or RFC 7591."""

    def __init__(
        self, code: str, description: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST
    ) -> None:
        self.code = code
        self.description = description
        self.status = status
        super().__init__(description)


async def render_oauth_error(_: Request, error: Exception) -> Response:
    """Write a refusal as RFC 6749 wants it."""
    assert isinstance(error, OAuthError)  # noqa: S101  # registered for nothing else
    headers = {
        "cache-control": "no-store",
        "x-error-message": encode_header_text(error.description),
    }
    if error.status is HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = 'Basic realm="local Hub"'
    body = {"error": error.code, "error_description": error.description}
    return JSONResponse(body, status_code=error.status, headers=headers)


def read_parameters(pairs: Iterable[tuple[str, object]]) -> dict[str, str]:
    """Read parameters; two of a name are refused, for it is not said which of them holds.

    Raises:
        OAuthRefusal: there are two, or one is no text.
    """
    read: dict[str, str] = {}
    for name, value in pairs:
        if not isinstance(value, str) or (name in read and name != ORGS_PARAMETER):
            raise OAuthError("invalid_request", "A parameter is given twice, or is no text.")
        # An empty one counts as left out: RFC 6749, section 3.1.
        if value:
            read[name] = f"{read[name]},{value}" if name in read else value
    return read


def require_parameter(parameters: dict[str, str], name: str) -> str:
    """Return a parameter that must be there.

    Raises:
        OAuthRefusal: it is not.
    """
    if name not in parameters:
        raise OAuthError("invalid_request", f"The parameter {name} is missing.")
    return parameters[name]
