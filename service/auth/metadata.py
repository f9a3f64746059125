"""Where does a client learn how to sign in? RFC 9728, and the challenge that points to it."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

_SCOPES: Final = ["openid", "profile", "jobs", "inference-api"]
_WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"


def challenge(public_url: str, *, token_sent: bool) -> str:
    """Write the `WWW-Authenticate` of a 401."""
    where = f'Bearer resource_metadata="{public_url}{_WELL_KNOWN}/mcp"'
    return f'{where}, error="invalid_token"' if token_sent else where


def routes(public_url: str, hub_url: str) -> list[Route]:
    """Serve the metadata at the path of the resource, and at the root for clients that ask there.

    The issuer has no trailing slash: clients compare it letter by letter with the Hub's own.
    """
    metadata: dict[str, Any] = {
        "resource": f"{public_url}/mcp",
        "resource_name": "Holdfast",
        "authorization_servers": [hub_url],
        "scopes_supported": _SCOPES,
        "bearer_methods_supported": ["header"],
    }

    async def show(_: Request) -> Response:
        return JSONResponse(metadata, headers={"access-control-allow-origin": "*"})

    return [Route(path, show) for path in (_WELL_KNOWN, f"{_WELL_KNOWN}/mcp")]
