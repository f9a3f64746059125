"""What a caller can do with their jobs: read them, cancel them, collect their results.

Every function takes the caller, so that none can forget whose jobs it is about. A job of another
subject is not found, in the same words as a job that does not exist.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from schema.artifacts import files, log_store
from schema.artifacts.log_store import NumberedLine
from schema.common import ids as common_ids
from schema.common.errors import Conflict, HoldfastError, Invalid, NotFound, WorkspaceArchived
from schema.common.failpoints import hit_failpoint
from schema.common.ids import HandleKind
from schema.common.name_matching import did_you_mean
from schema.common.text import short_repr
from schema.db.database import Transaction
from schema.jobs import lifecycle
from schema.jobs import queries as job_queries
from schema.jobs.monitoring import changes as job_changes
from schema.jobs.queries import JobFilter, JobStatus
from schema.jobs.tables import JobKind, JobState, Reason
from schema.schedules import store as schedule_store
from schema.workspaces import store as workspace_store
from schema.workspaces.tables import Workspace
from service.auth.caller import Caller
from service.auth.client_info import CURRENT_CLIENT
from service.jobs import batches, results
from service.jobs.batches import ResultQuery
from service.jobs.results import CollectedResult, StoredResult
from service.runtime.context import App
from service.runtime.request_ids import CURRENT_REQUEST_ID
from service.views import job_summary
from service.views.diagnosis import matching
from service.views.job_kinds import describe_kind
from service.views.jobs import (
    BRIEF_SUMMARY_BYTES,
    LOG_TAIL_LINES,
    HandleError,
    JobEntry,
    JobsView,
    JobView,
    share_summary_bytes,
)
from service.views.text import fit_text

_REASONS_EXPLAINED_BY_LOG: Final = frozenset({Reason.EXIT_NONZERO, Reason.OOM, Reason.TIMED_OUT})
"""Failures whose cause is likely to be at the end of the log."""
_MAX_HANDLE_BYTES: Final = 60
"""Of a handle that is none; one that is has 30."""
_MAX_ERRORS_BYTES: Final = 6000
"""Of why handles name no job; they share it."""
_MIN_ERROR_BYTES: Final = 120


async def read_job_view(tx: Transaction, app: App, caller: Caller, handle: str) -> JobView:
    """Show one job, with the end of its log if that says why it failed."""
    status = await find_job(tx, caller, handle)
    [view] = await build_job_views(tx, app, [status])
    await mark_seen(tx, caller, [status])
    return view


async def read_job_views(
    tx: Transaction, app: App, caller: Caller, job_handles: list[str]
) -> JobsView:
    """Show one job whole, or several in brief; a wrong handle becomes an error of its own."""
    statuses, errors = await find_jobs(tx, caller, job_handles)
    jobs = await show_jobs(tx, app, list(statuses.values()))
    await mark_seen(tx, caller, statuses.values())
    return JobsView(jobs=jobs, errors=errors)


async def mark_seen(tx: Transaction, caller: Caller, statuses: Iterable[JobStatus]) -> None:
    """Record that the ends of these jobs are shown; writes once for each job, or nothing."""
    unseen = [status.id for status in statuses if status.unseen]
    await job_changes.mark_seen(tx, caller.subject_id, unseen)


async def acknowledge_page(tx: Transaction, caller: Caller, cursor: str | None) -> None:
    """Record that the page of unseen jobs before this cursor has been seen.

    Raises:
        Invalid: no list of unseen jobs has made it.
    """
    if cursor is None:
        return
    try:
        page = UUID(hex=cursor)
    except ValueError:
        raise Invalid(
            "cursor: with unseen=true, it is the next_cursor of an answer to unseen=true."
        ) from None
    await job_changes.acknowledge_page(tx, caller.subject_id, page)


async def stamp_page(tx: Transaction, caller: Caller, statuses: Sequence[JobStatus]) -> str | None:
    """Return the cursor that acknowledges a page of unseen jobs; None for an empty page."""
    if not statuses:
        return None
    ids = [status.id for status in statuses]
    return (await job_changes.stamp_page(tx, caller.subject_id, ids)).hex


async def cancel_job(app: App, caller: Caller, handle: str) -> tuple[JobView, bool]:
    """Cancel a job; also say whether it is cancelled now, or had finished in another way."""
    async with app.transaction(caller) as tx:
        status = await find_job(tx, caller, handle)
        caller.require_scope(describe_kind(status.kind).scope)
        was_cancelled = await lifecycle.cancel_job(
            tx,
            status.id,
            subject_id=caller.subject_id,
            client=CURRENT_CLIENT.get(),
            request_id=CURRENT_REQUEST_ID.get(),
        )
        hit_failpoint("cancel.written")
        view = await read_job_view(tx, app, caller, handle)
    hit_failpoint("cancel.committed")
    if was_cancelled:
        app.wake_worker(view.job_id)
    return view, view.state is JobState.CANCELLED


async def read_result(
    tx: Transaction, app: App, caller: Caller, handle: str, query: ResultQuery
) -> CollectedResult:
    """Show what a finished job left behind, or a batch has so far.

    Raises:
        Conflict: it has not finished.
        Invalid: the query asks for items, and the job has none; or for more than there is.
    """
    status = await find_job(tx, caller, handle)
    items = (
        await batches.read_item_page(tx, status, query) if status.kind == JobKind.BATCH else None
    )
    if items is None:
        query.expect_no_items()
    if items is None:
        expect_finished(status)
    log_ends = await _read_log_ends(tx, [] if describe_kind(status.kind).is_call else [status])
    result = await job_queries.get_job_result(tx, caller.subject_id, status.id)
    if items is not None:
        result = await batches.add_item_counts(tx, status, result)
    job_files = await files.list_job_files(tx, caller.subject_id, status.id)
    stored = StoredResult(status, result, job_files, log_ends.get(status.id), items)
    collected = await results.collect_result(tx, stored, query, app.download_links)
    await mark_seen(tx, caller, [status])
    return collected


def expect_finished(status: JobStatus) -> None:
    """Refuse a job that has not finished.

    Raises:
        Conflict: with its state, and when to ask again.
    """
    if status.finished_at is None:
        raise Conflict(f"There is no result yet. {_describe_state(status)}")


async def find_job(tx: Transaction, caller: Caller, handle: str) -> JobStatus:
    """Return the caller's job of that handle.

    Raises:
        Invalid: it is not a handle of a job.
        NotFound: the caller has no such job.
    """
    status = await job_queries.get_job_status(
        tx, caller.subject_id, common_ids.parse_handle(HandleKind.JOB, handle)
    )
    if status is None:
        raise NotFound("job", handle)
    return status


async def find_jobs(
    tx: Transaction, caller: Caller, job_handles: list[str]
) -> tuple[dict[str, JobStatus], list[HandleError]]:
    """Return the caller's jobs by their handles, and why the other handles name none.

    Raises:
        HoldfastError: there is only one handle, and it names no job.
    """
    ids: dict[str, UUID] = {}
    errors: dict[str, HoldfastError] = {}
    for handle in job_handles:
        try:
            ids[handle] = common_ids.parse_handle(HandleKind.JOB, handle)
        except HoldfastError as error:
            errors[handle] = error
    statuses = (
        await job_queries.get_job_statuses(tx, caller.subject_id, list(ids.values())) if ids else {}
    )
    readable = {handle: statuses[job_id] for handle, job_id in ids.items() if job_id in statuses}
    errors |= {handle: NotFound("job", handle) for handle in ids.keys() - readable.keys()}
    if len(job_handles) == 1 and errors:
        raise errors[job_handles[0]]
    message_bytes = max(_MAX_ERRORS_BYTES // max(len(errors), 1), _MIN_ERROR_BYTES)
    return readable, [
        HandleError(
            job_id=fit_text(handle, _MAX_HANDLE_BYTES),
            code=errors[handle].code,
            message=fit_text(str(errors[handle]), message_bytes, keeps_end=True),
        )
        for handle in dict.fromkeys(job_handles)
        if handle in errors
    ]


async def find_workspace(tx: Transaction, caller: Caller, handle: str) -> Workspace:
    """Return the caller's workspace of that handle.

    Raises:
        Invalid: it is not a handle of a workspace.
        NotFound: the caller has no such workspace.
    """
    workspace = await workspace_store.get_workspace(
        tx, caller.subject_id, common_ids.parse_handle(HandleKind.WORKSPACE, handle)
    )
    if workspace is None:
        raise NotFound("workspace", handle)
    return workspace


async def expect_not_archived(tx: Transaction, caller: Caller, workspace_id: UUID | None) -> None:
    """Refuse to launch into an archived workspace, as the insert of the job would.

    Raises:
        WorkspaceArchived: it takes no new jobs.
    """
    if workspace_id is None:
        return
    workspace = await workspace_store.get_workspace(tx, caller.subject_id, workspace_id)
    if workspace is not None and workspace.archived_at is not None:
        raise WorkspaceArchived(common_ids.format_handle(HandleKind.WORKSPACE, workspace_id))


async def narrow_filter(
    tx: Transaction,
    caller: Caller,
    base_filter: JobFilter,
    workspace_id: str | None,
    rerun_of: str | None,
    schedule_id: str | None,
) -> JobFilter:
    """Narrow a list to a workspace, to a schedule, or to the retries of a job, where one is named.

    Raises:
        NotFound: the caller has none of that handle.
        Invalid: there is no kind of that name.
    """
    await _check_kind(tx, caller, base_filter.kind)
    if workspace_id is not None:
        workspace = await find_workspace(tx, caller, workspace_id)
        base_filter = replace(base_filter, workspace_id=workspace.id)
    if rerun_of is not None:
        base_filter = replace(base_filter, rerun_of=(await find_job(tx, caller, rerun_of)).id)
    if schedule_id is not None:
        schedule_uuid = common_ids.parse_handle(HandleKind.SCHEDULE, schedule_id)
        if not await schedule_store.is_known_schedule(tx, caller.subject_id, schedule_uuid):
            raise NotFound("schedule", schedule_id)
        base_filter = replace(base_filter, schedule_id=schedule_uuid)
    return base_filter


async def _check_kind(tx: Transaction, caller: Caller, kind: str | None) -> None:
    """Refuse a kind that is not ours, unless the caller has jobs of it.

    Only workers know all their executors, but a job of the caller proves that there is one.
    """
    known_kinds = [str(known) for known in JobKind]
    if kind is None or kind in known_kinds:
        return
    kind_filter = JobFilter(None, None, kind, {})
    if not await job_queries.list_jobs(tx, caller.subject_id, kind_filter, before=None, limit=1):
        question = did_you_mean(kind, known_kinds)
        raise Invalid(
            f"kind: you have no job of kind {short_repr(kind)}, and it is none of "
            f"{', '.join(known_kinds)}. {question}".strip()
        )


def parse_cursor(kind: HandleKind, cursor: str | None) -> UUID | None:
    """Parse a cursor: the handle of the last row on the page before."""
    return None if cursor is None else common_ids.parse_handle(kind, cursor)


async def build_job_views(tx: Transaction, app: App, statuses: list[JobStatus]) -> list[JobView]:
    """Show several jobs of one subject, each with the end of its log if that says why it failed.

    At most one statement reads all logs.
    """
    log_ends = await _read_failed_log_ends(tx, statuses)
    return [
        JobView.from_status(status, app.hub_url, log_ends.get(status.id)) for status in statuses
    ]


async def show_jobs(
    tx: Transaction, app: App, statuses: list[JobStatus]
) -> list[JobView | JobEntry]:
    """Show one job with all that is known of it, or several in so few words that they fit."""
    if len(statuses) == 1:
        return [*await build_job_views(tx, app, statuses)]
    share = share_summary_bytes(len(statuses))
    return [*await build_job_entries(tx, app, statuses, max_summary_bytes=share)]


async def build_job_entries(
    tx: Transaction,
    app: App,
    statuses: list[JobStatus],
    *,
    max_summary_bytes: int = BRIEF_SUMMARY_BYTES,
) -> list[JobEntry]:
    """Show several jobs of one subject in brief."""
    log_ends = await _read_failed_log_ends(tx, statuses)
    return [
        JobEntry.summarize(
            status, app.hub_url, log_ends.get(status.id), max_summary_bytes=max_summary_bytes
        )
        for status in statuses
    ]


async def _read_failed_log_ends(
    tx: Transaction, statuses: list[JobStatus]
) -> dict[UUID, list[NumberedLine]]:
    return await _read_log_ends(
        tx, [status for status in statuses if status.reason in _REASONS_EXPLAINED_BY_LOG]
    )


async def _read_log_ends(
    tx: Transaction, statuses: list[JobStatus]
) -> dict[UUID, list[NumberedLine]]:
    if not statuses:
        return {}
    ids = [status.id for status in statuses]
    return await log_store.read_excerpts(
        tx,
        statuses[0].subject_id,
        ids,
        tail_lines=LOG_TAIL_LINES,
        pattern=matching.RELEVANT_LINE_PATTERN,
    )


def _describe_state(status: JobStatus) -> str:
    return f"{job_summary.summarize_job(status)} {job_summary.suggest_next_step(status)}"
