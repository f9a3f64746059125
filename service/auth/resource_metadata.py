"""Where does a client learn how to sign in? RFC 9728, and the challenge that points to it."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.auth.caller import Scope

_METADATA_PATH: Final = "/.well-known/oauth-protected-resource"


class ProtectedResourceMetadata:
    """What we say of ourselves to whoever wants to sign in."""

    def __init__(self, public_url: str, issuer: str, *scopes: str) -> None:
        """Name the resource's address, its authorization server, and what signing in is for.

        The issuer is written as it writes itself: clients compare it letter by letter.
        """
        self._url = f"{public_url}{_METADATA_PATH}/mcp"
        self._scopes = [*scopes, *Scope]
        self._document: dict[str, Any] = {
            "resource": f"{public_url}/mcp",
            "resource_name": "Holdfast",
            "authorization_servers": [issuer],
            "scopes_supported": self._scopes,
            "bearer_methods_supported": ["header"],
        }

    def challenge_sign_in(self, *, token_sent: bool) -> str:
        """Write the `WWW-Authenticate` of a 401: where to sign in, and for what.

        All that the tools need, so that a person is asked for their consent once.
        """
        error = {"error": "invalid_token"} if token_sent else {}
        return self._format_challenge(scope=" ".join(self._scopes), **error)

    def challenge_scope(self, scope: Scope) -> str:
        """Write the `WWW-Authenticate` of a 403: only what this one operation lacks."""
        return self._format_challenge(error="insufficient_scope", scope=scope)

    def routes(self) -> list[Route]:
        """Serve the metadata at the path of the resource, and at the root for who asks there."""
        return [Route(path, self._serve) for path in (_METADATA_PATH, f"{_METADATA_PATH}/mcp")]

    async def _serve(self, _: Request) -> Response:
        return JSONResponse(self._document, headers={"access-control-allow-origin": "*"})

    def _format_challenge(self, **parts: str) -> str:
        said = {"resource_metadata": self._url} | parts
        return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in said.items())
