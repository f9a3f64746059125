"""Protected resource metadata (RFC 9728), and the challenges that point to it."""

from collections.abc import Collection
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.auth.caller import Scope

_METADATA_PATH: Final = "/.well-known/oauth-protected-resource"


class ProtectedResourceMetadata:
    """Tells clients where to sign in, and for which scopes."""

    def __init__(self, public_url: str, issuer: str, *scopes: str) -> None:
        """Build the metadata.

        Args:
            public_url: the address of the service, without a trailing slash.
            issuer: the authorization server, as it writes its own name: clients compare it letter
                by letter.
            scopes: asked for at a sign-in; those that the tools need are among them.
        """
        self._url = f"{public_url}{_METADATA_PATH}/mcp"
        self._scopes = list(scopes)
        self._document: dict[str, Any] = {
            "resource": f"{public_url}/mcp",
            "resource_name": "Holdfast",
            "authorization_servers": [issuer],
            "scopes_supported": self._scopes,
            "bearer_methods_supported": ["header"],
        }

    def challenge_sign_in(self, *, token_sent: bool) -> str:
        """Write the `WWW-Authenticate` of a 401: where to sign in, and for which scopes.

        It names every scope that a tool needs, so that a person is asked for consent once.
        """
        error = {"error": "invalid_token"} if token_sent else {}
        return self._format_challenge(scope=" ".join(self._scopes), **error)

    def challenge_scopes(self, needed: Collection[Scope]) -> str:
        """Write the `WWW-Authenticate` of a 403: the scopes of the call, and no others.

        Those that the token has are among them. A client that asks for just these would else come
        back without what it had.
        """
        scopes = [scope for scope in self._scopes if scope in needed]
        return self._format_challenge(error="insufficient_scope", scope=" ".join(scopes))

    def routes(self) -> list[Route]:
        """Return the routes: the path of the resource, and the root, where some clients ask."""
        return [Route(path, self._serve) for path in (_METADATA_PATH, f"{_METADATA_PATH}/mcp")]

    async def _serve(self, _: Request) -> Response:
        return JSONResponse(self._document, headers={"access-control-allow-origin": "*"})

    def _format_challenge(self, **parameters: str) -> str:
        all_parameters = {"resource_metadata": self._url} | parameters
        return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in all_parameters.items())
