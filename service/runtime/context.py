"""What may a tool ask for? The application, and who is calling; both come from resolvers.

A parameter that a model cannot fill in is one it cannot get wrong, or lie about.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

import anyio

from schema.accounts.tables import Hold
from schema.accounts.vault import Vault
from schema.common.errors import Unavailable
from schema.db.database import Transaction
from schema.messaging.wakeups import WakeupSender
from service.auth.caller import Caller
from service.auth.token_verifier import TokenVerifier
from service.database import TenantDatabase
from service.runtime.price_cache import PriceCache
from service.runtime.sealed_tokens import ConfirmationTokens, DownloadLinks
from service.runtime.space_catalog import SpaceCatalog
from service.runtime.wait_slots import WaitSlots
from service.runtime.watch import Watch


@dataclass(frozen=True, slots=True)
class App:
    """What lives as long as the process does."""

    database: TenantDatabase
    wakeups: WakeupSender
    token_verifier: TokenVerifier
    vault: Vault
    hub_url: str
    max_open_jobs: int
    """How many unfinished jobs a subject may have at a time."""
    watch: Watch
    wait_slots: WaitSlots
    confirmation_tokens: ConfirmationTokens
    """What a person was told a launch may cost."""
    download_links: DownloadLinks
    """Where the files of jobs can be downloaded."""
    price_cache: PriceCache
    space_catalog: SpaceCatalog
    output_bucket_name: str
    """What the private bucket for outputs is called, in the namespace that runs their job."""
    monthly_budget_micro_usd: int | None
    """What the jobs of a subject may cost in a month, unless they have a budget of their own."""

    @asynccontextmanager
    async def transaction(self, caller: Caller) -> AsyncGenerator[Transaction]:
        """Yield a transaction that sees the caller's rows, and no others.

        If their jobs are held for want of a token, this call has just brought one.

        Raises:
            Unauthenticated: the token is no longer accepted.
            Unavailable: the database cannot be reached.
        """
        async with AsyncExitStack() as stack:
            acting = self.database.as_subject(caller.subject_id)
            tx, hold = await stack.enter_async_context(acting)
            if hold is Hold.CREDENTIALS and caller.can_act:
                await stack.aclose()  # the Hub is about to be asked
                with suppress(Unavailable):
                    await self.token_verifier.renew(caller)
                acting = self.database.as_subject(caller.subject_id)
                tx, _ = await stack.enter_async_context(acting)
            yield tx

    async def require_launch_permission(self, caller: Caller, namespace: str) -> None:
        """Ask the Hub, once for a while, whether the caller may launch jobs in a namespace.

        Raises:
            Denied: they may not; nothing has been created.
            Unauthenticated: the token is no longer accepted.
        """
        await self.token_verifier.require_launch_permission(caller, namespace)

    async def wake_worker(self, handle: str) -> None:
        """Wake a worker for what has just been committed; the sweep repairs a lost wake."""
        with anyio.CancelScope(shield=True):
            await self.wakeups.send(handle)


CURRENT_CALLER: Final[ContextVar[Caller | None]] = ContextVar("calling", default=None)
"""Set at the edge for the length of one request."""

REAUTHENTICATE: Final[ContextVar[Callable[[], Awaitable[Caller]] | None]] = ContextVar(
    "still_calling", default=None
)
"""Set there too: has the same credentials looked at again, for what lasts longer than a moment."""
