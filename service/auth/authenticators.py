"""Whom do the credentials of a request speak for? One answer for each way to sign in."""

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

from schema.accounts.vault import Secret
from schema.common.async_cache import BELIEVED, DISBELIEVED, REMEMBERED, UNKNOWN, Cache, Kept
from schema.common.errors import Denied, HoldfastError, Unauthenticated, Unavailable
from service.auth.caller import ALL_SCOPES, Caller
from service.auth.jwt_verifier import ExternalAuthority, ExternalIdentity
from service.auth.token_verifier import Callers


class HubAuthorityMissing(Denied):
    """Signed in here, but without authority at the Hub."""

    def __init__(self) -> None:
        super().__init__(
            "You are signed in, but Holdfast acts at Hugging Face with your own authority there. "
            "Have your client send your Hugging Face token as well: X-HF-Authorization: Bearer hf_…"
        )


@dataclass(frozen=True, slots=True)
class Presented:
    """The tokens a request came with, from `Authorization` and `X-HF-Authorization`."""

    authorization: Secret | None
    hub: Secret | None

    @property
    def nothing(self) -> bool:
        """Whether somebody calls without a name."""
        return self.authorization is None and self.hub is None


class SignIn(Protocol):
    """A way to sign in."""

    async def of(self, presented: Presented) -> Caller:
        """Return who is calling.

        Raises:
            Unauthenticated: nobody we serve.
            Denied: somebody who may do nothing at the Hub.
            Unavailable: who should know does not answer.
        """
        ...


class HubSignIn:
    """The Hub's own tokens, wherever they are sent; `Authorization` wins."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers

    async def of(self, presented: Presented) -> Caller:
        return await self._callers.of(presented.authorization or presented.hub)


class ExternalSignIn:
    """A token of the authorization server says who may come in, one of the Hub's whose jobs it is.

    What the caller may do is what both tokens allow.
    """

    def __init__(self, authority: ExternalAuthority, callers: Callers) -> None:
        self._authority = authority
        self._callers = callers
        self._cache: Cache[ExternalIdentity | HoldfastError] = Cache(size=REMEMBERED)

    async def of(self, presented: Presented) -> Caller:
        if presented.authorization is None:
            raise Unauthenticated("Sign in first: this service takes Authorization: Bearer ….")
        token = presented.authorization
        digest = hashlib.sha256(token.reveal().encode()).digest()
        identity = await self._cache.get(digest, partial(self._verify, token))
        if isinstance(identity, HoldfastError):
            raise identity.with_traceback(None)
        if presented.hub is None:
            raise HubAuthorityMissing
        caller = await self._callers.of(presented.hub)
        allowed = ALL_SCOPES & identity.scopes
        return replace(
            caller,
            scopes=caller.scopes & allowed,
            obtainable=caller.scopes - allowed,
        )

    async def _verify(self, token: Secret) -> Kept[ExternalIdentity | HoldfastError]:
        try:
            identity = await self._authority.verify(token)
        except Unauthenticated as no:
            return Kept(no, DISBELIEVED)
        except Unavailable as silence:
            return Kept(silence, UNKNOWN)
        return Kept(identity, min(BELIEVED, identity.believed_until - datetime.now(UTC)))
