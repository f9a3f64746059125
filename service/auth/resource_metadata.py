"""Protected resource metadata (RFC 9728), and the challenges that point to it."""

from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from schema.common.http import loopback_aliases
from service.auth.caller import Scope

_METADATA_PATH: Final = "/.well-known/oauth-protected-resource"


def covers_endpoint(audience: str | None, endpoint: str) -> bool:
    """Say whether clients of an endpoint accept an audience as the name of its resource.

    The MCP SDKs accept the URL of the endpoint, and each URL above it on the same host.
    """
    if audience is None or not urlsplit(audience).netloc:
        return False
    return f"{endpoint}/".startswith(f"{audience.rstrip('/')}/")


class ProtectedResourceMetadata:
    """Tells clients where to sign in, and for which scopes."""

    def __init__(
        self,
        public_url: str,
        issuer: str,
        *scopes: str,
        scope_names: Mapping[Scope, str] | None = None,
        audience: str | None = None,
    ) -> None:
        """Build the metadata.

        Args:
            public_url: the address of the service, without a trailing slash.
            issuer: the authorization server, as it writes its own name: clients compare it letter
                by letter.
            scopes: asked for at a sign-in; those that the tools need are among them.
            scope_names: what the authorization server calls the scopes of the tools, where that is
                something else.
            audience: that tokens must have, if it is not the URL of the endpoint. Clients ask for
                the resource that is published, so it is published if they accept it: if it is a
                part of that URL from its start (RFC 8707).
        """
        self._public_url = public_url
        self._issuer = issuer
        self._scopes = list(scopes)
        self._scope_names = scope_names or {}
        self._audience = audience if covers_endpoint(audience, f"{public_url}/mcp") else None

    def challenge_sign_in(self, host: str, *, token_sent: bool) -> str:
        """Write the `WWW-Authenticate` of a 401: where to sign in, and for which scopes.

        It names every scope that a tool needs, so that a person is asked for consent once.

        Args:
            host: the `Host` of the request.
            token_sent: whether it had a token, which is not accepted.
        """
        error = {"error": "invalid_token"} if token_sent else {}
        return self._format_challenge(host, scope=" ".join(self._scopes), **error)

    def challenge_scopes(self, host: str, needed: Collection[Scope]) -> str:
        """Write the `WWW-Authenticate` of a 403: the scopes of the call, and no others.

        Those that the token has are among them. A client that asks for just these would else come
        back without what it had.
        """
        return self.challenge_scope_names(
            host, [self._scope_names.get(scope, scope) for scope in needed]
        )

    def challenge_scope_names(self, host: str, names: Collection[str]) -> str:
        """Write the `WWW-Authenticate` of a 403, with scopes as the issuer names them."""
        scopes = [scope for scope in self._scopes if scope in names]
        return self._format_challenge(host, error="insufficient_scope", scope=" ".join(scopes))

    def routes(self) -> list[Route]:
        """Return the routes: the path of the resource, and two others where some clients ask."""
        paths = (_METADATA_PATH, f"{_METADATA_PATH}/mcp", f"/mcp{_METADATA_PATH}")
        return [Route(path, self._serve) for path in paths]

    async def _serve(self, request: Request) -> Response:
        base_url = self._base_url(request.headers.get("host", ""))
        document: dict[str, Any] = {
            "resource": self._audience or f"{base_url}/mcp",
            "resource_name": "Holdfast",
            "authorization_servers": [self._issuer],
            "scopes_supported": self._scopes,
            "bearer_methods_supported": ["header"],
        }
        return JSONResponse(document, headers={"access-control-allow-origin": "*"})

    def _base_url(self, host: str) -> str:
        """Return our address as the client writes it: two names of this machine are one address."""
        named = f"{urlsplit(self._public_url).scheme}://{host}"
        return named if named in loopback_aliases(self._public_url) else self._public_url

    def _format_challenge(self, host: str, **parameters: str) -> str:
        url = f"{self._base_url(host)}{_METADATA_PATH}/mcp"
        all_parameters = {"resource_metadata": url} | parameters
        return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in all_parameters.items())
