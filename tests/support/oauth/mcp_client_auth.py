"""A person at a browser, and the storage of their MCP client, as the official client needs them."""

from dataclasses import dataclass, field

import httpx2
from mcp.client.auth import OAuthClientProvider, TokenStorage
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthToken,
)
from pydantic import AnyUrl

from tests.support.oauth.consent_browser import REDIRECT_URI, follow_sign_in


@dataclass(slots=True)
class MemoryTokenStorage(TokenStorage):
    """What the client keeps between two starts."""

    tokens: OAuthToken | None = None
    client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


@dataclass(slots=True)
class ConsentingBrowser:
    """The user at their browser, who allows what is asked."""

    http: httpx2.AsyncClient
    first_grant_scopes: str | None = None
    """The scopes they leave ticked the first time; all that are asked for, if not told."""
    visited_urls: list[httpx2.URL] = field(default_factory=list[httpx2.URL])
    redirected_url: httpx2.URL = field(default_factory=httpx2.URL)

    async def open_url(self, url: str) -> None:
        page = httpx2.URL(url)
        if self.first_grant_scopes is not None and not self.visited_urls:
            page = page.copy_set_param("scope", self.first_grant_scopes)
        self.visited_urls.append(httpx2.URL(url))
        self.redirected_url = await follow_sign_in(self.http, await self.http.get(page))

    async def read_callback(self) -> AuthorizationCodeResult:
        parameters = self.redirected_url.params
        return AuthorizationCodeResult(
            code=parameters["code"], state=parameters["state"], iss=parameters.get("iss")
        )


def make_oauth_provider(
    server_url: str, browser: ConsentingBrowser, storage: MemoryTokenStorage
) -> OAuthClientProvider:
    """Let the official client sign in at whatever an MCP server sends it to, as they all do."""
    return OAuthClientProvider(
        server_url=server_url,
        client_metadata=OAuthClientMetadata(
            client_name="An MCP client",
            redirect_uris=[AnyUrl(REDIRECT_URI)],
            token_endpoint_auth_method="none",
        ),
        storage=storage,
        redirect_handler=browser.open_url,
        callback_handler=browser.read_callback,
    )
