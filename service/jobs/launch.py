"""service.jobs.launch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from uuid import UUID

import anyio

from schema.accounts import secrets as sealed_secrets
from schema.accounts.vault import Secret
from schema.billing.budgets import Rate
from schema.common import ids as common_ids
from schema.common.errors import InDoubt, Unavailable
from schema.common.failpoints import reach
from schema.common.ids import Kind
from schema.db.database import Transaction
from schema.jobs import lifecycle
from schema.jobs.dependencies import On
from service.auth.caller import Caller
from service.auth.client_info import CLIENT
from service.jobs.operations import look
from service.runtime.context import App
from service.views.jobs import LaunchedView

_PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 0.0)
"""Seconds to wait after each try to learn what became of a commit."""


class Beside(Protocol):
    """What is too large for a request, and kept beside it; kept again it is the same."""

    async def keep(self, tx: Transaction, caller: Caller, job_id: UUID) -> None:
        """Keep it."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """A job to be launched; `spec` has been checked."""

    kind: str
    title: str
    namespace: str
    """The Hub account that acts and pays; the caller's token reaches it."""
    spec: dict[str, Any]
    labels: dict[str, str]
    workspace_id: UUID | None
    idempotency_key: str | None
    secrets: Mapping[str, Secret] = field(default_factory=dict[str, Secret])
    rate: Rate | None = None
    """What it can cost, if that is known."""
    rerun_of: UUID | None = None
    after: Sequence[UUID] = ()
    """The jobs that have to end before it begins."""
    on: On = On.SUCCESS
    notes: list[str] = field(default_factory=list[str])
    """What the caller should know about it."""
    beside: Beside | None = None
    """What is kept beside the request, in its transaction."""


async def launch(app: App, caller: Caller, request: Request) -> LaunchedView:
    """Put a job in the queue, durably, then wake a worker.

    Raises:
        LimitReached: the caller has as many unfinished jobs as they may have at a time.
        BudgetExceeded: what it can cost does not fit into what may be spent.
        Unavailable: with whether nothing was launched, or what it is called if it was.
    """
    job_id = common_ids.new_id()
    in_doubt = False
    for pause in _PAUSES:
        try:
            view = await _submit(app, caller, request, job_id)
        except InDoubt:
            in_doubt = True
        except Unavailable:
            if not in_doubt:
                raise
        else:
            await app.wake(view.job_id)
            reach("submit.rung")
            return view
        await anyio.sleep(pause)
    handle = common_ids.write(Kind.JOB, job_id)
    raise InDoubt(
        "The database",
        so=f"whether {handle} was launched is not known",
        first=""
        if request.idempotency_key
        else f'See that job_status(job_ids="{handle}") has none',
    )


async def _submit(app: App, caller: Caller, request: Request, job_id: UUID) -> LaunchedView:
    """Queue a job; the same id again is the same job."""
    async with app.transaction(caller) as tx:
        job = await lifecycle.submit(
            tx,
            job_id=job_id,
            subject_id=caller.subject_id,
            kind=request.kind,
            namespace=request.namespace,
            title=request.title,
            spec=request.spec,
            labels=request.labels,
            most_open=app.open_jobs,
            workspace_id=request.workspace_id,
            idempotency_key=request.idempotency_key,
            client=CLIENT.get(),
            rate=request.rate,
            monthly_budget=app.monthly_budget,
            rerun_of=request.rerun_of,
            after=request.after,
            on=request.on,
        )
        await sealed_secrets.save_job_secrets(
            tx, app.vault, job.id, caller.subject_id, request.secrets
        )
        if request.beside is not None:
            await request.beside.keep(tx, caller, job.id)
        reach("submit.written")
        view = await look(tx, app, caller, common_ids.write(Kind.JOB, job.id))
    reach("submit.committed")
    earlier = job.possible_duplicate_of
    return LaunchedView(
        **dict(view),
        possible_duplicate_of=None if earlier is None else common_ids.write(Kind.JOB, earlier),
        notes=request.notes,
    )
