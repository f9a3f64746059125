"""A program that signs its user in at the Hub emulator, and the browser in which the user consents.

`sign_in` is all that most tests need. `App` does each step by itself, and wrongly if told so.
"""

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import httpx2

from tests.support.http_clients import AsyncHttpClient
from tests.support.polling import HTTP_TIMEOUT_SECONDS

REDIRECT_URI = "http://127.0.0.1:8123/callback"
FORM_CONTENT_TYPE = "application/x-www-form-urlencoded"
ParameterChange = str | list[str] | None
"""What a parameter is instead; None leaves it out."""


@dataclass(frozen=True, slots=True)
class OAuthTokens:
    """What a sign-in gave."""

    access_token: str
    refresh_token: str
    expires_in: int
    scope: str
    token_type: str
    id_token: str | None = None


async def sign_in(
    hub_url: str,
    scopes: str = "openid profile jobs inference-api",
    *,
    user: str = "alice",
    org_ids: list[str] | None = None,
    **metadata: Any,
) -> OAuthTokens:
    """Register a program at the Hub, let a user allow it everything it asks for, and take tokens.

    `org_ids` are the organisations that the user lets it act for. `metadata` is of RFC 7591.
    """
    async with AsyncHttpClient(base_url=hub_url, timeout=HTTP_TIMEOUT_SECONDS) as http:
        app = await SignInClient.register(http, **metadata)
        code = await app.obtain_code(scope=scopes, login_hint=user, orgIds=org_ids)
        answer = await app.redeem_code(code)
        answer.raise_for_status()
        return OAuthTokens(**answer.json())


@dataclass(slots=True)
class SignInClient:
    """A program that is registered at the Hub; a public one unless told otherwise."""

    http: httpx2.AsyncClient
    registration: dict[str, Any]
    """What the Hub answered to its registration."""
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))

    @classmethod
    async def register(cls, http: httpx2.AsyncClient, **metadata: Any) -> "SignInClient":
        """Register a new one."""
        about = {
            "client_name": "A test",
            "redirect_uris": [REDIRECT_URI],
            "token_endpoint_auth_method": "none",
        }
        answer = await http.post("/oauth/register", json=about | metadata)
        answer.raise_for_status()
        return cls(http, answer.json())

    @property
    def client_id(self) -> str:
        return str(self.registration["client_id"])

    async def authorize(self, **changes: ParameterChange) -> httpx2.Response:
        """Open the authorization endpoint, as the browser that the program starts."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        usual: dict[str, ParameterChange] = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.registration["redirect_uris"][0],
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
            "state": "the-state",
        }
        return await self.http.get("/oauth/authorize", params=_apply_changes(usual, changes))

    async def obtain_code(self, **changes: ParameterChange) -> str:
        """Ask, let the user allow it, and take the code from the address that comes back."""
        back = await submit_consent(self.http, await self.authorize(**changes))
        assert back.params["state"] == "the-state"
        return back.params["code"]

    async def redeem_code(self, code: str, **changes: ParameterChange) -> httpx2.Response:
        """Ask for tokens for a code."""
        usual: dict[str, ParameterChange] = {
            "grant_type": "authorization_code",
            "code": code,
            "client_id": self.client_id,
            "redirect_uri": self.registration["redirect_uris"][0],
            "code_verifier": self.verifier,
        }
        return await self.http.post("/oauth/token", data=_apply_changes(usual, changes))

    async def obtain_tokens(self, **changes: ParameterChange) -> OAuthTokens:
        """Sign a user in."""
        answer = await self.redeem_code(await self.obtain_code(**changes))
        answer.raise_for_status()
        return OAuthTokens(**answer.json())

    async def refresh_tokens(
        self, refresh_token: str, **changes: ParameterChange
    ) -> httpx2.Response:
        """Ask for new tokens for a refresh token."""
        usual: dict[str, ParameterChange] = {
            "grant_type": "refresh_token",
            "refresh_token": refresh_token,
            "client_id": self.client_id,
        }
        return await self.http.post("/oauth/token", data=_apply_changes(usual, changes))


async def follow_sign_in(
    http: httpx2.AsyncClient, page: httpx2.Response, redirect_uri: str = REDIRECT_URI
) -> httpx2.URL:
    """Follow each redirect and agree on each page, until the browser is sent to the program."""
    for _ in range(10):
        if page.status_code == 200:
            form = ConsentForm(page.text)
            pressed = form.fields | {form.buttons["allow"]: "allow"}
            page = await http.post(urljoin(str(page.url), form.action), data=pressed)
        assert page.is_redirect, page.text
        location = urljoin(str(page.url), page.headers["location"])
        if location.startswith(redirect_uri):
            return httpx2.URL(location)
        page = await http.get(location)
    raise AssertionError("The sign-in goes round in circles.")


async def submit_consent(
    http: httpx2.AsyncClient, page: httpx2.Response, decision: str = "allow"
) -> httpx2.URL:
    """Press a button of the consent page, and return the address the browser is sent to."""
    if page.status_code == 200:
        form = ConsentForm(page.text)
        assert decision in form.buttons
        pressed = form.fields | {form.buttons[decision]: decision}
        page = await http.post(urljoin(str(page.url), form.action), data=pressed)
    assert page.status_code == 303, page.text
    return httpx2.URL(page.headers["location"])


class ConsentForm(HTMLParser):
    """The form of a page, as a browser sees it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}
        self.buttons: dict[str, str] = {}
        """The name of each button, by its value."""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        match tag:
            case "form":
                self.action = attributes["action"]
                assert attributes["method"].lower() == "post"
            case "input":
                self.fields[attributes["name"]] = attributes["value"]
            case "button" if "name" in attributes:  # another one sends nothing
                self.buttons[attributes["value"]] = attributes["name"]
            case _:
                pass


def _apply_changes(
    usual: dict[str, ParameterChange], changes: dict[str, ParameterChange]
) -> dict[str, Any]:
    return {name: value for name, value in (usual | changes).items() if value is not None}
