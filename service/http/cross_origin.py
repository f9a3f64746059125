"""What pages of other origins may do: call the endpoint and read its answers (CORS).

The origins are those whose requests `McpEndpoint` takes at all. A page holds no credential of this
service that a browser would add by itself, so it may do nothing that a program could not do.
"""

import re
from typing import Final
from urllib.parse import urlsplit

from mcp.server.transport_security import TransportSecuritySettings
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp

from schema.common.http import LOOPBACK_HOSTS

_LOOPBACK_ORIGIN: Final = f"http://(?:{'|'.join(map(re.escape, LOOPBACK_HOSTS))})(?::[0-9]+)?"
_EXPOSED_HEADERS: Final = (
    *("Mcp-Session-Id", "MCP-Protocol-Version", "WWW-Authenticate"),
    *("RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id"),
)


def allow_cross_origin(
    endpoint: ASGIApp, public_url: str, allowed_origins: tuple[str, ...]
) -> ASGIApp:
    """Let pages of our own, of loopback and of the allowed origins call an endpoint.

    A preflight is answered here, because a browser sends it without credentials. GET and DELETE are
    allowed so that a page reads the 405, as every other client does.
    """
    return CORSMiddleware(
        # Inside, so that a page can read also that it met a bug of ours.
        ServerErrorMiddleware(endpoint),
        allow_origins=[_origin_of(public_url), *allowed_origins],
        allow_origin_regex=_LOOPBACK_ORIGIN,
        allow_methods=["POST", "GET", "DELETE"],
        allow_headers=["*"],
        allow_private_network=True,
        expose_headers=_EXPOSED_HEADERS,
    )


def transport_security_settings(
    public_url: str, allowed_origins: tuple[str, ...]
) -> TransportSecuritySettings:
    """Allow the public host, and loopback hosts at any port (against DNS rebinding)."""
    hosts = [urlsplit(public_url).netloc, *LOOPBACK_HOSTS]
    hosts += [f"{host}:*" for host in LOOPBACK_HOSTS]
    origins = [_origin_of(public_url), *allowed_origins]
    origins += [f"http://{host}{port}" for host in LOOPBACK_HOSTS for port in ("", ":*")]
    return TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=origins)


def _origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
