"""Error answers in the Hub's form: the message in the body, and again in a header."""

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response


class HubApiError(Exception):
    """A request that the Hub refuses; `code` is the Hub's own word for what is missing."""

    def __init__(self, status: HTTPStatus, message: str, *, code: str | None = None) -> None:
        self.status = status
        self.message = message
        self.code = code
        super().__init__(message)


def repository_not_found_error(status: HTTPStatus = HTTPStatus.NOT_FOUND) -> HubApiError:
    """Build the error for a repository, model or Space that is not there for the caller."""
    return HubApiError(status, "Repository not found", code="RepoNotFound")


def entry_not_found_error() -> HubApiError:
    """Build the error for a file or folder that is not in a repository or bucket."""
    return HubApiError(HTTPStatus.NOT_FOUND, "Entry not found", code="EntryNotFound")


def error_response(status: int, message: str, code: str | None = None) -> Response:
    """Build an error answer, with a code if the Hub has one for it."""
    headers = {"x-error-message": encode_header_text(message)}
    if code is not None:
        headers["x-error-code"] = code
    return JSONResponse({"error": message}, status_code=status, headers=headers)


def already_created_response(kind: str, url: str) -> Response:
    """Build the answer to a create request for what exists already.

    It carries the same URL as the answer to a first request: the real client needs it.
    """
    message = f"You already created this {kind}"
    return JSONResponse(
        {"error": message, "url": url}, HTTPStatus.CONFLICT, {"x-error-message": message}
    )


def encode_header_text(message: str) -> str:
    """Reduce a message to what a header can hold: one line, in Latin-1."""
    return " ".join(message.split()).encode("latin-1", errors="replace").decode("latin-1")


async def render_api_error(_: Request, error: Exception) -> Response:
    """Turn a `HubApiError` into its answer."""
    assert isinstance(error, HubApiError)  # noqa: S101  # registered for nothing else
    return error_response(error.status, error.message, error.code)


async def render_http_exception(_: Request, error: Exception) -> Response:
    """Turn an error of Starlette's router into an answer of the same form."""
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for nothing else
    return error_response(error.status_code, error.detail)
