"""The pages of signing in and out, and the way to every page that needs somebody."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final
from urllib.parse import quote, urlsplit

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from schema.common.errors import HoldfastError, NotFound, RateLimited, Unauthenticated, Unavailable
from schema.common.http import loopback_aliases
from schema.hub.oauth.upstream import TokenRefused
from service.auth.caller import Caller
from service.auth.connected_accounts import ConnectionLost, HubAuthorityMissing
from service.http.pages.cookies import BrowserCookie, digest_cookie
from service.http.pages.limits import limit_body, limit_page
from service.http.pages.rendering import PAGE_HEADERS, respond_with_template
from service.http.rate_limit import RateLimiter
from service.web.browser_sign_in import (
    CALLBACK_PATH,
    SIGN_IN_LIFETIME,
    BrowserSignIn,
    SignInAttempt,
    SignInFailed,
    local_path,
)
from service.web.errors import respond_with_error, respond_with_failure, respond_with_not_found
from service.web.sessions import CSRF_FIELD, BrowserSession, Sessions

SIGN_IN_PATH: Final = "/sign-in"
SIGN_OUT_PATH: Final = "/sign-out"
_STALE: Final = (
    "This sign-in is too old, or it was begun in another browser. Nobody is signed in by it."
)
_DENIED: Final = "You chose not to sign in, or Hugging Face did not let you. Nothing was changed."
_REFUSED_CODE: Final = "Hugging Face refused this sign-in, or it was finished before."
_FORM_REFUSED: Final = (
    "The form was not shown to you by this page, or it is too old, so nothing was done. Go back, "
    "load the page again, and press the button once more."
)

log = structlog.stdlib.get_logger()


class AccountPages:
    """Signs people in and out, and lets signed-in people pass."""

    def __init__(self, sign_in: BrowserSignIn, sessions: Sessions, public_url: str) -> None:
        self._sign_in = sign_in
        self._sessions = sessions
        self._public_url = public_url
        self._cookie = BrowserCookie(
            "holdfast-browser",
            is_https=public_url.startswith("https://"),
            lifetime=SIGN_IN_LIFETIME,
        )

    async def begin(self, request: Request) -> Response:
        """Send the browser to the Hub, with a cookie that only this browser has."""
        next_path = local_path(request.query_params.get("next", ""))
        if other := self._other_name_of_this_machine(request):
            return _redirect(f"{other}{SIGN_IN_PATH}?next={quote(next_path, safe='')}")
        browser = self._cookie.read_or_make(request)
        try:
            response = _redirect(await self._sign_in.begin(next_path, digest_cookie(browser)))
        except Unavailable as error:
            return respond_with_failure(error)
        self._cookie.set(response, browser)
        return response

    async def finish(self, request: Request) -> Response:
        """Make the session of whoever has signed in at the Hub; the session before ends."""
        try:
            attempt = self._open_attempt(request)
            session = await self._make_session(request, attempt)
        except TokenRefused as error:
            log.warning("sign_in.code_refused", error=error.reason[:100])
            return _refuse(_REFUSED_CODE)
        except (SignInFailed, Unauthenticated) as error:
            return _refuse(str(error))
        except HoldfastError as error:
            return respond_with_failure(error)
        response = _redirect(attempt.next_path)
        self._cookie.clear(response)
        self._sessions.set(response, session)
        return response

    def _open_attempt(self, request: Request) -> SignInAttempt:
        attempt = self._sign_in.open_attempt(request.query_params.get("state", ""))
        if attempt is None or not self._cookie.is_from(request, attempt.browser_digest):
            raise SignInFailed(_STALE)
        return attempt

    async def _make_session(self, request: Request, attempt: SignInAttempt) -> BrowserSession:
        parameters = request.query_params
        if not await self._sign_in.is_hub_answer(parameters.get("iss")):
            raise SignInFailed(_STALE)
        code = parameters.get("code")
        if not code:
            raise SignInFailed(_DENIED)
        session = await self._sign_in.finish(attempt, code)
        before = self._sessions.read(request)
        if before is not None:
            await self._sign_in.end(before)
        return session

    async def sign_out(self, request: Request) -> Response:
        """End the session."""
        session = self._sessions.read(request)
        response: Response = _redirect("/")
        if session is not None:
            if not await self.accepts_form(request, session):
                return refuse_form()
            try:
                await self._sign_in.end(session)
            except Unavailable as error:
                return respond_with_failure(error)
        self._sessions.clear(response)
        return response

    async def accepts_form(self, request: Request, session: BrowserSession) -> bool:
        """Say whether a form was shown to this session by us."""
        form = await request.form()
        return self._sessions.accepts_form(session, str(form.get(CSRF_FIELD, "")))

    async def identify(self, request: Request) -> tuple[BrowserSession, Caller] | Response:
        """Return who asks; or where they sign in, or why that cannot be known now."""
        session = self._sessions.read(request)
        if session is None:
            return self.ask_to_sign_in(request)
        rate_limiter: RateLimiter = request.app.state.rate_limiter
        try:
            caller = await self._sign_in.authenticate(session)
            await rate_limiter.count_call(caller.subject_id)
        except (HubAuthorityMissing, ConnectionLost):
            response = self.ask_to_sign_in(request)
            self._sessions.clear(response)
            return response
        except (RateLimited, Unavailable, Unauthenticated) as error:
            return respond_with_failure(error)
        return session, caller

    def ask_to_sign_in(self, request: Request) -> Response:
        """Ask a person to sign in, and bring them back afterwards."""
        query = f"?{request.url.query}" if request.url.query else ""
        next_path = local_path(request.url.path + query) if request.method == "GET" else "/jobs"
        return respond_with_template(
            "sign_in.html",
            status=HTTPStatus.UNAUTHORIZED,
            link=f"{SIGN_IN_PATH}?next={quote(next_path, safe='')}",
        )

    def _other_name_of_this_machine(self, request: Request) -> str | None:
        """Return our own address, if the browser has come by another name of this machine.

        The cookie would be one of that name, and the Hub sends the browser back to ours.
        """
        names = {urlsplit(url).netloc for url in loopback_aliases(self._public_url)}
        host = request.headers.get("host", "")
        own = urlsplit(self._public_url).netloc
        return self._public_url if host != own and host in names else None


Page = Callable[[Request, Caller], Awaitable[Response]]
"""A page that needs somebody."""


def require_session(get_pages: Callable[[], AccountPages], page: Page) -> ASGIApp:
    """Let signed-in people pass; a form has to be one that we have shown them.

    What is somebody else's is answered as what does not exist.
    """

    async def endpoint(request: Request) -> Response:
        pages = get_pages()
        identified = await pages.identify(request)
        if isinstance(identified, Response):
            return identified
        session, caller = identified
        if request.method == "POST" and not await pages.accepts_form(request, session):
            return refuse_form()
        try:
            return await page(request, caller)
        except NotFound:
            return respond_with_not_found()
        except HoldfastError as error:
            return respond_with_failure(error)

    return limit_body(endpoint)


def build_account_routes(get_pages: Callable[[], AccountPages]) -> list[Route]:
    """Build the routes of signing in and out.

    Args:
        get_pages: called with each request; the pages are opened after the routes.
    """

    async def begin(request: Request) -> Response:
        return await get_pages().begin(request)

    async def finish(request: Request) -> Response:
        return await get_pages().finish(request)

    async def sign_out(request: Request) -> Response:
        return await get_pages().sign_out(request)

    return [
        Route(SIGN_IN_PATH, limit_page(begin), methods=["GET"]),
        Route(CALLBACK_PATH, limit_page(finish), methods=["GET"]),
        Route(SIGN_OUT_PATH, limit_body(sign_out), methods=["POST"]),
    ]


def build_missing_routes(sentence: str, link: str, link_text: str) -> list[Route]:
    """Build the page that says why nobody can sign in here."""

    async def say_why(_: Request) -> Response:
        return respond_with_error(
            HTTPStatus.NOT_FOUND,
            "No sign-in on these pages",
            sentence,
            link=link,
            link_text=link_text,
        )

    return [Route(path, say_why) for path in (SIGN_IN_PATH, "/jobs", "/jobs/{handle}")]


def refuse_form() -> Response:
    """Answer a form that another site may have sent."""
    return respond_with_error(HTTPStatus.FORBIDDEN, "Nothing was done", _FORM_REFUSED)


def _refuse(sentence: str) -> Response:
    return respond_with_error(
        HTTPStatus.BAD_REQUEST,
        "Not signed in",
        sentence,
        link=SIGN_IN_PATH,
        link_text="Begin again",
    )


def _redirect(url: str) -> Response:
    return RedirectResponse(url, HTTPStatus.SEE_OTHER, PAGE_HEADERS)
