"""The proxy as the MCP SDK's authorization server: what clients register, ask for and redeem.

Nothing is stored. What has to come back is sealed with keys of this deployment and given away: the
registration of a client as its `client_id`, a sign-in as the `state` at the authorization server,
and the code and the refresh token of that server inside of ours. Each is bound to the client that
got it, and a code of ours is worth as much as the one inside: the server redeems it once.
"""

import secrets
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, get_args
from urllib.parse import urlencode

from mcp.server.auth.provider import (
    AccessToken,
    AuthorizationCode,
    AuthorizationParams,
    AuthorizeError,
    OAuthAuthorizationServerProvider,
    RefreshToken,
    RegistrationError,
    TokenError,
    TokenErrorCode,
)
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from pydantic import AnyUrl, BaseModel

from schema.common.http import is_secure_url
from schema.hub.oauth.upstream import ProofKey, TokenAnswer, TokenRefused, UpstreamServer
from service.runtime.sealed_models import seal_model, unseal_model
from service.runtime.sealed_tokens import SealedTokens

SIGN_IN_LIFETIME: Final = timedelta(minutes=10)
"""How long a person may take, from the page of ours to the end at the authorization server."""
_CODE_LIFETIME: Final = timedelta(minutes=1)
_CLIENT_LIFETIME: Final = timedelta(days=3650)
_REFRESH_LIFETIME: Final = timedelta(days=365)
"""At the most; the token inside has an end of its own."""
_MAX_REDIRECT_URIS: Final = 10
_MAX_URI_CHARS: Final = 500
_MAX_NAME_CHARS: Final = 100
_TOKEN_ERROR_CODES: Final = frozenset(get_args(TokenErrorCode))
_APP_SCHEMES: Final = ("cursor://",)
"""The beginnings of addresses that open a program on the person's machine."""


class ProxyKeys:
    """Seals what is given away; each kind with keys of its own."""

    def __init__(self, clients: SealedTokens, sign_ins: SealedTokens, grants: SealedTokens) -> None:
        self.clients = clients
        self.sign_ins = sign_ins
        self.grants = grants


class SignInRequest(BaseModel):
    """What a client asked for, while its person is on their way."""

    client_id: str
    client_name: str
    redirect_uri: str
    redirect_uri_provided_explicitly: bool
    state: str | None
    code_challenge: str
    scopes: list[str]
    resource: str | None


class SignInState(BaseModel):
    """The `state` at the authorization server."""

    request: SignInRequest
    verifier: str
    """Of our own proof key (PKCE) there."""
    browser_digest: str
    """Of the cookie of the browser that agreed; no other may finish the sign-in."""


class ProxyCode(AuthorizationCode):
    """An authorization code of ours, opened."""

    verifier: str
    grant_id: str


class ProxyRefreshToken(RefreshToken):
    """A refresh token of ours, opened."""

    grant_id: str


class _SealedCode(BaseModel):
    request: SignInRequest
    code: str
    verifier: str
    grant_id: str
    """Of this sign-in; its refresh tokens have it too, one after the other."""


class _SealedRefreshToken(BaseModel):
    client_id: str
    token: str
    scopes: list[str]
    resource: str | None
    grant_id: str


class SignInProxy(OAuthAuthorizationServerProvider[ProxyCode, ProxyRefreshToken, AccessToken]):
    """Answers the handlers of the MCP SDK, which check the form of each request, and PKCE."""

    def __init__(
        self,
        upstream: UpstreamServer,
        keys: ProxyKeys,
        *,
        public_url: str,
        scopes: Sequence[str],
        resources: Sequence[str],
    ) -> None:
        """Build the proxy.

        Args:
            upstream: the authorization server.
            keys: of this deployment.
            public_url: the address of the service, which is the issuer; without a trailing slash.
            scopes: what a client may ask for; it asks for all of them if it names none.
            resources: the names under which clients may ask for our resource.
        """
        self.upstream = upstream
        self.public_url = public_url
        self._keys = keys
        self._scopes = list(scopes)
        self._resources = resources

    async def get_client(self, client_id: str) -> OAuthClientInformationFull | None:
        client = unseal_model(self._keys.clients, client_id, OAuthClientInformationFull)
        return None if client is None else client.model_copy(update={"client_id": client_id})

    async def register_client(self, client_info: OAuthClientInformationFull) -> None:
        uris = client_info.redirect_uris or []
        if not 0 < len(uris) <= _MAX_REDIRECT_URIS or not all(map(_may_be_redirected_to, uris)):
            raise RegistrationError(
                "invalid_redirect_uri",
                "redirect_uris has to list https:// URLs, or http:// ones on your machine.",
            )
        stored = OAuthClientInformationFull(
            client_id="sealed",
            redirect_uris=uris,
            client_name=_printable(client_info.client_name) or "A program without a name",
            token_endpoint_auth_method=client_info.token_endpoint_auth_method,
            client_secret=client_info.client_secret,
            scope=" ".join(self._scopes),
        )
        client_info.scope = stored.scope
        client_info.client_id = seal_model(self._keys.clients, stored, _CLIENT_LIFETIME)

    async def authorize(
        self, client: OAuthClientInformationFull, params: AuthorizationParams
    ) -> str:
        if params.resource is not None and params.resource not in self._resources:
            raise AuthorizeError(
                "invalid_target", f"The resource of this service is {self._resources[0]}."
            )
        request = SignInRequest(
            client_id=client.client_id,
            client_name=client.client_name or "",
            redirect_uri=str(params.redirect_uri),
            redirect_uri_provided_explicitly=params.redirect_uri_provided_explicitly,
            state=params.state,
            code_challenge=params.code_challenge,
            scopes=params.scopes or self._scopes,
            resource=params.resource or self._resources[0],
        )
        sealed = seal_model(self._keys.sign_ins, request, SIGN_IN_LIFETIME)
        return f"{self.public_url}/oauth/consent?{urlencode({'request': sealed})}"

    def open_request(self, sealed: str) -> SignInRequest | None:
        """Return the request on a page of ours; None if it is forged or too old."""
        return unseal_model(self._keys.sign_ins, sealed, SignInRequest)

    async def send_upstream(self, request: SignInRequest, browser_digest: str) -> str:
        """Return where a person who has agreed signs in.

        Raises:
            Unavailable: the authorization server does not answer.
        """
        proof = ProofKey.generate()
        state = SignInState(request=request, verifier=proof.verifier, browser_digest=browser_digest)
        return await self.upstream.build_authorization_url(
            state=seal_model(self._keys.sign_ins, state, SIGN_IN_LIFETIME),
            code_challenge=proof.challenge,
            scopes=request.scopes,
            resource=request.resource,
        )

    def open_state(self, sealed: str) -> SignInState | None:
        """Return the state that came back; None if it is forged or too old."""
        return unseal_model(self._keys.sign_ins, sealed, SignInState)

    def issue_code(self, state: SignInState, code: str) -> str:
        """Return a code of ours with a code of the authorization server in it."""
        sealed = _SealedCode(
            request=state.request,
            code=code,
            verifier=state.verifier,
            grant_id=secrets.token_urlsafe(16),
        )
        return seal_model(self._keys.grants, sealed, _CODE_LIFETIME)

    def identify_grant(self, form: Mapping[str, object]) -> str | None:
        """Return the id of the sign-in whose code or refresh token a request for tokens holds.

        Returns:
            None if it holds none, or one that is forged or too old.
        """
        grant: _SealedCode | _SealedRefreshToken | None = None
        if form.get("grant_type") == "authorization_code":
            grant = unseal_model(self._keys.grants, str(form.get("code")), _SealedCode)
        elif form.get("grant_type") == "refresh_token":
            sealed = str(form.get("refresh_token"))
            grant = unseal_model(self._keys.grants, sealed, _SealedRefreshToken)
        return None if grant is None else grant.grant_id

    async def load_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: str
    ) -> ProxyCode | None:
        del client  # the handler compares it with the client of the code
        sealed = unseal_model(self._keys.grants, authorization_code, _SealedCode)
        if sealed is None:
            return None
        request = sealed.request
        return ProxyCode(
            code=sealed.code,
            verifier=sealed.verifier,
            grant_id=sealed.grant_id,
            scopes=request.scopes,
            expires_at=time.time() + 1,  # the seal has an end, and it has not come
            client_id=request.client_id,
            code_challenge=request.code_challenge,
            redirect_uri=AnyUrl(request.redirect_uri),
            redirect_uri_provided_explicitly=request.redirect_uri_provided_explicitly,
            resource=request.resource,
        )

    async def exchange_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: ProxyCode
    ) -> OAuthToken:
        with _as_token_errors():
            tokens = await self.upstream.redeem_code(
                authorization_code.code, authorization_code.verifier, authorization_code.resource
            )
        return self._seal_refresh_token(
            tokens, client, authorization_code.scopes, authorization_code
        )

    async def load_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: str
    ) -> ProxyRefreshToken | None:
        del client  # the handler compares it with the client of the token
        sealed = unseal_model(self._keys.grants, refresh_token, _SealedRefreshToken)
        return None if sealed is None else ProxyRefreshToken(**sealed.model_dump())

    async def exchange_refresh_token(
        self,
        client: OAuthClientInformationFull,
        refresh_token: ProxyRefreshToken,
        scopes: list[str],
    ) -> OAuthToken:
        with _as_token_errors():
            tokens = await self.upstream.refresh_token(
                refresh_token.token, scopes, refresh_token.resource
            )
        if tokens.refresh_token is None:  # it goes on with the one it has
            tokens.refresh_token = refresh_token.token
        return self._seal_refresh_token(tokens, client, scopes, refresh_token)

    async def load_access_token(self, token: str) -> None:
        """Find none: the authorization server issues and signs them, and `auth` verifies them."""

    async def revoke_token(self, token: AccessToken | ProxyRefreshToken) -> None:
        """Refuse: there is no revocation endpoint here."""
        raise NotImplementedError

    def _seal_refresh_token(
        self,
        answer: TokenAnswer,
        client: OAuthClientInformationFull,
        scopes: list[str],
        grant: ProxyCode | ProxyRefreshToken,
    ) -> OAuthToken:
        tokens = OAuthToken.model_validate(answer.model_dump())
        if tokens.refresh_token is None:
            return tokens
        sealed = _SealedRefreshToken(
            client_id=client.client_id,
            token=tokens.refresh_token,
            scopes=tokens.scope.split() if tokens.scope else scopes,
            resource=grant.resource,
            grant_id=grant.grant_id,
        )
        return tokens.model_copy(
            update={"refresh_token": seal_model(self._keys.grants, sealed, _REFRESH_LIFETIME)}
        )


@contextmanager
def _as_token_errors() -> Generator[None]:
    """Let the SDK's handlers answer what the authorization server refuses.

    Raises:
        TokenError: it refuses the code or the token.
    """
    try:
        yield
    except TokenRefused as error:
        code: Any = error.reason if error.reason in _TOKEN_ERROR_CODES else "invalid_grant"
        raise TokenError(code, error.description) from None


def _may_be_redirected_to(uri: AnyUrl) -> bool:
    """Say whether only the client itself can read what is sent there."""
    text = str(uri)
    return len(text) <= _MAX_URI_CHARS and (is_secure_url(text) or text.startswith(_APP_SCHEMES))


def _printable(name: str | None) -> str:
    return "".join(filter(str.isprintable, name or "")).strip()[:_MAX_NAME_CHARS]
