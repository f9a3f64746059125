"""The pages of connecting an account, and the ways back to them."""

from collections.abc import Awaitable, Callable
from functools import wraps
from html import escape
from http import HTTPStatus
from typing import Final, NoReturn

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from schema.common.errors import InDoubt, Unauthenticated, Unavailable
from schema.hub.oauth.upstream import TokenRefused
from service.http.connect.flow import CONNECT_LIFETIME, ConnectFlow, ConnectRefused, Purpose
from service.http.pages.cookies import BrowserCookie, digest_cookie
from service.http.pages.limits import limit_page
from service.http.pages.rendering import redirect_to, render_page

SIGN_IN_PATH: Final = "/connect/sign-in"
"""Where the authorization server sends a person back."""
HUB_PATH: Final = "/connect/hugging-face"
"""Where the Hub does."""

_START: Final = """<p>Holdfast acts at Hugging Face with your own account there. Connect it once,
and your programs need no Hugging Face token of yours.</p>
<p>You sign in at {issuer} first, then you let Holdfast act at Hugging Face, and then you see both
accounts before anything is stored.</p>
<form method="post" action="/connect">
<input type="hidden" name="browser" value="{browser}">
<button name="decision" value="allow">Connect</button>
<button name="decision" value="disconnect">Disconnect</button>
</form>"""
_CONFIRM: Final = """<p>From now on, whoever signs in here as the first acts at Hugging Face as the
second: launches jobs, calls models, and spends its money. Is each of them you?</p>
<dl>
<dt>Signed in at {issuer} as</dt><dd>{label}</dd>
<dt>The account at Hugging Face</dt><dd>{name}</dd>
<dt>It is granted</dt><dd>{grants}</dd>
</dl>
<form method="post" action="/connect/confirm">
<input type="hidden" name="confirmation" value="{sealed}">
<button name="decision" value="allow">Yes, connect them</button>
<button name="decision" value="deny">Cancel</button>
</form>"""
_CONFIRM_END: Final = """<p>Programs that sign in here as the first can then no longer act as the
second. Jobs that run go on at Hugging Face. Queued jobs and schedules wait for your next token,
unless they use another one of yours.</p>
<dl>
<dt>Signed in at {issuer} as</dt><dd>{label}</dd>
<dt>The account at Hugging Face</dt><dd>{subject_id}</dd>
</dl>
<form method="post" action="/connect/disconnect">
<input type="hidden" name="confirmation" value="{sealed}">
<button name="decision" value="allow">Disconnect</button>
<button name="decision" value="deny">Cancel</button>
</form>"""
_CONNECTED: Final = (
    "<p>{label} now acts as {name} at Hugging Face. You can close this page and go back to your "
    "program.</p>"
)
_CANCELLED: Final = "<p>Nothing was stored.{remark}</p>"
_DISCONNECTED: Final = "<p>The connection and its tokens are deleted here.{remark}</p>"
_AT_THE_HUB: Final = (
    " To take back what you have granted at Hugging Face as well, open its page of <a "
    'href="{url}/settings/connected-applications" rel="noreferrer">connected applications</a>.'
)
_NONE: Final = "<p>No Hugging Face account is connected with this sign-in.</p>"
_EXPIRED: Final = (
    "<p>This page is too old, or it was opened in another browser. Nothing was stored. <a "
    'href="/connect">Begin again.</a></p>'
)
_UNAVAILABLE: Final = "<p>{cause} Nothing was changed. Try again in a minute.</p>"
_IN_DOUBT: Final = (
    '<p>{cause} Wait a minute and <a href="/connect">begin again</a>: to do it twice does no '
    "harm.</p>"
)
_REFUSED: Final = '<p>{cause} Nothing was changed. <a href="/connect">Begin again.</a></p>'
_STOPPED: Final = "This cannot go on"

Handler = Callable[["ConnectPages", Request], Awaitable[Response]]

log = structlog.stdlib.get_logger()


class _Stopped(Exception):
    """The flow ends here: the step was not begun in this browser, or by nobody."""


def _answer_failures(handler: Handler) -> Handler:
    """Make a page of each failure; none repeats a code or a token."""

    @wraps(handler)
    async def answer(pages: "ConnectPages", request: Request) -> Response:
        try:
            return await handler(pages, request)
        except _Stopped:
            return render_page(_STOPPED, _EXPIRED, HTTPStatus.BAD_REQUEST)
        except InDoubt as error:
            content = _IN_DOUBT.format(cause=escape(str(error)))
            return render_page(_STOPPED, content, HTTPStatus.SERVICE_UNAVAILABLE)
        except Unavailable as error:
            content = _UNAVAILABLE.format(cause=escape(str(error)))
            return render_page(_STOPPED, content, HTTPStatus.SERVICE_UNAVAILABLE)
        except (ConnectRefused, Unauthenticated) as error:
            content = _REFUSED.format(cause=escape(str(error)))
            return render_page(_STOPPED, content, HTTPStatus.BAD_REQUEST)
        except TokenRefused as error:
            log.warning("connect.code_refused", error=error.reason[:100])
            content = _REFUSED.format(cause="The sign-in was refused, or it was finished before.")
            return render_page(_STOPPED, content, HTTPStatus.BAD_REQUEST)

    return answer


class ConnectPages:
    """What a person sees, or passes through, in their browser."""

    def __init__(self, flow: ConnectFlow, public_url: str) -> None:
        self._flow = flow
        self._cookie = BrowserCookie(
            "holdfast-connect",
            is_https=public_url.startswith("https://"),
            lifetime=CONNECT_LIFETIME,
        )

    async def show_start(self, request: Request) -> Response:
        """Show what connecting means; nothing begins before a button is pressed."""
        browser = self._cookie.read_or_make(request)
        content = _START.format(issuer=escape(self._flow.issuer), browser=escape(browser))
        page = render_page("Connect your Hugging Face account", content)
        self._cookie.set(page, browser)
        return page

    @_answer_failures
    async def begin(self, request: Request) -> Response:
        """Send the person to the authorization server."""
        form = await request.form()
        self._require_browser(request, digest_cookie(str(form.get("browser", ""))))
        is_end = form.get("decision") == "disconnect"
        purpose: Purpose = "disconnect" if is_end else "connect"
        browser_digest = digest_cookie(self._cookie.read(request))
        return redirect_to(await self._flow.begin(purpose, browser_digest))

    @_answer_failures
    async def return_from_sign_in(self, request: Request) -> Response:
        """Verify who has signed in, and send them on to the Hub, or show what is connected."""
        parameters = request.query_params
        step = self._flow.open_sign_in_step(parameters.get("state", ""))
        if step is None:
            raise _Stopped
        self._require_browser(request, step.browser_digest)
        if not await self._flow.is_sign_in_answer(parameters.get("iss")):
            raise _Stopped
        identity = await self._flow.identify(step, _require_code(request))
        if step.purpose == "connect":
            return redirect_to(await self._flow.go_to_hub(identity, step.browser_digest))
        connection = await self._flow.find_connection(identity, step.browser_digest)
        if connection is None:
            return render_page("Nothing is connected", _NONE)
        content = _CONFIRM_END.format(
            issuer=escape(connection.issuer),
            label=escape(connection.label),
            subject_id=escape(connection.subject_id),
            sealed=escape(self._flow.seal_confirmation(connection)),
        )
        return render_page("Disconnect this account?", content)

    @_answer_failures
    async def return_from_hub(self, request: Request) -> Response:
        """Show both accounts, and ask whether they belong together."""
        parameters = request.query_params
        step = self._flow.open_hub_step(parameters.get("state", ""))
        if step is None:
            raise _Stopped
        self._require_browser(request, step.browser_digest)
        if not await self._flow.is_hub_answer(parameters.get("iss")):
            raise _Stopped
        account = await self._flow.obtain_account(step, _require_code(request))
        content = _CONFIRM.format(
            issuer=escape(account.issuer),
            label=escape(account.label),
            name=escape(account.name),
            grants=escape(", ".join(account.grants)),
            sealed=escape(self._flow.seal_confirmation(account)),
        )
        return render_page("Connect these two accounts?", content)

    @_answer_failures
    async def confirm(self, request: Request) -> Response:
        """Store what the person has seen and confirmed."""
        form = await request.form()
        confirmed = self._flow.open_connect_confirmation(str(form.get("confirmation", "")))
        if confirmed is None:
            raise _Stopped
        self._require_browser(request, confirmed.browser_digest)
        if form.get("decision") != "allow":
            is_revoked = await self._flow.cancel(confirmed)
            return self._end(
                "Not connected", _CANCELLED.format(remark=self._remark(is_revoked=is_revoked))
            )
        await self._flow.connect(confirmed)
        content = _CONNECTED.format(label=escape(confirmed.label), name=escape(confirmed.name))
        return self._end("Connected", content)

    @_answer_failures
    async def disconnect(self, request: Request) -> Response:
        """Delete the connection that the person has seen."""
        form = await request.form()
        confirmed = self._flow.open_disconnect_confirmation(str(form.get("confirmation", "")))
        if confirmed is None:
            raise _Stopped
        self._require_browser(request, confirmed.browser_digest)
        if form.get("decision") != "allow":
            return self._end("Still connected", "<p>Nothing was changed.</p>")
        is_revoked = await self._flow.disconnect(confirmed)
        content = _DISCONNECTED.format(remark=self._remark(is_revoked=is_revoked))
        return self._end("Disconnected", content)

    def _remark(self, *, is_revoked: bool) -> str:
        return "" if is_revoked else _AT_THE_HUB.format(url=escape(self._flow.hub_url))

    def _require_browser(self, request: Request, digest: str) -> None:
        if not self._cookie.is_from(request, digest):
            raise _Stopped

    def _end(self, title: str, content: str) -> Response:
        # Without its cookie the browser cannot send the same form again.
        page = render_page(title, content)
        self._cookie.clear(page)
        return page


def _require_code(request: Request) -> str:
    code = request.query_params.get("code")
    if not code:
        _refuse_answer(request.query_params.get("error", ""))
    return code


def _refuse_answer(error: str) -> NoReturn:
    cause = "You chose not to." if error == "access_denied" else "The sign-in has failed there."
    raise ConnectRefused(cause)


def build_connect_routes(get_pages: Callable[[], ConnectPages]) -> list[Route]:
    """Build the routes.

    Args:
        get_pages: called with each request; the pages are opened after the routes.
    """

    def call(handler: Handler) -> ASGIApp:
        async def endpoint(request: Request) -> Response:
            return await handler(get_pages(), request)

        return limit_page(endpoint)

    return [
        Route("/connect", call(ConnectPages.show_start), methods=["GET"]),
        Route("/connect", call(ConnectPages.begin), methods=["POST"]),
        Route(SIGN_IN_PATH, call(ConnectPages.return_from_sign_in), methods=["GET"]),
        Route(HUB_PATH, call(ConnectPages.return_from_hub), methods=["GET"]),
        Route("/connect/confirm", call(ConnectPages.confirm), methods=["POST"]),
        Route("/connect/disconnect", call(ConnectPages.disconnect), methods=["POST"]),
    ]
