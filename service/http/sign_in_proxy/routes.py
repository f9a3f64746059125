"""The routes of the sign-in proxy: metadata, registration, consent, and the way back.

client → /oauth/authorize → /oauth/consent → the authorization server → /oauth/callback → client
                            (a person agrees)   (they sign in)
client → /oauth/token → its token endpoint
"""

import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from html import escape
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from mcp.server.auth.handlers.authorize import AuthorizationHandler
from mcp.server.auth.handlers.register import RegistrationHandler
from mcp.server.auth.handlers.token import TokenHandler
from mcp.server.auth.middleware.client_auth import ClientAuthenticator
from mcp.server.auth.settings import ClientRegistrationOptions
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from schema.common.errors import RateLimited, Unavailable
from schema.common.http import retry_after_header
from schema.hub.oauth.upstream import IssuerMetadata
from service.http.pages.cookies import BrowserCookie, digest_cookie
from service.http.pages.limits import AddressLimit, limit_body, limit_page
from service.http.pages.rendering import redirect_to, render_page
from service.http.rate_limit import RateLimiter, RateLimitStatus
from service.http.sign_in_proxy.provider import SIGN_IN_LIFETIME, SignInProxy, SignInRequest

METADATA_PATH: Final = "/.well-known/oauth-authorization-server"
_MAX_DESCRIPTION_CHARS: Final = 300
_ERROR_CODE: Final = re.compile(r"[a-z_]{1,50}")
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

    return Route(METADATA_PATH, _with_cors(limit_body(serve_metadata)), methods=["GET", "OPTIONS"])


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
            await _count_token_request(proxy, request)
            answer: Response = await token_handler.handle(request)
        except RateLimited as error:
            return _refuse_client(error)
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
        Route(METADATA_PATH, _with_cors(limit_body(serve_metadata)), methods=["GET", "OPTIONS"]),
        Route("/oauth/register", _limit_endpoint(register), methods=["POST", "OPTIONS"]),
        Route("/oauth/authorize", limit_page(authorize), methods=["GET", "POST"]),
        Route("/oauth/consent", limit_page(browser.ask), methods=["GET"]),
        Route("/oauth/consent", limit_page(browser.decide), methods=["POST"]),
        Route("/oauth/callback", limit_page(browser.return_to_client), methods=["GET"]),
        Route("/oauth/token", _with_cors(limit_body(redeem), "POST"), methods=["POST", "OPTIONS"]),
    ]


class _BrowserPages:
    """What a person sees, or passes through, in their browser."""

    def __init__(self, proxy: SignInProxy) -> None:
        self._proxy = proxy
        self._cookie = BrowserCookie(
            "holdfast-sign-in",
            is_https=proxy.public_url.startswith("https://"),
            lifetime=SIGN_IN_LIFETIME,
        )

    async def ask(self, request: Request) -> Response:
        """Ask a person whether the client may sign them in."""
        sealed = request.query_params.get("request", "")
        opened = self._proxy.open_request(sealed)
        if opened is None:
            return render_page("This sign-in cannot go on", _EXPIRED, HTTPStatus.BAD_REQUEST)
        browser = self._cookie.read_or_make(request)
        question = _QUESTION.format(
            name=escape(opened.client_name),
            destination=escape(_destination(opened.redirect_uri)),
            issuer=escape(self._proxy.upstream.issuer),
            scopes=escape(", ".join(opened.scopes)),
            request=escape(sealed),
            browser=escape(browser),
        )
        page = render_page("Let this program use Holdfast?", question)
        self._cookie.set(page, browser)
        return page

    async def decide(self, request: Request) -> Response:
        """Send a person who agrees to the authorization server, and back one who does not."""
        form = await request.form()
        browser = self._cookie.read(request)
        opened = self._proxy.open_request(str(form.get("request", "")))
        # A page of another origin can post the form, but neither read nor set the cookie.
        is_same = hmac.compare_digest(str(form.get("browser", "")).encode(), browser.encode())
        if opened is None or not browser or not is_same:
            return render_page("This sign-in cannot go on", _EXPIRED, HTTPStatus.BAD_REQUEST)
        if form.get("decision") != "allow":
            return self._redirect_to_client(
                opened, error="access_denied", error_description="The person chose Cancel."
            )
        try:
            url = await self._proxy.send_upstream(opened, digest_cookie(browser))
        except Unavailable:
            return render_page(
                "This sign-in cannot go on", _UNAVAILABLE, HTTPStatus.SERVICE_UNAVAILABLE
            )
        return redirect_to(url)

    async def return_to_client(self, request: Request) -> Response:
        """Send a person who has signed in back to the client, with a code of ours."""
        parameters = request.query_params
        state = self._proxy.open_state(parameters.get("state", ""))
        if state is None or not self._cookie.is_from(request, state.browser_digest):
            return render_page("This sign-in cannot go on", _EXPIRED, HTTPStatus.BAD_REQUEST)
        if not await self._proxy.upstream.is_own_answer(parameters.get("iss")):
            return render_page("This sign-in cannot go on", _EXPIRED, HTTPStatus.BAD_REQUEST)
        if code := parameters.get("code"):
            return self._redirect_to_client(state.request, code=self._proxy.issue_code(state, code))
        error = parameters.get("error", "")
        return self._redirect_to_client(
            state.request,
            error=error if _ERROR_CODE.fullmatch(error) else "server_error",
            error_description=parameters.get("error_description", "")[:_MAX_DESCRIPTION_CHARS],
        )

    def _redirect_to_client(self, request: SignInRequest, **parameters: str) -> Response:
        answer = {name: value for name, value in parameters.items() if value}
        if request.state is not None:
            answer["state"] = request.state
        answer["iss"] = self._proxy.public_url
        separator = "&" if urlsplit(request.redirect_uri).query else "?"
        url = f"{request.redirect_uri}{separator}{urlencode(answer)}"
        return redirect_to(url)


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


def _destination(redirect_uri: str) -> str:
    """Name the place of an address: a person decides by its host."""
    parts = urlsplit(redirect_uri)
    return f"{parts.scheme}://{parts.netloc}"


async def _count_token_request(proxy: SignInProxy, request: Request) -> None:
    """Count a request for tokens before anybody else is asked.

    Raises:
        RateLimited: there were too many lately.
        HTTPException: its body is no form.
    """
    rate_limiter: RateLimiter = request.app.state.rate_limiter
    host = "" if request.client is None else request.client.host
    try:
        form = await request.form()
    except HTTPException:
        await rate_limiter.count_sign_in_request(host)
        raise
    client_id = str(form.get("client_id", ""))
    await rate_limiter.count_token_request(
        host,
        grant_id=proxy.identify_grant(form),
        client_id=None if await proxy.get_client(client_id) is None else client_id,
    )


def _refuse_client(error: RateLimited) -> Response:
    body = {"error": "temporarily_unavailable", "error_description": str(error)}
    headers = RateLimitStatus.from_refusal(error).to_headers()
    return JSONResponse(body, HTTPStatus.TOO_MANY_REQUESTS, headers)


def _limit_endpoint(handle: Callable[[Request], Awaitable[Response]]) -> ASGIApp:
    return _with_cors(AddressLimit(limit_body(handle), _refuse_client), "POST")


def _with_cors(app: ASGIApp, method: str = "GET") -> ASGIApp:
    """Let pages of every origin call; a browser adds no credential of this service by itself."""
    return CORSMiddleware(
        app,
        allow_origins=["*"],
        allow_methods=[method, "OPTIONS"],
        allow_headers=["*"],
    )
