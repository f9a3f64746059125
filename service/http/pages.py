"""Pages of ours that a person sees on the way through a sign-in, and the cookie that ties them.

What a page carries is sealed with the digest of the cookie in it. So only the browser that began a
flow can go on with it: another one has another cookie, or none, and a page of another origin can
post a form, but neither read nor set the cookie.
"""

import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from hashlib import sha256
from html import escape
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from mcp.server.transport_security import RequestBodyLimitMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import request_response
from starlette.types import ASGIApp, Receive, Scope, Send

from schema.common.errors import RateLimited
from service.http.rate_limit import RateLimiter, RateLimitStatus

PAGE_HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_MAX_BODY_BYTES: Final = 64 * 1024
_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Holdfast: sign in</title>
<style>
:root {{ color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }}
main {{ max-width: 34rem; margin: 10vh auto; padding: 0 1rem }}
dt {{ font-weight: 600 }}
dd {{ margin: 0 0 .75rem; overflow-wrap: anywhere }}
button {{ font: inherit; padding: .5rem 1.25rem; margin-right: .5rem }}
</style>
<main>
<h1>{title}</h1>
{content}
</main>
</html>
"""

_TOO_OFTEN: Final = "<p>{sentence}</p>"


class BrowserCookie:
    """A random value that one browser holds while its person goes through a flow."""

    def __init__(self, name: str, *, is_https: bool, lifetime: timedelta) -> None:
        """Name the cookie.

        Args:
            is_https: whether browsers reach the service by HTTPS.
            lifetime: how long the flow may take.
        """
        # The prefix keeps other hosts of the same domain from setting it (RFC 6265bis).
        self.name = f"__Host-{name}" if is_https else name
        self._is_https = is_https
        self._lifetime = lifetime

    def read(self, request: Request) -> str:
        """Return the value that the browser sent; empty if it has none."""
        return request.cookies.get(self.name, "")

    def read_or_make(self, request: Request) -> str:
        """Return the value that the browser sent, or another one to set."""
        return self.read(request) or secrets.token_urlsafe(32)

    def is_from(self, request: Request, digest: str) -> bool:
        """Say whether a request comes from the browser with the cookie of this digest."""
        value = self.read(request)
        return bool(value) and hmac.compare_digest(digest, digest_cookie(value))

    def set(self, response: Response, value: str) -> None:
        """Give the browser its value."""
        response.set_cookie(
            self.name,
            value,
            max_age=int(self._lifetime.total_seconds()),
            secure=self._is_https,
            httponly=True,
            samesite="lax",
        )

    def clear(self, response: Response) -> None:
        """End the flow: what was sealed for this browser is worth nothing any more."""
        response.delete_cookie(self.name, secure=self._is_https, httponly=True, samesite="lax")


def digest_cookie(value: str) -> str:
    """Return the digest of a cookie, which may be sealed into what is given away."""
    return sha256(value.encode()).hexdigest()


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


def render_page(
    title: str,
    content: str,
    status: HTTPStatus = HTTPStatus.OK,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> HTMLResponse:
    """Return a page; the content is HTML."""
    page = _PAGE.format(title=title, content=content)
    return HTMLResponse(page, status, {**PAGE_HEADERS, **headers})


def redirect_to(url: str) -> RedirectResponse:
    """Send the browser on; it does not send the form there."""
    return RedirectResponse(url, HTTPStatus.SEE_OTHER, PAGE_HEADERS)


def limit_body(handle: Callable[[Request], Awaitable[Response]]) -> ASGIApp:
    """Refuse longer bodies than a form of ours has."""
    return RequestBodyLimitMiddleware(request_response(handle), _MAX_BODY_BYTES)


def limit_page(handle: Callable[[Request], Awaitable[Response]]) -> ASGIApp:
    """Limit how often an address asks for a page, and how much it sends."""
    return AddressLimit(limit_body(handle), _refuse_person)


def _refuse_person(error: RateLimited) -> Response:
    return render_page(
        "This sign-in has to wait",
        _TOO_OFTEN.format(sentence=escape(str(error))),
        HTTPStatus.TOO_MANY_REQUESTS,
        RateLimitStatus.from_refusal(error).to_headers(),
    )
