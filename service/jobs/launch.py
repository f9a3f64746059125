"""The request of a launch, and the launch itself: a row in the queue, then a wake-up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from uuid import UUID

import anyio

from schema.accounts import secrets as sealed_secrets
from schema.accounts.vault import Secret
from schema.artifacts import uploads
from schema.billing.budgets import Rate
from schema.common import ids as common_ids
from schema.common.errors import Conflict, InDoubt, Unavailable
from schema.common.failpoints import hit_failpoint
from schema.common.ids import HandleKind
from schema.common.observability.tracing import current_traceparent
from schema.db.database import Transaction
from schema.db.storable import expect_storable
from schema.jobs import lifecycle
from schema.jobs.dependencies import DependencyCondition
from schema.jobs.lifecycle import Submission, SubmittedJob
from schema.jobs.tables import FINAL_STATES, JobState
from schema.specs.inputs.upload_handles import find_upload_ids
from schema.workspaces import webhooks
from schema.workspaces.webhooks import NewTarget
from service.auth.caller import Caller
from service.auth.client_info import CURRENT_CLIENT
from service.jobs import operations
from service.runtime.context import App
from service.runtime.request_ids import CURRENT_REQUEST_ID
from service.views import job_summary
from service.views.answers import shorten_json
from service.views.jobs import LaunchedView

_RETRY_PAUSES_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 0.0)
"""Pauses after each try to learn what became of a commit."""
_MAX_NOTES_BYTES: Final = 3000


class JobAttachment(Protocol):
    """What is too large for a request and is stored beside it; a second store changes nothing."""

    async def store(self, tx: Transaction, caller: Caller, job_id: UUID) -> None:
        """Store it, in the transaction that makes the job."""
        ...


@dataclass(frozen=True, slots=True)
class LaunchRequest:
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
    work: str = ""
    """What a person is asked to pay for, as in "t4-small for up to 2h"."""
    approval_threshold_micro_usd: int | None = None
    """The cost above which a person is asked first; None: nobody is asked."""
    rerun_of: UUID | None = None
    parent_ids: Sequence[UUID] = ()
    """The jobs that have to end before it begins."""
    dependency_condition: DependencyCondition = DependencyCondition.SUCCESS
    notes: list[str] = field(default_factory=list[str])
    """What the caller should know about it."""
    upload_ids: frozenset[UUID] = frozenset()
    """Uploads that what is stored beside it names; those in `spec` are looked for there."""
    attachment: JobAttachment | None = None
    """What is stored beside the request, in its transaction."""
    webhook: NewTarget | None = None
    """Where its end is announced; None: where its workspace says, if it says so."""

    @property
    def short_notes(self) -> list[str]:
        """The notes as they fit a reply: they repeat what a script or a workspace says."""
        notes: list[str] = shorten_json(self.notes, _MAX_NOTES_BYTES)
        return notes

    def __post_init__(self) -> None:
        """Refuse what cannot be stored: some arguments are JSON in a text, and unpacked late."""
        expect_storable(self.spec)


async def enqueue_job(app: App, caller: Caller, request: LaunchRequest) -> LaunchedView:
    """Put a job in the queue, durably, and wake a worker.

    Raises:
        LimitReached: the caller has as many unfinished jobs as they may have at a time.
        BudgetExceeded: what it can cost does not fit into what may be spent.
        Unavailable: the database cannot be reached, and nothing was launched.
        InDoubt: whether it was launched is not known; the text names the handle to look for.
    """
    job_id = common_ids.new_id()
    in_doubt = False
    for pause in _RETRY_PAUSES_SECONDS:
        try:
            view = await _launch_job(app, caller, request, job_id)
        except InDoubt:
            in_doubt = True
        except Unavailable:
            if not in_doubt:
                raise
        else:
            return view
        await anyio.sleep(pause)
    handle = common_ids.format_handle(HandleKind.JOB, job_id)
    raise InDoubt(
        "The database",
        effect=f"whether {handle} was launched is not known",
        first_step=""
        if request.idempotency_key
        else f'See that job_status(job_ids="{handle}") has none',
    )


async def _launch_job(
    app: App, caller: Caller, request: LaunchRequest, job_id: UUID
) -> LaunchedView:
    """Queue a job, and show it; a second call with the same id finds the first one's job."""
    job, webhook_secret = await _submit_job(app, caller, request, job_id)
    hit_failpoint("submit.committed")
    try:
        # The token was looked at by the submission: a job that exists is shown whatever it is now.
        async with app.database.as_subject(caller.subject_id) as (tx, _hold):
            view = await operations.read_job_view(
                tx, app, caller, common_ids.format_handle(HandleKind.JOB, job.id)
            )
    except Unavailable as error:  # it is launched, whatever this read did not learn
        raise InDoubt("The database", effect="the job was launched and cannot be read") from error
    earlier = job.possible_duplicate_of
    return LaunchedView(
        **dict(view),
        possible_duplicate_of=None
        if earlier is None
        else common_ids.format_handle(HandleKind.JOB, earlier),
        notes=request.short_notes,
        webhook_secret=webhook_secret and webhook_secret.reveal(),
    )


async def _submit_job(
    app: App, caller: Caller, request: LaunchRequest, job_id: UUID
) -> tuple[SubmittedJob, Secret | None]:
    """Commit a job, in one statement if nothing is stored beside it.

    Returns:
        The job, and the secret of its webhook if that was made for it.
    """
    submission: Submission = {
        "job_id": job_id,
        "subject_id": caller.subject_id,
        "kind": request.kind,
        "namespace": request.namespace,
        "title": request.title,
        "spec": request.spec,
        "labels": request.labels,
        "max_open_jobs": app.max_open_jobs,
        "workspace_id": request.workspace_id,
        "idempotency_key": request.idempotency_key,
        "client": CURRENT_CLIENT.get(),
        "request_id": CURRENT_REQUEST_ID.get(),
        "traceparent": current_traceparent(),
        "rate": request.rate,
        "default_monthly_budget": app.monthly_budget_micro_usd,
        "rerun_of": request.rerun_of,
        "parent_ids": request.parent_ids,
        "dependency_condition": request.dependency_condition,
        "secret_values": sealed_secrets.SecretValues(
            app.vault,
            request.secrets,
            owner=f"job/{caller.subject_id}/{request.idempotency_key}",
        ),
    }

    def wake_worker() -> None:
        app.wake_worker(common_ids.format_handle(HandleKind.JOB, job_id), request.kind)
        hit_failpoint("submit.rung")

    upload_ids = request.upload_ids | find_upload_ids(request.spec)
    if not (request.secrets or request.attachment or request.webhook or upload_ids):
        job = await lifecycle.commit_job(app.database, caller.subject_id, wake_worker, **submission)
        if job is not None:
            return job, None
    webhook_secret = None
    async with app.transaction(caller) as tx:
        job = await lifecycle.submit_job(tx, **submission)
        await sealed_secrets.save_job_secrets(
            tx, app.vault, job.id, caller.subject_id, request.secrets
        )
        if request.attachment is not None:
            await request.attachment.store(tx, caller, job.id)
        if upload_ids and job.id == job_id:  # else its key has found another one
            await uploads.pin_uploads(tx, caller.subject_id, job_id, upload_ids)
        if request.webhook is not None and job.id == job_id:  # else its key has found another one
            webhook_secret = await _set_webhook(tx, app, caller, job_id, request.webhook)
        hit_failpoint("submit.written")
    wake_worker()
    return job, webhook_secret


async def _set_webhook(
    tx: Transaction, app: App, caller: Caller, job_id: UUID, webhook: NewTarget
) -> Secret | None:
    """Announce the end of a job at a URL, and return the secret if the URL is new."""
    target_id = await webhooks.name_target(tx, app.vault, caller.subject_id, webhook)
    await webhooks.set_job_target(tx, job_id, caller.subject_id, target_id)
    return webhook.secret if target_id == webhook.target_id else None


async def find_parents(
    app: App, caller: Caller, parent_handles: list[str] | None, condition: DependencyCondition
) -> Sequence[UUID]:
    """Find the jobs that have to end before a launch begins.

    Raises:
        Invalid: one is not a handle of a job.
        NotFound: the caller has no such job.
        Conflict: one has failed, and the launch would wait for its success.
    """
    if not parent_handles:
        return ()
    async with app.transaction(caller) as tx:
        parents = [
            await operations.find_job(tx, caller, handle)
            for handle in dict.fromkeys(parent_handles)
        ]
    for parent in parents:
        if (
            condition is DependencyCondition.SUCCESS
            and parent.state in FINAL_STATES
            and parent.state is not JobState.SUCCEEDED
        ):
            raise Conflict(
                f"{job_summary.job_handle(parent)} is {parent.state}, so what has to wait for its "
                f"success would never begin, and nothing was launched. Run it again with "
                f'retry_job and wait for the new job, or pass on="finish".'
            )
    return [parent.id for parent in parents]
