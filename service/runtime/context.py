"""The App of the process, and the caller of the current request.

Tools get both from resolvers, not from arguments: a model cannot fill in such a parameter, so it
cannot get it wrong, or lie in it.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from schema.accounts.tables import Hold
from schema.accounts.vault import Vault
from schema.artifacts.uploads import UploadLimits
from schema.common.errors import Unavailable
from schema.common.observability.tracing import Tracer
from schema.db.database import Transaction
from schema.hub.client import HubClient
from schema.hub.hub_files import HubFileReader
from schema.messaging.wakeups import WakeupSender
from service.auth.caller import Caller, Scope
from service.auth.token_verifier import TokenVerifier
from service.database import TenantDatabase
from service.runtime.price_cache import PriceCache
from service.runtime.sealed_tokens import ConfirmationTokens, DownloadLinks, UploadLinks
from service.runtime.space_catalog import SpaceCatalog
from service.runtime.wait_slots import WaitSlots
from service.runtime.watch import Watch


@dataclass(frozen=True, slots=True)
class App:
    """Everything that is opened once per process."""

    database: TenantDatabase
    wakeups: WakeupSender
    token_verifier: TokenVerifier
    vault: Vault
    hub: HubClient
    hub_url: str
    max_open_jobs: int
    """How many unfinished jobs a subject may have at a time."""
    watch: Watch
    wait_slots: WaitSlots
    confirmation_tokens: ConfirmationTokens
    """Proof of what a person was asked before a launch."""
    download_links: DownloadLinks
    """Links to the files of jobs."""
    upload_links: UploadLinks
    """Links by which a caller sends a file."""
    upload_limits: UploadLimits
    hub_files: HubFileReader
    """Reads files of the Hub with the token of a caller."""
    price_cache: PriceCache
    space_catalog: SpaceCatalog
    output_bucket_name: str
    """The name of the private bucket for outputs, in the namespace that runs the job."""
    monthly_budget_micro_usd: int | None
    """What the jobs of a subject may cost in a month, if they have no budget of their own."""
    spending_retention: timedelta
    """How long the sums of deleted jobs are stored."""
    webhook_origins: Collection[str] = ()
    """Origins that webhooks may go to besides the public web."""
    tracer: Tracer | None = None
    """Makes spans, if there is a collector."""

    @asynccontextmanager
    async def transaction(self, caller: Caller) -> AsyncGenerator[Transaction]:
        """Yield a transaction that sees the rows of the caller, and no others.

        If their jobs are held for want of a token, the token of this call is stored for them first.

        Raises:
            Unauthenticated: the token is no longer accepted.
            Unavailable: the database cannot be reached.
        """
        async with AsyncExitStack() as stack:
            tx, hold = await stack.enter_async_context(self.database.as_subject(caller.subject_id))
            if hold is Hold.CREDENTIALS and caller.can_act:
                await stack.aclose()  # no transaction is open while the Hub is asked
                with suppress(Unavailable):
                    await self.token_verifier.renew(caller)
                tx, _ = await stack.enter_async_context(self.database.as_subject(caller.subject_id))
            yield tx

    async def require_launch_permission(self, caller: Caller, namespace: str) -> None:
        """Check with the Hub that the caller may launch jobs in a namespace; answers are cached.

        Raises:
            Denied: they may not; nothing has been created.
            Unauthenticated: the token is no longer accepted.
        """
        await self.token_verifier.require_launch_permission(caller, namespace)

    def wake_worker(self, handle: str, kind: str | None = None) -> None:
        """Start to wake a worker for a job that was just committed; a sweep finds it in any case.

        Args:
            handle: of the job.
            kind: of the job, if it is to be claimed; None: a run of it is to be stopped.
        """
        self.wakeups.start_sending(handle, kind)


HELP_URI: Final = "holdfast://help"
"""The resource that says how to sign in."""

ScopeFinder = Callable[[App, Caller, Mapping[str, Any]], Awaitable[frozenset[Scope]]]
"""Finds the scopes that a call of a tool needs, all of them, from its arguments."""

CURRENT_CALLER: Final[ContextVar[Caller | None]] = ContextVar("calling", default=None)
"""Set by the HTTP middleware for the length of one request."""

REAUTHENTICATE: Final[ContextVar[Callable[[], Awaitable[Caller]] | None]] = ContextVar(
    "still_calling", default=None
)
"""Set there too: verifies the same credentials again, for a request that lasts long."""
