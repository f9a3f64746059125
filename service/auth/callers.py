"""Whose call is this? A token becomes a caller, whose authority is lent to their jobs."""

import hashlib
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import structlog

from schema import credentials
from schema.errors import HoldfastError, Unauthenticated, Unavailable
from schema.vault import Secret, Vault
from service.auth.cache import Cache, Kept
from service.auth.huggingface import HuggingFace, Verified
from service.context import Caller
from service.ground import Ground

_BELIEVED: Final = timedelta(seconds=60)
_DISBELIEVED: Final = timedelta(seconds=5)
_UNKNOWN: Final = timedelta(seconds=1)
"""How long nobody asks again after the Hub, or our database, did not answer."""
_REMEMBERED: Final = 10_000

log = structlog.stdlib.get_logger()


class Callers:
    """Everybody who called lately, by the digest of the token they showed."""

    def __init__(self, hub: HuggingFace, ground: Ground, vault: Vault) -> None:
        self._hub = hub
        self._ground = ground
        self._vault = vault
        self._cache: Cache[Caller | HoldfastError] = Cache(size=_REMEMBERED)

    async def of(self, token: Secret | None) -> Caller:
        """Return whose token this is.

        Raises:
            Unauthenticated: nobody's we serve.
            Unavailable: the Hub did not say.
        """
        if token is None:
            raise Unauthenticated("A Hugging Face token is needed: Authorization: Bearer hf_….")
        digest = hashlib.sha256(token.reveal().encode()).digest()
        answer = await self._cache.get(digest, partial(self._verify, token))
        if isinstance(answer, HoldfastError):
            # A traceback grows each time an exception is raised, and this one is kept.
            raise answer.with_traceback(None)
        return answer

    async def _verify(self, token: Secret) -> Kept[Caller | HoldfastError]:
        try:
            who = await self._hub.whoami(token)
        except Unauthenticated as no:
            return Kept(no, _DISBELIEVED)
        except Unavailable as silence:
            return Kept(silence, _UNKNOWN)
        lifetime = _BELIEVED
        if who.expires_at is not None:
            lifetime = min(lifetime, who.expires_at - datetime.now(UTC))
        if lifetime <= timedelta(0):
            return Kept(Unauthenticated("This token has expired. Sign in again."), _DISBELIEVED)
        return await self._welcome(who, token, lifetime)

    async def _welcome(
        self, who: Verified, token: Secret, lifetime: timedelta
    ) -> Kept[Caller | HoldfastError]:
        trouble = None
        if who.can_act:
            try:
                async with self._ground.transaction() as tx:
                    await credentials.remember(
                        tx,
                        self._vault,
                        subject_id=who.subject_id,
                        name=who.name,
                        token=token,
                        expires_at=who.expires_at,
                    )
            except Unavailable as error:
                trouble, lifetime = error, _UNKNOWN
        log.info("caller.verified", subject=who.subject_id, can_act=who.can_act)
        caller = Caller(who.subject_id, who.name, can_act=who.can_act, trouble=trouble)
        return Kept(caller, lifetime)
