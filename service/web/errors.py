"""Pages of failures, in the look of all others, for whoever asked for a page.

A program gets what it has always got: a line of text.
"""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from schema.common.errors import HoldfastError, RateLimited, Unavailable
from schema.common.http import retry_after_header
from service.http.pages.rendering import respond_with_template
from service.http.rate_limit import RateLimitStatus

_NOT_FOUND: Final = (
    "There is no such page here, or it is not yours to see. Look at the address again, or go back "
    "to the front page."
)
_BROKEN: Final = "Something went wrong on our side, and it was logged. Try again in a minute."


def expects_page(request: Request) -> bool:
    """Say whether a request is one of a browser that shows a page."""
    return "text/html" in request.headers.get("accept", "")


def respond_with_error(
    status: HTTPStatus,
    title: str,
    sentence: str,
    headers: Mapping[str, str] = MappingProxyType({}),
    *,
    link: str = "/",
    link_text: str = "Front page",
) -> Response:
    """Answer with the page of a failure."""
    return respond_with_template(
        "error.html",
        status=status,
        headers=headers,
        title=title,
        sentence=sentence,
        code=status.value,
        link=link,
        link_text=link_text,
    )


def respond_with_not_found() -> Response:
    """Answer as for everything that does not exist, or is somebody else's: byte for byte."""
    return respond_with_error(HTTPStatus.NOT_FOUND, "Nothing here", _NOT_FOUND)


def respond_with_failure(error: HoldfastError) -> Response:
    """Answer with the page of an expected failure."""
    if isinstance(error, RateLimited):
        headers = RateLimitStatus.from_refusal(error).to_headers()
        return respond_with_error(
            HTTPStatus.TOO_MANY_REQUESTS, "Too many requests", str(error), headers
        )
    if isinstance(error, Unavailable):
        headers = retry_after_header(error.retry_after)
        return respond_with_error(
            HTTPStatus.SERVICE_UNAVAILABLE, "Not available right now", str(error), headers
        )
    return respond_with_error(HTTPStatus.BAD_REQUEST, "That did not work", str(error))


async def answer_http_exception(request: Request, error: Exception) -> Response:
    """Answer a path or a method that no route has."""
    assert isinstance(error, HTTPException)  # noqa: S101  # it is registered for this class
    if expects_page(request) and error.status_code == HTTPStatus.NOT_FOUND:
        return respond_with_not_found()
    return PlainTextResponse(error.detail, error.status_code, error.headers)


async def answer_unexpected(request: Request, _: Exception) -> Response:
    """Answer a bug; the server logs it."""
    if expects_page(request):
        return respond_with_error(HTTPStatus.INTERNAL_SERVER_ERROR, "That failed", _BROKEN)
    return PlainTextResponse("Internal Server Error", HTTPStatus.INTERNAL_SERVER_ERROR)


EXCEPTION_HANDLERS: Final[Mapping[Any, Any]] = {
    HTTPException: answer_http_exception,
    HTTPStatus.INTERNAL_SERVER_ERROR: answer_unexpected,
}
