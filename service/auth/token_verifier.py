"""Verifier of Hub tokens: makes a token a caller, and stores it for the jobs of the caller."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

import structlog

from schema.accounts import credentials
from schema.accounts.vault import Secret, Vault
from schema.common.async_cache import UNAVAILABLE_TTL, AsyncCache, CacheEntry
from schema.common.errors import Denied, HoldfastError, Unauthenticated, Unavailable
from service.auth.caller import Caller, ZeroGpuQuota
from service.auth.client_info import CURRENT_CLIENT
from service.auth.hub_client import HubAccountClient
from service.database import TenantDatabase

VALID_TOKEN_TTL: Final = timedelta(seconds=60)
"""How long a valid token is trusted without asking the Hub again, at most."""
INVALID_TOKEN_TTL: Final = timedelta(seconds=5)
_QUOTA_TTL: Final = timedelta(seconds=5)
"""How old a quota is at most: a call of a Space changes it, and a model may ask often."""
MAX_CACHED_TOKENS: Final = 10_000
"""Bounds the memory, however many invented tokens arrive."""
_MAX_TOKEN_CHARS: Final = 4096
"""The Hub is not asked about a longer token."""
_LAUNCH_CHECK_LIFETIME: Final = timedelta(minutes=10)
"""How long a permission to launch is trusted; the Hub checks each launch as well."""

log = structlog.stdlib.get_logger()


class TokenVerifier:
    """Verifies tokens at the Hub, and caches the answers by the digest of the token."""

    def __init__(self, hub: HubAccountClient, database: TenantDatabase, vault: Vault) -> None:
        self._hub = hub
        self._database = database
        self._vault = vault
        self._callers: AsyncCache[Caller | HoldfastError] = AsyncCache(
            max_entries=MAX_CACHED_TOKENS
        )
        self._visible_sources: AsyncCache[bool] = AsyncCache(max_entries=MAX_CACHED_TOKENS)
        self._quotas: AsyncCache[ZeroGpuQuota | HoldfastError | None] = AsyncCache(
            max_entries=MAX_CACHED_TOKENS
        )
        self._launch_checks: AsyncCache[HoldfastError | None] = AsyncCache(
            max_entries=MAX_CACHED_TOKENS
        )

    async def verify(self, token: Secret | None, *, connection_id: UUID | None = None) -> Caller:
        """Return the caller whom a token belongs to.

        Args:
            token: what they sent, or what is stored of their connected account.
            connection_id: of that account; None: they sent the token.

        Raises:
            Unauthenticated: there is no token, the Hub does not accept it, or the account has been
                disconnected meanwhile.
            Unavailable: the Hub does not answer.
        """
        if token is None:
            raise Unauthenticated("A Hugging Face token is needed: Authorization: Bearer hf_….")
        if len(token.reveal()) > _MAX_TOKEN_CHARS:
            raise Unauthenticated("This is longer than any token of Hugging Face. Sign in again.")
        return _caller_or_raise(
            await self._callers.get_or_load(
                _cache_key(token, connection_id), partial(self._verify, token, connection_id)
            )
        )

    async def renew(self, caller: Caller) -> None:
        """Verify and store the token of a caller again: their jobs are held for want of a token.

        Raises:
            Unauthenticated: the token is no longer accepted.
            Unavailable: the Hub does not answer.
        """
        token, connection_id = caller.token, caller.connection_id
        _caller_or_raise(
            await self._callers.reload(
                _cache_key(token, connection_id), partial(self._verify, token, connection_id)
            )
        )

    async def require_launch_permission(self, caller: Caller, namespace: str) -> None:
        """Check with the Hub that the caller may launch jobs in a namespace; answers are cached.

        Raises:
            Denied: they may not.
            Unauthenticated: the token is no longer accepted.
        """
        key = token_digest(caller.token) + namespace.encode()
        refusal = await self._launch_checks.get_or_load(
            key, partial(self._check_launch, caller, namespace)
        )
        if refusal is not None:
            raise refusal.with_traceback(None)

    async def read_zero_gpu_quota(self, caller: Caller) -> ZeroGpuQuota | None:
        """Return what the caller may still use of ZeroGPU; None: their token does not show it.

        Raises:
            Unavailable: the Hub does not answer.
        """
        quota = await self._quotas.get_or_load(
            token_digest(caller.token), partial(self._fetch_quota, caller)
        )
        if isinstance(quota, HoldfastError):
            raise quota.with_traceback(None)
        return quota

    async def _fetch_quota(self, caller: Caller) -> CacheEntry[ZeroGpuQuota | HoldfastError | None]:
        try:
            return CacheEntry(await self._hub.fetch_zero_gpu_quota(caller.token), _QUOTA_TTL)
        except Unavailable as error:
            return CacheEntry(error, UNAVAILABLE_TTL)

    async def can_read(self, caller: Caller, kind: str, name: str) -> bool:
        """Return whether the Hub shows a repository or a bucket to the caller; cached.

        While the Hub does not answer, nobody is kept from a launch: that asks again.
        """
        key = token_digest(caller.token) + f"{kind}/{name}".encode()
        return await self._visible_sources.get_or_load(
            key, partial(self._check_visible, caller, kind, name)
        )

    async def _check_visible(self, caller: Caller, kind: str, name: str) -> CacheEntry[bool]:
        try:
            is_visible = await self._hub.is_visible(caller.token, kind, name)
        except Unavailable:
            return CacheEntry(True, UNAVAILABLE_TTL)  # noqa: FBT003  # the value that is cached
        return CacheEntry(is_visible, VALID_TOKEN_TTL if is_visible else INVALID_TOKEN_TTL)

    async def _check_launch(
        self, caller: Caller, namespace: str
    ) -> CacheEntry[HoldfastError | None]:
        try:
            await self._hub.check_launch(caller, namespace)
        except (Denied, Unauthenticated) as refusal:
            return CacheEntry(refusal, INVALID_TOKEN_TTL)
        except Unavailable:
            # Not a refusal: the launch itself asks the Hub, and nothing is lost until then.
            return CacheEntry(None, UNAVAILABLE_TTL)
        return CacheEntry(None, _LAUNCH_CHECK_LIFETIME)

    async def _verify(
        self, token: Secret, connection_id: UUID | None
    ) -> CacheEntry[Caller | HoldfastError]:
        try:
            caller = replace(await self._hub.whoami(token), connection_id=connection_id)
        except Unauthenticated as error:
            return CacheEntry(error, INVALID_TOKEN_TTL)
        except Unavailable as error:
            return CacheEntry(error, UNAVAILABLE_TTL)
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
                    is_usable = await credentials.save_credential(
                        tx,
                        self._vault,
                        subject_id=caller.subject_id,
                        name=caller.name,
                        token=caller.token,
                        grants=caller.grants,
                        expires_at=caller.expires_at,
                        client=CURRENT_CLIENT.get(),
                        connection_id=caller.connection_id,
                    )
                if not is_usable:
                    return CacheEntry(
                        Unauthenticated("The account was disconnected meanwhile."),
                        INVALID_TOKEN_TTL,
                    )
            except Unavailable as error:
                caller, lifetime = replace(caller, storage_error=error), UNAVAILABLE_TTL
        log.info("caller.verified", subject=caller.subject_id, token=caller.token_kind)
        return CacheEntry(caller, lifetime)


def token_digest(token: Secret) -> bytes:
    """Return the key of a token in a cache, which must not hold the token itself."""
    return hashlib.sha256(token.reveal().encode()).digest()


def _cache_key(token: Secret, connection_id: UUID | None) -> bytes:
    """Tell a token that was sent from the same one of a connection, which may end."""
    return token_digest(token) + (b"" if connection_id is None else connection_id.bytes)


def _caller_or_raise(answer: Caller | HoldfastError) -> Caller:
    if isinstance(answer, HoldfastError):
        # A traceback grows each time an exception is raised, and this one stays in the cache.
        raise answer.with_traceback(None)
    return answer
