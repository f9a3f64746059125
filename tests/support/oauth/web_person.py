"""A person who signs in on the pages with their account at the Hub."""

import html
import re
from dataclasses import dataclass

import httpx2

from tests.support.oauth.connecting import ConnectingBrowser

SESSION_COOKIE = "holdfast-session"
_CSRF = re.compile(r'name="csrf" value="([^"]+)"')


@dataclass(slots=True)
class WebPerson:
    """One browser, with its cookies."""

    http: httpx2.AsyncClient
    service_url: str
    user: str

    @property
    def session(self) -> str | None:
        """The cookie of the session."""
        return self.http.cookies.get(SESSION_COOKIE)

    async def get(self, path: str) -> httpx2.Response:
        """Open a page; no redirect is followed."""
        return await self.http.get(f"{self.service_url}{path}")

    async def post(self, path: str, **form: str) -> httpx2.Response:
        """Send a form."""
        return await self.http.post(f"{self.service_url}{path}", data=form)

    async def begin(self, next_path: str = "/jobs") -> str:
        """Begin to sign in; return where the Hub asks for consent."""
        answer = await self.http.get(f"{self.service_url}/sign-in", params={"next": next_path})
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"])

    async def consent(self, hub_url: str) -> str:
        """Allow it at the Hub; return the way back."""
        return await ConnectingBrowser(self.http, self.service_url, self.user).consent(hub_url)

    async def sign_in(self, next_path: str = "/jobs") -> httpx2.Response:
        """Sign in, up to the redirect to the page that was wanted."""
        return await self.http.get(await self.consent(await self.begin(next_path)))

    async def read_csrf_token(self, path: str = "/jobs") -> str:
        """Return the token of the forms of a page."""
        [token, *_] = _CSRF.findall((await self.get(path)).text)
        return html.unescape(token)
