"""Which programs may ask users for their consent, and where may the answer be sent?

Anybody may register one (RFC 7591). Codes go to the redirect URIs it named then and nowhere else;
only the port of a loopback address is free, for a native program takes the one it gets (RFC 8252).
"""

import hmac
import re
import secrets
import time
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from service.local.hub_emulator.oauth.bounded_cache import BoundedCache
from service.local.hub_emulator.oauth.scopes import DEFAULT_SCOPE, SCOPES

_LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_URI_PATTERN: Final = re.compile(r"[!-~]{1,2000}")
"""What a URI is written in. What is not is read by some as something else."""


def _check_redirect_uri(uri: str) -> str:
    if _normalize_redirect_uri(uri) is None:
        message = "Neither https nor http on the loopback address, or not plainly written"
        raise ValueError(message)
    return uri


class ClientRegistration(BaseModel):
    """What a client says about itself; what the Hub has no use for is ignored."""

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
    """A registered program."""

    id: str
    secret: str | None
    """None for a public one, which can keep none."""
    registration: ClientRegistration

    @property
    def name(self) -> str:
        """What users know it by; it chose that itself."""
        return self.registration.client_name or self.id

    @property
    def scope(self) -> str:
        """What it registered for, of what there is."""
        # What it asked for may be replaced: RFC 7591, section 3.2.1.
        return (
            " ".join(one for one in self.registration.scope.split() if one in SCOPES)
            or DEFAULT_SCOPE
        )

    def allows_redirect_uri(self, uri: str) -> bool:
        """Say whether an answer may be sent there."""
        target = _normalize_redirect_uri(uri)
        return target is not None and target in map(
            _normalize_redirect_uri, self.registration.redirect_uris
        )

    def accepts_secret(self, secret: str | None) -> bool:
        """Say whether the secret is the client's; a public one has none to show."""
        if self.secret is None or secret is None:
            return self.secret is secret
        return hmac.compare_digest(self.secret.encode(), secret.encode())

    def to_dict(self) -> dict[str, Any]:
        """Describe it as the answer to its registration."""
        secret = {"client_secret": self.secret, "client_secret_expires_at": 0}
        return {
            "client_id": self.id,
            "client_id_issued_at": int(time.time()),
            **(secret if self.secret else {}),
            **self.registration.model_dump(exclude_none=True),
            "grant_types": ["authorization_code", "refresh_token"],
            "scope": self.scope,
        }


class OAuthClientStore:
    """Everybody who registered lately."""

    def __init__(self) -> None:
        self._clients: BoundedCache[OAuthClient] = BoundedCache()

    def register(self, registration: ClientRegistration) -> OAuthClient:
        """Take a client in."""
        public = registration.token_endpoint_auth_method == "none"  # noqa: S105  # a method's name
        client = OAuthClient(
            secrets.token_hex(16), None if public else secrets.token_urlsafe(32), registration
        )
        self._clients.put(client.id, client)
        return client

    def get(self, client_id: str) -> OAuthClient | None:
        """Return a client."""
        return self._clients.get(client_id)


def _normalize_redirect_uri(uri: str) -> str | SplitResult | None:
    """Return what must be the same in two URIs for both to lead to one place, if they may at all.

    That is all of it, but for the port of a loopback address.
    """
    # A browser takes a backslash for a slash, and Python drops line breaks.
    if not _URI_PATTERN.fullmatch(uri) or "\\" in uri or "#" in uri:
        return None
    try:
        split = urlsplit(uri)
        split.port  # noqa: B018  # raises if it is none
    except ValueError:
        return None
    if not split.hostname or "@" in split.netloc:
        return None
    if split.scheme == "http" and split.hostname in _LOOPBACK_HOSTS:
        return split._replace(netloc=split.hostname)
    return uri if split.scheme == "https" else None
