"""Registered OAuth clients and their redirect URIs.

Anybody may register a client (RFC 7591). Codes are sent to the redirect URIs of the registration
and nowhere else. Only the port of a loopback address may differ, because a native program takes
the port that it gets (RFC 8252).
"""

import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from service.local.hub_emulator.oauth.bounded_cache import BoundedCache
from service.local.hub_emulator.oauth.scopes import DEFAULT_SCOPE, SCOPES
from service.local.hub_emulator.shared.clock import read_unix_clock

_LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_PAGE_HOSTS: Final = ("127.0.0.1", "localhost")
_URI_PATTERN: Final = re.compile(r"[!-~]{1,2000}")
"""The characters of a URI. Parsers disagree about URIs with other characters in them."""


def _check_redirect_uri(uri: str) -> str:
    if _normalize_redirect_uri(uri) is None:
        message = "Neither https nor http on the loopback address, or not plainly written"
        raise ValueError(message)
    return uri


class ClientRegistration(BaseModel):
    """The body of a registration; fields that the Hub does not use are ignored."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    redirect_uris: Annotated[
        list[Annotated[str, AfterValidator(_check_redirect_uri)]],
        Field(min_length=1, max_length=20),
    ]
    client_name: Annotated[str, Field(max_length=200)] | None = None
    token_endpoint_auth_method: Literal["none", "client_secret_basic", "client_secret_post"] = (
        "client_secret_basic"  # noqa: S105  # the default of RFC 7591
    )
    response_types: list[Literal["code"]] = ["code"]
    scope: Annotated[str, Field(max_length=1_000)] = DEFAULT_SCOPE


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """A registered client."""

    id: str
    secret: str | None
    """None for a public client, which cannot keep a secret."""
    registration: ClientRegistration

    @property
    def name(self) -> str:
        """The name that users see; the client has chosen it."""
        return self.registration.client_name or self.id

    @property
    def scope(self) -> str:
        """The registered scopes that the Hub has."""
        # The server may replace the scopes of a registration: RFC 7591, section 3.2.1.
        scopes = [scope for scope in self.registration.scope.split() if scope in SCOPES]
        return " ".join(scopes) or DEFAULT_SCOPE

    def allows_redirect_uri(self, uri: str) -> bool:
        """Say whether a code may be sent to a URI."""
        target = _normalize_redirect_uri(uri)
        return target is not None and target in map(
            _normalize_redirect_uri, self.registration.redirect_uris
        )

    def accepts_secret(self, secret: str | None) -> bool:
        """Say whether a secret is the client's; a public client must send none."""
        if self.secret is None or secret is None:
            return self.secret is secret
        return hmac.compare_digest(self.secret.encode(), secret.encode())

    def to_dict(self) -> dict[str, Any]:
        """Describe the client as the answer to its registration does."""
        secret = {"client_secret": self.secret, "client_secret_expires_at": 0}
        return {
            "client_id": self.id,
            "client_id_issued_at": int(read_unix_clock()),
            **(secret if self.secret else {}),
            **self.registration.model_dump(exclude_none=True),
            "grant_types": ["authorization_code", "refresh_token"],
            "scope": self.scope,
        }


PAGES_CLIENT_ID: Final = "holdfast-local"
"""The application by which people sign in on the pages of the local stack."""


class OAuthClientStore:
    """The clients that registered most recently, and the one of the local stack."""

    def __init__(self) -> None:
        self._own_client = OAuthClient(
            PAGES_CLIENT_ID,
            None,
            ClientRegistration(
                redirect_uris=[f"http://{host}/sign-in/callback" for host in _PAGE_HOSTS],
                client_name="Holdfast",
                token_endpoint_auth_method="none",  # noqa: S106  # a method
            ),
        )
        self._clients: BoundedCache[OAuthClient] = BoundedCache()

    def register(self, registration: ClientRegistration) -> OAuthClient:
        """Register a client."""
        is_public = registration.token_endpoint_auth_method == "none"  # noqa: S105  # a method
        secret = None if is_public else secrets.token_urlsafe(32)
        client = OAuthClient(secrets.token_hex(16), secret, registration)
        self._clients.put(client.id, client)
        return client

    def get(self, client_id: str) -> OAuthClient | None:
        """Return a client by its id."""
        if client_id == PAGES_CLIENT_ID:
            return self._own_client
        return self._clients.get(client_id)


def _normalize_redirect_uri(uri: str) -> str | SplitResult | None:
    """Return the form of a redirect URI to compare it in; None if it is not allowed.

    Two URIs are the same if they are equal, except for the port of a loopback address.
    """
    # Browsers read a backslash as a slash, and Python's parser drops line breaks.
    if not _URI_PATTERN.fullmatch(uri) or "\\" in uri or "#" in uri:
        return None
    try:
        split = urlsplit(uri)
        split.port  # noqa: B018  # raises if it is not a port
    except ValueError:
        return None
    if not split.hostname or "@" in split.netloc:
        return None
    if split.scheme == "http" and split.hostname in _LOOPBACK_HOSTS:
        return split._replace(netloc=split.hostname)
    return uri if split.scheme == "https" else None
