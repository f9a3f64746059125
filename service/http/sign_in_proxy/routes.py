"""The routes of the sign-in proxy: metadata, registration, consent, and the way back.

client → /oauth/authorize → /oauth/consent → the authorization server → /oauth/callback → client
                            (a person agrees)   (they sign in)
client → /oauth/token → its token endpoint
"""

import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from html import escape
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from mcp.server.auth.handlers.authorize import AuthorizationHandler
from mcp.server.auth.handlers.register import RegistrationHandler
from mcp.server.auth.handlers.token import TokenHandler
from mcp.server.auth.middleware.client_auth import ClientAuthenticator
from mcp.server.auth.settings import ClientRegistrationOptions
from mcp.server.transport_security import RequestBodyLimitMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route, request_response
from starlette.types import ASGIApp, Receive, Scope, Send

from schema.common.errors import RateLimited, Unavailable
from schema.common.http import retry_after_header
from service.auth.upstream import IssuerMetadata
from service.http.rate_limit import RateLimiter, RateLimitStatus
from service.http.sign_in_proxy.provider import SIGN_IN_LIFETIME, SignInProxy, SignInRequest

METADATA_PATH: Final = "/.well-known/oauth-authorization-server"
_MAX_BODY_BYTES: Final = 64 * 1024
_MAX_DESCRIPTION_CHARS: Final = 300
_ERROR_CODE: Final = re.compile(r"[a-z_]{1,50}")
_COOKIE: Final = "holdfast-sign-in"
_PAGE_HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
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
_QUESTION: Final = """<p>A program asks to use Holdfast in your name. If you did not start a sign-in
in it just now, choose Cancel.</p>
<dl>
<dt>The program calls itself</dt><dd>{name}</dd>
<dt>You are sent back to</dt><dd>{destination}</dd>
<dt>You sign in at</dt><dd>{issuer}</dd>
<dt>It asks for</dt><dd>{scopes}</dd>
</dl>
<form method="post" action="consent">
<input type="hidden" name="request" value="{request}">
<input type="hidden" name="browser" value="{browser}">
<button name="decision" value="allow">Continue</button>
<button name="decision" value="deny">Cancel</button>
</form>"""
_EXPIRED: Final = (
    "<p>This page is too old, or it was opened in another browser. Start the sign-in again in your "
    "program.</p>"
)
_TOO_OFTEN: Final = "<p>{sentence}</p>"
_UNAVAILABLE: Final = (
    "<p>The authorization server does not answer at the moment. Try again in a minute.</p>"
)


def build_mirror_route(metadata: IssuerMetadata) -> Route:
    """Build the route where clients of protocol 2025-03-26 look for the authorization server.

    They know no protected resource metadata, and ask at our own origin.
    """

    async def serve_metadata(_: Request) -> Response:
        try:
            return JSONResponse(await metadata.fetch_document())
        except Unavailable as error:
            headers = retry_after_header(error.retry_after)
            body = {"error": "temporarily_unavailable", "error_description": str(error)}
            return JSONResponse(body, HTTPStatus.SERVICE_UNAVAILABLE, headers)

    return Route(METADATA_PATH, _with_cors(_limit_body(serve_metadata)), methods=["GET", "OPTIONS"])


def build_proxy_routes(proxy: SignInProxy, metadata: Mapping[str, Any]) -> list[Route]:
    """Build the routes of a proxy.

    Args:
        proxy: answers them.
        metadata: what else the metadata says, such as the scopes.
    """
    browser = _BrowserPages(proxy)
    token_handler = TokenHandler(proxy, ClientAuthenticator(proxy))
    registration = RegistrationHandler(proxy, ClientRegistrationOptions(enabled=True))

    async def serve_metadata(_: Request) -> Response:
        return JSONResponse(_build_metadata(proxy.public_url, metadata))

    async def redeem(request: Request) -> Response:
        try:
            answer: Response = await token_handler.handle(request)
        except Unavailable as error:
            return JSONResponse(
                {"error": "temporarily_unavailable", "error_description": str(error)},
                HTTPStatus.SERVICE_UNAVAILABLE,
                retry_after_header(error.retry_after),
            )
        return answer

    async def register(request: Request) -> Response:
        # A page of another origin can post text unasked, but not JSON.
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return JSONResponse({"error": "invalid_client_metadata"}, HTTPStatus.BAD_REQUEST)
        return await registration.handle(request)

    authorize = AuthorizationHandler(proxy).handle
    return [
        Route(METADATA_PATH, _with_cors(_limit_body(serve_metadata)), methods=["GET", "OPTIONS"]),
        Route("/oauth/register", _limit_endpoint(register), methods=["POST", "OPTIONS"]),
        Route("/oauth/authorize", _limit_page(authorize), methods=["GET", "POST"]),
        Route("/oauth/consent", _limit_page(browser.ask), methods=["GET"]),
        Route("/oauth/consent", _limit_page(browser.decide), methods=["POST"]),
        Route("/oauth/callback", _limit_page(browser.return_to_client), methods=["GET"]),
        Route("/oauth/token", _limit_endpoint(redeem), methods=["POST", "OPTIONS"]),
    ]


class _BrowserPages:
    """What a person sees, or passes through, in their browser."""

    def __init__(self, proxy: SignInProxy) -> None:
        self._proxy = proxy
        self._is_https = proxy.public_url.startswith("https://")
        # The prefix keeps other hosts of the same domain from setting it (RFC 6265bis).
        self._cookie = f"__Host-{_COOKIE}" if self._is_https else _COOKIE

    async def ask(self, request: Request) -> Response:
        """Ask a person whether the client may sign them in."""
        sealed = request.query_params.get("request", "")
        opened = self._proxy.open_request(sealed)
        if opened is None:
            return _page("This sign-in cannot go on", _EXPIRED, HTTPStatus.BAD_REQUEST)
        browser = request.cookies.get(self._cookie) or secrets.token_urlsafe(32)
        question = _QUESTION.format(
            name=escape(opened.client_name),
            destination=escape(_destination(opened.redirect_uri)),
            issuer=escape(self._proxy.upstream.issuer),
            scopes=escape(", ".join(opened.scopes)),
            request=escape(sealed),
            browser=escape(browser),
        )
        page = _page("Let this program use Holdfast?", question)
        page.set_cookie(
            self._cookie,
            browser,
            max_age=int(SIGN_IN_LIFETIME.total_seconds()),
            secure=self._is_https,
            httponly=True,
            samesite="lax",
        )
        return page

    async def decide(self, request: Request) -> Response:
        """Send a person who agrees to the authorization server, and back one who does not."""
        form = await request.form()
        browser = request.cookies.get(self._cookie, "")
        opened = self._proxy.open_request(str(form.get("request", "")))
        # A page of another origin can post the form, but neither read nor set the cookie.
        is_same = hmac.compare_digest(str(form.get("browser", "")).encode(), browser.encode())
        if opened is None or not browser or not is_same:
            return _page("This sign-in cannot go on", _EXPIRED, HTTPStatus.BAD_REQUEST)
        if form.get("decision") != "allow":
            return self._redirect_to_client(
                opened, error="access_denied", error_description="The person chose Cancel."
            )
        try:
            url = await self._proxy.send_upstream(opened, _digest(browser))
        except Unavailable:
            return _page("This sign-in cannot go on", _UNAVAILABLE, HTTPStatus.SERVICE_UNAVAILABLE)
        return RedirectResponse(url, HTTPStatus.SEE_OTHER, _PAGE_HEADERS)

    async def return_to_client(self, request: Request) -> Response:
        """Send a person who has signed in back to the client, with a code of ours."""
        parameters = request.query_params
        state = self._proxy.open_state(parameters.get("state", ""))
        browser = request.cookies.get(self._cookie, "")
        if state is None or not hmac.compare_digest(state.browser_digest, _digest(browser)):
            return _page("This sign-in cannot go on", _EXPIRED, HTTPStatus.BAD_REQUEST)
        if not await self._is_from_upstream(parameters.get("iss")):
            return _page("This sign-in cannot go on", _EXPIRED, HTTPStatus.BAD_REQUEST)
        if code := parameters.get("code"):
            return self._redirect_to_client(state.request, code=self._proxy.issue_code(state, code))
        error = parameters.get("error", "")
        return self._redirect_to_client(
            state.request,
            error=error if _ERROR_CODE.fullmatch(error) else "server_error",
            error_description=parameters.get("error_description", "")[:_MAX_DESCRIPTION_CHARS],
        )

    async def _is_from_upstream(self, issuer: str | None) -> bool:
        """Say whether an answer is from our server, and not from another one (RFC 9207)."""
        if issuer is not None:
            return issuer == self._proxy.upstream.issuer
        try:
            metadata = await self._proxy.upstream.fetch_metadata()
        except Unavailable:
            return False
        return not metadata.authorization_response_iss_parameter_supported

    def _redirect_to_client(self, request: SignInRequest, **parameters: str) -> Response:
        answer = {name: value for name, value in parameters.items() if value}
        if request.state is not None:
            answer["state"] = request.state
        answer["iss"] = self._proxy.public_url
        separator = "&" if urlsplit(request.redirect_uri).query else "?"
        url = f"{request.redirect_uri}{separator}{urlencode(answer)}"
        return RedirectResponse(url, HTTPStatus.SEE_OTHER, _PAGE_HEADERS)


def _build_metadata(public_url: str, others: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "issuer": public_url,
        "authorization_endpoint": f"{public_url}/oauth/authorize",
        "token_endpoint": f"{public_url}/oauth/token",
        "registration_endpoint": f"{public_url}/oauth/register",
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_methods_supported": [
            *("none", "client_secret_post", "client_secret_basic"),
        ],
        "code_challenge_methods_supported": ["S256"],
        **others,
    }


def _page(
    title: str,
    content: str,
    status: HTTPStatus = HTTPStatus.OK,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> HTMLResponse:
    page = _PAGE.format(title=title, content=content)
    return HTMLResponse(page, status, {**_PAGE_HEADERS, **headers})


def _destination(redirect_uri: str) -> str:
    """Name the place of an address: a person decides by its host."""
    parts = urlsplit(redirect_uri)
    return f"{parts.scheme}://{parts.netloc}"


def _digest(browser: str) -> str:
    return sha256(browser.encode()).hexdigest()


class _AddressLimit:
    """Counts the requests of each address, before anything else of them is looked at."""

    def __init__(self, app: ASGIApp, refuse: Callable[[RateLimited], Response]) -> None:
        self._app = app
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        rate_limiter: RateLimiter = scope["app"].state.rate_limiter
        host, _ = scope.get("client") or ("", 0)
        try:
            await rate_limiter.count_sign_in_request(host)
        except RateLimited as error:
            await self._refuse(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _refuse_client(error: RateLimited) -> Response:
    body = {"error": "temporarily_unavailable", "error_description": str(error)}
    headers = RateLimitStatus.from_refusal(error).to_headers()
    return JSONResponse(body, HTTPStatus.TOO_MANY_REQUESTS, headers)


def _refuse_person(error: RateLimited) -> Response:
    return _page(
        "This sign-in has to wait",
        _TOO_OFTEN.format(sentence=escape(str(error))),
        HTTPStatus.TOO_MANY_REQUESTS,
        RateLimitStatus.from_refusal(error).to_headers(),
    )


def _limit_endpoint(handle: Callable[[Request], Awaitable[Response]]) -> ASGIApp:
    return _with_cors(_AddressLimit(_limit_body(handle), _refuse_client), "POST")


def _limit_page(handle: Callable[[Request], Awaitable[Response]]) -> ASGIApp:
    return _AddressLimit(_limit_body(handle), _refuse_person)


def _limit_body(handle: Callable[[Request], Awaitable[Response]]) -> ASGIApp:
    return RequestBodyLimitMiddleware(request_response(handle), _MAX_BODY_BYTES)


def _with_cors(app: ASGIApp, method: str = "GET") -> ASGIApp:
    """Let pages of every origin call; a browser adds no credential of this service by itself."""
    return CORSMiddleware(
        app,
        allow_origins=["*"],
        allow_methods=[method, "OPTIONS"],
        allow_headers=["*"],
    )
