"""Whose call is this? A token becomes a caller, whose authority is lent to their jobs."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import structlog

from schema.accounts import credentials
from schema.accounts.vault import Secret, Vault
from schema.common.async_cache import BELIEVED, DISBELIEVED, REMEMBERED, UNKNOWN, Cache, Kept
from schema.common.errors import Denied, HoldfastError, Unauthenticated, Unavailable
from service.auth.caller import Caller
from service.auth.client_info import CLIENT
from service.auth.hub_client import HuggingFace
from service.database import Ground

_LARGEST: Final = 4096
"""What is longer is not even asked about."""
_CHECKED: Final = timedelta(minutes=10)
"""How long a permission to launch is believed; each launch is checked by the Hub as well."""

log = structlog.stdlib.get_logger()


class Callers:
    """Everybody who called lately, by the digest of the token they showed."""

    def __init__(self, hub: HuggingFace, ground: Ground, vault: Vault) -> None:
        self._hub = hub
        self._ground = ground
        self._vault = vault
        self._cache: Cache[Caller | HoldfastError] = Cache(size=REMEMBERED)
        self._checks: Cache[HoldfastError | None] = Cache(size=REMEMBERED)

    async def of(self, token: Secret | None) -> Caller:
        """Return whose token this is.

        Raises:
            Unauthenticated: nobody's we serve.
            Unavailable: the Hub did not say.
        """
        if token is None:
            raise Unauthenticated("A Hugging Face token is needed: Authorization: Bearer hf_….")
        if len(token.reveal()) > _LARGEST:
            raise Unauthenticated("This is longer than any token of Hugging Face. Sign in again.")
        return _said(await self._cache.get(_digest(token), partial(self._verify, token)))

    async def renew(self, caller: Caller) -> None:
        """Have a caller's token looked at and lent again: their jobs are held for want of one.

        Raises:
            Unauthenticated: it is no longer accepted.
            Unavailable: the Hub did not say.
        """
        token = caller.token
        _said(await self._cache.renew(_digest(token), partial(self._verify, token)))

    async def expect_may_launch(self, caller: Caller, namespace: str) -> None:
        """Ask the Hub, once for a while, whether the caller may launch jobs in a namespace.

        Raises:
            Denied: they may not.
            Unauthenticated: the token is no longer accepted.
        """
        key = _digest(caller.token) + namespace.encode()
        refusal = await self._checks.get(key, partial(self._check, caller, namespace))
        if refusal is not None:
            raise refusal.with_traceback(None)

    async def _check(self, caller: Caller, namespace: str) -> Kept[HoldfastError | None]:
        try:
            await self._hub.check_launch(caller, namespace)
        except (Denied, Unauthenticated) as no:
            return Kept(no, DISBELIEVED)
        except Unavailable:
            # Not an answer: the launch itself will have one, and nothing is lost until then.
            return Kept(None, UNKNOWN)
        return Kept(None, _CHECKED)

    async def _verify(self, token: Secret) -> Kept[Caller | HoldfastError]:
        try:
            caller = await self._hub.whoami(token)
        except Unauthenticated as no:
            return Kept(no, DISBELIEVED)
        except Unavailable as silence:
            return Kept(silence, UNKNOWN)
        lifetime = BELIEVED
        if caller.expires_at is not None:
            lifetime = min(lifetime, caller.expires_at - datetime.now(UTC))
        if lifetime <= timedelta(0):
            return Kept(Unauthenticated("This token has expired. Sign in again."), DISBELIEVED)
        return await self._welcome(caller, lifetime)

    async def _welcome(self, caller: Caller, lifetime: timedelta) -> Kept[Caller | HoldfastError]:
        if caller.can_act:
            try:
                async with self._ground.acting_for(caller.subject_id) as (tx, _):
                    await credentials.remember(
                        tx,
                        self._vault,
                        subject_id=caller.subject_id,
                        name=caller.name,
                        token=caller.token,
                        grants=caller.grants,
                        expires_at=caller.expires_at,
                        client=CLIENT.get(),
                    )
            except Unavailable as error:
                caller, lifetime = replace(caller, trouble=error), UNKNOWN
        log.info("caller.verified", subject=caller.subject_id, token=caller.kind)
        return Kept(caller, lifetime)


def _digest(token: Secret) -> bytes:
    return hashlib.sha256(token.reveal().encode()).digest()


def _said(answer: Caller | HoldfastError) -> Caller:
    if isinstance(answer, HoldfastError):
        # A traceback grows each time an exception is raised, and this one is kept.
        raise answer.with_traceback(None)
    return answer
