"""What a call does with all open jobs of a workspace: cancel them, or choose those to wait for.

A cancel goes batch by batch, each a transaction of its own, so that no lock of the subject is held
for long. The last batch sees no open job, so a job that was launched while an earlier one waited is
cancelled too. One that comes even later goes on, and the answer counts it: only an archived
workspace takes no new job.
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from schema.common import ids
from schema.common.errors import NotFound
from schema.common.ids import HandleKind
from schema.db.database import Transaction
from schema.jobs import lifecycle
from schema.workspaces import open_jobs
from schema.workspaces import store as workspace_store
from schema.workspaces.tables import Workspace
from service.auth.caller import Caller
from service.auth.client_info import CURRENT_CLIENT
from service.runtime.context import App
from service.runtime.request_ids import CURRENT_REQUEST_ID
from service.views.job_kinds import describe_kind
from service.workspaces.views import LeftJobView, WorkspaceCancelView

_BATCH_SIZE: Final = 100
_MAX_BATCHES: Final = 50
"""A call ends before a client gives it up; the same call again goes on."""
_MAX_SHOWN_JOBS: Final = 10
_MEANWHILE: Final = "It was launched while this call ran."


@dataclass(frozen=True, slots=True)
class JobSelection:
    """The jobs of a workspace that a wait is for."""

    job_handles: list[str]
    total: int
    """How many there are."""

    @property
    def has_more(self) -> bool:
        """Whether a wait does not hold them all."""
        return self.total > len(self.job_handles)


@dataclass(slots=True)
class _Cancellation:
    """A cancel of a whole workspace under way."""

    app: App
    caller: Caller
    workspace: Workspace
    cancelled: list[UUID]
    refusals: dict[str, str]
    """Why jobs of a kind are left alone, by that kind."""

    async def cancel_batch(self, tx: Transaction) -> tuple[list[UUID], bool]:
        """Cancel the oldest open jobs that the caller may cancel; false: there were none."""
        candidates = await open_jobs.list_cancellable_jobs(
            tx,
            self.caller.subject_id,
            self.workspace.id,
            excluded_kinds=self.refusals,
            limit=_BATCH_SIZE,
        )
        for kind in set(candidates.values()):
            scope = describe_kind(kind).scope
            if scope not in self.caller.scopes:
                self.refusals[kind] = str(self.caller.missing_scopes_error(scope))
        batch = await lifecycle.cancel_jobs(
            tx,
            [job_id for job_id, kind in candidates.items() if kind not in self.refusals],
            subject_id=self.caller.subject_id,
            client=CURRENT_CLIENT.get(),
            request_id=CURRENT_REQUEST_ID.get(),
        )
        return batch, bool(candidates)

    async def build_view(self, tx: Transaction) -> WorkspaceCancelView:
        """Say what was cancelled, what was not, and why."""
        subject_id, workspace = self.caller.subject_id, self.workspace
        counts = await open_jobs.count_after_cancel(tx, subject_id, workspace.id, self.cancelled)
        left = await open_jobs.list_cancellable_jobs(
            tx, subject_id, workspace.id, excluded_kinds=(), limit=_MAX_SHOWN_JOBS
        )
        return WorkspaceCancelView.from_counts(
            workspace,
            counts,
            cancelled=len(self.cancelled),
            not_cancelled=[
                LeftJobView(
                    job_id=ids.format_handle(HandleKind.JOB, job_id),
                    why=self.refusals.get(kind, _MEANWHILE),
                )
                for job_id, kind in left.items()
            ],
        )


async def cancel_open_jobs(app: App, caller: Caller, handle: str) -> WorkspaceCancelView:
    """Cancel every open job of a workspace.

    Raises:
        NotFound: the caller has no such workspace.
        InsufficientScope: there are open jobs, and the caller may cancel none of them.
    """
    async with app.transaction(caller) as tx:
        workspace = await _find_workspace(tx, caller, handle)
    cancellation = _Cancellation(app, caller, workspace, [], {})
    for _ in range(_MAX_BATCHES):
        async with app.transaction(caller) as tx:
            batch, may_follow = await cancellation.cancel_batch(tx)
        cancellation.cancelled += batch
        if batch:
            # One wakes the loop that stops runs, and it takes all that are due.
            app.wake_worker(ids.format_handle(HandleKind.JOB, batch[0]))
        if not may_follow:
            break
    async with app.transaction(caller) as tx:
        view = await cancellation.build_view(tx)
    if not cancellation.cancelled and cancellation.refusals:
        caller.require_scope(describe_kind(min(cancellation.refusals)).scope)
    return view


async def select_open_jobs(app: App, caller: Caller, handle: str, *, limit: int) -> JobSelection:
    """Return the jobs of a workspace that may change yet, for a wait.

    Raises:
        NotFound: the caller has no such workspace.
    """
    async with app.transaction(caller) as tx:
        workspace = await _find_workspace(tx, caller, handle)
        job_ids, total = await open_jobs.list_unsettled_jobs(
            tx, caller.subject_id, workspace.id, limit=limit
        )
    return JobSelection([ids.format_handle(HandleKind.JOB, job_id) for job_id in job_ids], total)


async def _find_workspace(tx: Transaction, caller: Caller, handle: str) -> Workspace:
    workspace_id = ids.parse_handle(HandleKind.WORKSPACE, handle)
    workspace = await workspace_store.get_workspace(tx, caller.subject_id, workspace_id)
    if workspace is None:
        raise NotFound("workspace", handle)
    return workspace
