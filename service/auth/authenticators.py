"""Authenticators: one for each way to sign in; each makes a caller of request credentials."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

from schema.accounts.vault import Secret
from schema.common.async_cache import UNAVAILABLE_TTL, AsyncCache, CacheEntry
from schema.common.errors import Denied, HoldfastError, Unauthenticated, Unavailable
from service.auth.caller import Caller, Scope, SignIn, SignInLacksScope
from service.auth.connected_accounts import ConnectedAccounts, HubAuthorityMissing
from service.auth.jwt_verifier import ExternalIdentity, JwtVerifier
from service.auth.token_verifier import (
    INVALID_TOKEN_TTL,
    MAX_CACHED_TOKENS,
    VALID_TOKEN_TTL,
    TokenVerifier,
    token_digest,
)


class HubAuthorityRefused(Denied):
    """The caller is signed in here, but their token of the Hub is not accepted.

    Not `Unauthenticated`: a client would sign in once more for each call, and in vain.
    """

    def __init__(self, cause: Unauthenticated) -> None:
        super().__init__(
            f"You are signed in, but the token in X-HF-Authorization is not accepted: {cause} "
            f"Have your client send another one there."
        )


@dataclass(frozen=True, slots=True)
class RequestCredentials:
    """The tokens of a request, from `Authorization` and `X-HF-Authorization`."""

    authorization: Secret | None
    hf_authorization: Secret | None
    is_hf_authorization_malformed: bool = False
    """Whether that header is there and holds no token: its sender does not mean to go without."""


class Authenticator(Protocol):
    """One way to sign in."""

    async def authenticate(self, credentials: RequestCredentials) -> Caller:
        """Return the caller.

        Raises:
            Unauthenticated: a token is missing, or not accepted.
            Denied: the caller is known, but has no authority at the Hub.
            Unavailable: the Hub or the authorization server does not answer.
        """
        ...


class HubAuthenticator:
    """Takes a token of the Hub in either header; `Authorization` wins."""

    def __init__(self, token_verifier: TokenVerifier) -> None:
        self._token_verifier = token_verifier

    async def authenticate(self, credentials: RequestCredentials) -> Caller:
        return await self._token_verifier.verify(
            credentials.authorization or credentials.hf_authorization
        )


class ExternalAuthenticator:
    """Takes a token of an external authorization server, and a token of the Hub beside it.

    The first lets the caller in, the second says whose jobs these are. The caller may do what both
    tokens allow. Without the second, the account counts that is connected with the sign-in.
    """

    def __init__(
        self,
        jwt_verifier: JwtVerifier,
        token_verifier: TokenVerifier,
        *,
        scope_names: Mapping[Scope, str],
        required_scopes: Sequence[str],
        connected_accounts: ConnectedAccounts | None = None,
    ) -> None:
        """Build the authenticator.

        Args:
            jwt_verifier: verifies the token of the authorization server.
            token_verifier: verifies the token of the Hub.
            scope_names: what the server calls each scope to launch something.
            required_scopes: scopes of the server without which a token is for nothing here.
            connected_accounts: None: nobody can connect an account.
        """
        self._jwt_verifier = jwt_verifier
        self._token_verifier = token_verifier
        self._scope_names = scope_names
        self._required_scopes = required_scopes
        self._connected_accounts = connected_accounts
        self._identities: AsyncCache[ExternalIdentity | HoldfastError] = AsyncCache(
            max_entries=MAX_CACHED_TOKENS
        )

    async def authenticate(self, credentials: RequestCredentials) -> Caller:
        if credentials.authorization is None:
            raise Unauthenticated("Sign in first: this service takes Authorization: Bearer ….")
        token = credentials.authorization
        identity = await self._identities.get_or_load(
            token_digest(token), partial(self._verify, token)
        )
        if isinstance(identity, HoldfastError):
            raise identity.with_traceback(None)
        if missing := [each for each in self._required_scopes if each not in identity.scopes]:
            raise SignInLacksScope(identity.issuer, missing)
        if credentials.is_hf_authorization_malformed:
            raise HubAuthorityRefused(Unauthenticated("The header has to be one 'Bearer hf_…'."))
        caller = await self._find_account(identity, credentials.hf_authorization)
        # What is read and written at the Hub, only the token of the Hub allows.
        refused = {
            scope for scope, name in self._scope_names.items() if name not in identity.scopes
        }
        return replace(
            caller,
            scopes=caller.scopes - refused,
            obtainable_scopes=caller.scopes & refused,
            sign_in=SignIn(
                issuer=identity.issuer,
                subject=identity.subject,
                audience=identity.audience,
                scope_names=self._scope_names,
                name=identity.name,
                email=identity.email,
                is_connected=credentials.hf_authorization is None,
            ),
        )

    async def _find_account(self, identity: ExternalIdentity, hub_token: Secret | None) -> Caller:
        """Return the caller at the Hub: whose token came with the call, or who is connected."""
        if hub_token is not None:
            try:
                return await self._token_verifier.verify(hub_token)
            except Unauthenticated as error:
                raise HubAuthorityRefused(error) from None
        if self._connected_accounts is None:
            raise HubAuthorityMissing
        return await self._connected_accounts.authenticate(identity)

    async def _verify(self, token: Secret) -> CacheEntry[ExternalIdentity | HoldfastError]:
        try:
            identity = await self._jwt_verifier.verify(token)
        except Unauthenticated as error:
            return CacheEntry(error, INVALID_TOKEN_TTL)
        except Unavailable as error:
            return CacheEntry(error, UNAVAILABLE_TTL)
        return CacheEntry(identity, min(VALID_TOKEN_TTL, identity.valid_until - datetime.now(UTC)))
