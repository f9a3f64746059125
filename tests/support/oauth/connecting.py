"""A person who connects their account at the Hub in a browser, step by step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import httpx2

from tests.support.oauth.consent_browser import ConsentForm
from tests.support.polling import HTTP_TIMEOUT_SECONDS


@dataclass(slots=True)
class ConnectingBrowser:
    """One browser, with its cookies."""

    http: httpx2.AsyncClient
    service_url: str
    user: str = "alice"
    """Who is signed in at the Hub in it."""

    async def get(self, url: str) -> httpx2.Response:
        """Follow a link."""
        return await self.http.get(url)

    async def press(
        self, page: httpx2.Response, button: str = "allow", **changes: str
    ) -> httpx2.Response:
        """Press a button of a page."""
        assert page.status_code == 200, page.text
        form = ConsentForm(page.text)
        pressed = form.fields | {form.buttons[button]: button} | changes
        return await self.http.post(urljoin(str(page.url), form.action), data=pressed)

    async def sign_in(self, button: str = "allow") -> str:
        """Begin, and sign in at the authorization server; return the way back from there."""
        sent = await self.press(await self.get(f"{self.service_url}/connect"), button)
        assert sent.status_code == 303, sent.text
        return str((await self.get(sent.headers["location"])).headers["location"])

    async def go_to_hub(self) -> str:
        """Sign in; return where the service sends the person at the Hub."""
        answer = await self.get(await self.sign_in())
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"])

    async def consent(self, hub_url: str) -> str:
        """Let the service act at the Hub; return the way back from there."""
        page = await self.get(str(httpx2.URL(hub_url).copy_merge_params({"login_hint": self.user})))
        if page.status_code == 200:
            page = await self.press(page)
        return str(page.headers["location"])

    async def reach_confirmation(self) -> httpx2.Response:
        """Do everything until both accounts are shown."""
        return await self.get(await self.consent(await self.go_to_hub()))

    async def connect(self) -> httpx2.Response:
        """Connect the account."""
        return await self.press(await self.reach_confirmation())


async def call_whoami(
    url: str, token: str, hub_token: str | None = None, *, hub_values: Sequence[str] = ()
) -> httpx2.Response:
    """Call `whoami` with a token of the authorization server, and maybe one of the Hub.

    Args:
        url: of the service.
        token: of the authorization server.
        hub_token: of the Hub.
        hub_values: of headers for it, as they are sent.
    """
    sent = [f"Bearer {hub_token}"] if hub_token is not None else hub_values
    headers = [
        ("authorization", f"Bearer {token}"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", "2025-11-25"),
        *(("x-hf-authorization", value) for value in sent),
    ]
    params: dict[str, Any] = {"name": "whoami", "arguments": {}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    async with httpx2.AsyncClient(headers=headers, timeout=HTTP_TIMEOUT_SECONDS) as http:
        return await http.post(f"{url}/mcp", json=message)
