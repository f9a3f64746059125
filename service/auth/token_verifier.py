"""Whose call is this? A token becomes a caller, whose authority is lent to their jobs."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import structlog

from schema.accounts import credentials
from schema.accounts.vault import Secret, Vault
from schema.common.async_cache import UNAVAILABLE_TTL, AsyncCache, CacheEntry
from schema.common.errors import Denied, HoldfastError, Unauthenticated, Unavailable
from service.auth.caller import Caller
from service.auth.client_info import CURRENT_CLIENT
from service.auth.hub_client import HubAccountClient
from service.database import TenantDatabase

VALID_TOKEN_TTL: Final = timedelta(seconds=60)
"""How long a good token is believed at most."""
INVALID_TOKEN_TTL: Final = timedelta(seconds=5)
MAX_CACHED_TOKENS: Final = 10_000
"""Bounds the memory, however many made-up tokens arrive."""
_MAX_TOKEN_CHARACTERS: Final = 4096
"""What is longer is not even asked about."""
_LAUNCH_CHECK_LIFETIME: Final = timedelta(minutes=10)
"""How long a permission to launch is believed; each launch is checked by the Hub as well."""

log = structlog.stdlib.get_logger()


class TokenVerifier:
    """Everybody who called lately, by the digest of the token they showed."""

    def __init__(self, hub: HubAccountClient, database: TenantDatabase, vault: Vault) -> None:
        self._hub = hub
        self._database = database
        self._vault = vault
        self._callers: AsyncCache[Caller | HoldfastError] = AsyncCache(
            max_entries=MAX_CACHED_TOKENS
        )
        self._launch_checks: AsyncCache[HoldfastError | None] = AsyncCache(
            max_entries=MAX_CACHED_TOKENS
        )

    async def verify(self, token: Secret | None) -> Caller:
        """Return whose token this is.

        Raises:
            Unauthenticated: nobody's we serve.
            Unavailable: the Hub did not say.
        """
        if token is None:
            raise Unauthenticated("A Hugging Face token is needed: Authorization: Bearer hf_….")
        if len(token.reveal()) > _MAX_TOKEN_CHARACTERS:
            raise Unauthenticated("This is longer than any token of Hugging Face. Sign in again.")
        return _caller_or_raise(
            await self._callers.get_or_load(_token_digest(token), partial(self._verify, token))
        )

    async def renew(self, caller: Caller) -> None:
        """Have a caller's token looked at and lent again: their jobs are held for want of one.

        Raises:
            Unauthenticated: it is no longer accepted.
            Unavailable: the Hub did not say.
        """
        token = caller.token
        _caller_or_raise(
            await self._callers.reload(_token_digest(token), partial(self._verify, token))
        )

    async def require_launch_permission(self, caller: Caller, namespace: str) -> None:
        """Ask the Hub, once for a while, whether the caller may launch jobs in a namespace.

        Raises:
            Denied: they may not.
            Unauthenticated: the token is no longer accepted.
        """
        key = _token_digest(caller.token) + namespace.encode()
        refusal = await self._launch_checks.get_or_load(
            key, partial(self._check_launch, caller, namespace)
        )
        if refusal is not None:
            raise refusal.with_traceback(None)

    async def _check_launch(
        self, caller: Caller, namespace: str
    ) -> CacheEntry[HoldfastError | None]:
        try:
            await self._hub.check_launch(caller, namespace)
        except (Denied, Unauthenticated) as no:
            return CacheEntry(no, INVALID_TOKEN_TTL)
        except Unavailable:
            # Not an answer: the launch itself will have one, and nothing is lost until then.
            return CacheEntry(None, UNAVAILABLE_TTL)
        return CacheEntry(None, _LAUNCH_CHECK_LIFETIME)

    async def _verify(self, token: Secret) -> CacheEntry[Caller | HoldfastError]:
        try:
            caller = await self._hub.whoami(token)
        except Unauthenticated as no:
            return CacheEntry(no, INVALID_TOKEN_TTL)
        except Unavailable as silence:
            return CacheEntry(silence, UNAVAILABLE_TTL)
        lifetime = VALID_TOKEN_TTL
        if caller.expires_at is not None:
            lifetime = min(lifetime, caller.expires_at - datetime.now(UTC))
        if lifetime <= timedelta(0):
            return CacheEntry(
                Unauthenticated("This token has expired. Sign in again."), INVALID_TOKEN_TTL
            )
        return await self._store_credentials(caller, lifetime)

    async def _store_credentials(
        self, caller: Caller, lifetime: timedelta
    ) -> CacheEntry[Caller | HoldfastError]:
        if caller.can_act:
            try:
                async with self._database.as_subject(caller.subject_id) as (tx, _):
                    await credentials.save_credential(
                        tx,
                        self._vault,
                        subject_id=caller.subject_id,
                        name=caller.name,
                        token=caller.token,
                        grants=caller.grants,
                        expires_at=caller.expires_at,
                        client=CURRENT_CLIENT.get(),
                    )
            except Unavailable as error:
                caller, lifetime = replace(caller, storage_error=error), UNAVAILABLE_TTL
        log.info("caller.verified", subject=caller.subject_id, token=caller.token_kind)
        return CacheEntry(caller, lifetime)


def _token_digest(token: Secret) -> bytes:
    return hashlib.sha256(token.reveal().encode()).digest()


def _caller_or_raise(answer: Caller | HoldfastError) -> Caller:
    if isinstance(answer, HoldfastError):
        # A traceback grows each time an exception is raised, and this one is kept.
        raise answer.with_traceback(None)
    return answer
