"""How the Hub says no: the message in the body, and the same in a header."""

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response


class HubApiError(Exception):
    """An answer that says no, in the Hub's words."""

    def __init__(self, status: HTTPStatus, message: str, *, code: str | None = None) -> None:
        self.status = status
        self.message = message
        self.code = code
        super().__init__(message)


def error_response(status: int, message: str, code: str | None = None) -> Response:
    """Say no; with a code where the Hub has one for what is missing."""
    headers = {"x-error-message": encode_header_text(message)}
    if code is not None:
        headers["x-error-code"] = code
    return JSONResponse({"error": message}, status_code=status, headers=headers)


def encode_header_text(message: str) -> str:
    """Write a message as far as a header takes it: on one line, in Latin-1."""
    return " ".join(message.split()).encode("latin-1", errors="replace").decode("latin-1")


async def render_api_error(_: Request, error: Exception) -> Response:
    """Write a refusal as the Hub does."""
    assert isinstance(error, HubApiError)  # noqa: S101  # registered for nothing else
    return error_response(error.status, error.message, error.code)


async def render_http_exception(_: Request, error: Exception) -> Response:
    """Write what the router refused in the same form."""
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for nothing else
    return error_response(error.status_code, error.detail)
