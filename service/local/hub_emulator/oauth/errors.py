"""Error answers in the form of OAuth, and the parser of request parameters that raises them."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.local.hub_emulator.errors import encode_header_text

ORGS_PARAMETER: Final = "orgIds"
"""The only parameter that may be repeated."""


class OAuthError(Exception):
    """A request that is refused, with an error code of RFC 6749 or RFC 7591."""

    def __init__(
        self, code: str, description: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST
    ) -> None:
        self.code = code
        self.description = description
        self.status = status
        super().__init__(description)


async def render_oauth_error(_: Request, error: Exception) -> Response:
    """Turn an `OAuthError` into an answer as RFC 6749 specifies."""
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
    """Read parameters into a dict; values of the repeatable parameter are joined by commas.

    Raises:
        OAuthError: a parameter is repeated, or is not a text.
    """
    parameters: dict[str, str] = {}
    for name, value in pairs:
        if not isinstance(value, str) or (name in parameters and name != ORGS_PARAMETER):
            raise OAuthError("invalid_request", "A parameter is given twice, or is no text.")
        # An empty parameter counts as left out: RFC 6749, section 3.1.
        if value:
            parameters[name] = f"{parameters[name]},{value}" if name in parameters else value
    return parameters


def require_parameter(parameters: dict[str, str], name: str) -> str:
    """Return a required parameter.

    Raises:
        OAuthError: it is missing.
    """
    if name not in parameters:
        raise OAuthError("invalid_request", f"The parameter {name} is missing.")
    return parameters[name]
