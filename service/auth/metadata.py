"""Where does a client learn how to sign in? RFC 9728, and the challenge that points to it."""

from collections.abc import Iterable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.auth.caller import Scope

_SCOPES: Final = ["openid", "profile", Scope.JOBS, Scope.INFERENCE]
_WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"


def challenge(public_url: str, *, token_sent: bool) -> str:
    """Write the `WWW-Authenticate` of a 401: where to sign in, and for what.

    All that the tools need, so that a person is asked for their consent once.
    """
    error = {"error": "invalid_token"} if token_sent else {}
    return _bearer(public_url, scope=" ".join(_SCOPES), **error)


def step_up(public_url: str, scopes: Iterable[Scope]) -> str:
    """Write the `WWW-Authenticate` of a 403: only what this one operation lacks."""
    return _bearer(public_url, error="insufficient_scope", scope=" ".join(scopes))


def _bearer(public_url: str, **parts: str) -> str:
    said = {"resource_metadata": f"{public_url}{_WELL_KNOWN}/mcp"} | parts
    return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in said.items())


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
