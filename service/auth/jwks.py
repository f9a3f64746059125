"""Which keys does the authorization server sign with right now?

age of the keys   0 s ──────────── 60 s ─────────────────────── 10 min ──────────
a known kid       verified at once │ fetched first; without an   │ fetched first, or
                                   │ answer, verified as before  │ nobody is let in
an unknown kid    fetched first, unless that was tried within the last 5 s
"""

import asyncio
import math
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import anyio
import structlog

from schema.common.errors import Unavailable
from service.auth import jwk
from service.auth.jwk import Key
from service.auth.publisher import Publisher, Unreadable

FRESH: Final = timedelta(seconds=60)
"""How long a key that was taken back is still believed, while its server answers."""
KEPT: Final = timedelta(minutes=10)
"""How long keys are believed whose server does not answer."""
PAUSE: Final = timedelta(seconds=5)
"""How long nobody asks again, whatever tokens come: anyone can make up a kid."""

log = structlog.stdlib.get_logger()


class Jwks:
    """The keys of one authorization server, as of lately."""

    def __init__(
        self, publisher: Publisher, issuer: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._publisher = publisher
        self._issuer = issuer
        self._clock = clock
        self._keys: tuple[Key, ...] = ()
        self._published = self._asked = -math.inf
        self._answered = False
        self._asking = asyncio.Lock()

    async def find(self, kid: str | None, algorithm: str) -> list[Key]:
        """Find the keys that may have signed so; none if the server has no such key.

        Raises:
            Unavailable: the server did not say.
        """
        if self._age() < FRESH.total_seconds() and (known := self._fitting(kid, algorithm)):
            return known
        await self._refresh()
        known = self._fitting(kid, algorithm) if self._age() < KEPT.total_seconds() else []
        if not known and not self._answered:
            raise Unavailable(f"The authorization server {self._issuer}", retry_after=PAUSE)
        return known

    def _fitting(self, kid: str | None, algorithm: str) -> list[Key]:
        return [key for key in self._keys if key.may_verify(kid, algorithm)]

    def _age(self) -> float:
        return self._clock() - self._published

    async def _refresh(self) -> None:
        """Ask, unless somebody has just done so."""
        async with self._asking:
            if self._clock() - self._asked < PAUSE.total_seconds():
                return
            started = self._clock()
            # Whoever goes away meanwhile has still asked, and the others need the answer.
            with anyio.CancelScope(shield=True):
                try:
                    self._keys = jwk.read(await self._publisher.fetch())
                except (Unreadable, ValueError) as error:
                    self._answered = False
                    log.warning("jwks.unread", issuer=self._issuer, error=_cause(error))
                else:
                    self._answered, self._published = True, started
                finally:
                    self._asked = self._clock()


def _cause(error: Exception) -> str:
    return str(error) if isinstance(error, Unreadable) else "it is not a JWK set"
