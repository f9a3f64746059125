"""Limits of pages that anybody may open: how often an address comes, and how much it sends."""

from collections.abc import Awaitable, Callable
from html import escape
from http import HTTPStatus
from typing import Final

from mcp.server.transport_security import RequestBodyLimitMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import request_response
from starlette.types import ASGIApp, Receive, Scope, Send

from schema.common.errors import RateLimited
from service.http.pages.rendering import render_page
from service.http.rate_limit import RateLimiter, RateLimitStatus

_MAX_BODY_BYTES: Final = 64 * 1024


class AddressLimit:
    """Counts the requests of each address, before anything else of them is looked at."""

    def __init__(self, app: ASGIApp, refuse: Callable[[RateLimited], Response]) -> None:
        self._app = app
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on."""
        rate_limiter: RateLimiter = scope["app"].state.rate_limiter
        host, _ = scope.get("client") or ("", 0)
        try:
            await rate_limiter.count_sign_in_request(host)
        except RateLimited as error:
            await self._refuse(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def limit_body(handle: Callable[[Request], Awaitable[Response]]) -> ASGIApp:
    """Refuse longer bodies than a form of ours has."""
    return RequestBodyLimitMiddleware(request_response(handle), _MAX_BODY_BYTES)


def limit_page(handle: Callable[[Request], Awaitable[Response]]) -> ASGIApp:
    """Limit how often an address asks for a page, and how much it sends."""
    return AddressLimit(limit_body(handle), _refuse_person)


def _refuse_person(error: RateLimited) -> Response:
    return render_page(
        "This sign-in has to wait",
        f"<p>{escape(str(error))}</p>",
        HTTPStatus.TOO_MANY_REQUESTS,
        RateLimitStatus.from_refusal(error).to_headers(),
    )
