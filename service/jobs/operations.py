"""What can a caller do with jobs, apart from how they ask for it?

Everything takes the caller first or second, so that "whose?" cannot be forgotten. A job of somebody
else's is not found, with the same words as one that does not exist.
"""

from dataclasses import replace
from typing import Final
from uuid import UUID

from schema.artifacts import files, log_store
from schema.artifacts.log_store import Line
from schema.common import ids as common_ids
from schema.common.errors import Conflict, HoldfastError, NotFound
from schema.common.failpoints import reach
from schema.common.ids import Kind
from schema.db.database import Transaction
from schema.jobs import lifecycle
from schema.jobs import queries as job_queries
from schema.jobs.queries import Filter, JobStatus
from schema.jobs.tables import JobKind, JobState, Reason
from schema.schedules import store as schedule_store
from schema.workspaces import store as workspace_store
from schema.workspaces.tables import Workspace
from service.auth.caller import Caller
from service.auth.client_info import CLIENT
from service.jobs import batches
from service.jobs.batches import Wanted
from service.jobs.results import ResultView
from service.runtime.context import App
from service.views import job_summary
from service.views.diagnosis import matching
from service.views.files import FileView
from service.views.job_kinds import known
from service.views.jobs import TAIL, HandleError, JobsView, JobView

_EVIDENT: Final = frozenset({Reason.EXIT_NONZERO, Reason.OOM, Reason.TIMED_OUT})
"""Failures whose cause is likely to stand at the end of the log."""


async def look(tx: Transaction, app: App, caller: Caller, handle: str) -> JobView:
    """Show one job, with the end of its log if that tells why it failed."""
    [view] = await show_each(tx, app, [await find(tx, caller, handle)])
    return view


async def look_each(tx: Transaction, app: App, caller: Caller, wanted: list[str]) -> JobsView:
    """Show several jobs; a wrong handle among them spoils only itself."""
    found, errors = await find_each(tx, caller, wanted)
    return JobsView(jobs=await show_each(tx, app, list(found.values())), errors=errors)


async def cancel(app: App, caller: Caller, handle: str) -> tuple[JobView, bool]:
    """Call a job off; also say whether it is cancelled, rather than finished otherwise."""
    async with app.transaction(caller) as tx:
        status = await find(tx, caller, handle)
        caller.expect(known(status.kind).scope)
        called_off = await lifecycle.cancel(
            tx, status.id, subject_id=caller.subject_id, client=CLIENT.get()
        )
        reach("cancel.written")
        view = await look(tx, app, caller, handle)
    reach("cancel.committed")
    if called_off:
        await app.wake(view.job_id)
    return view, view.state is JobState.CANCELLED


async def result(
    tx: Transaction, app: App, caller: Caller, handle: str, wanted: Wanted
) -> ResultView:
    """Show what a finished job left behind, or a batch has so far.

    Raises:
        Conflict: it has not finished.
        Invalid: a page is wanted of what has no items.
    """
    status = await find(tx, caller, handle)
    items = await batches.page(tx, status, wanted) if status.kind == JobKind.BATCH else None
    if items is None:
        wanted.expect_whole()
    if status.finished_at is None and items is None:
        raise Conflict(f"There is no result yet. {_situation(status)}")
    said = await _last_words(tx, [] if known(status.kind).is_call else [status])
    kept = await job_queries.result(tx, caller.subject_id, status.id)
    left = await files.of_job(tx, caller.subject_id, status.id)
    return ResultView.of(
        status,
        result=kept if items is None else await batches.counted(tx, status, kept),
        files=[
            FileView.of(each, app.links)
            for each in left
            if items is None or each.name in items.files
        ],
        lines=said.get(status.id),
        items=items,
    )


async def find(tx: Transaction, caller: Caller, handle: str) -> JobStatus:
    """Return the caller's job of that handle.

    Raises:
        Invalid: it is not a handle of a job.
        NotFound: the caller has no such job.
    """
    status = await job_queries.status(tx, caller.subject_id, common_ids.read(Kind.JOB, handle))
    if status is None:
        raise NotFound("job", handle)
    return status


async def find_each(
    tx: Transaction, caller: Caller, wanted: list[str]
) -> tuple[dict[str, JobStatus], list[HandleError]]:
    """Return the caller's jobs of several handles, and why the others name none.

    Raises:
        HoldfastError: there is but one handle, and it names none.
    """
    read: dict[str, UUID] = {}
    wrong: dict[str, HoldfastError] = {}
    for handle in wanted:
        try:
            read[handle] = common_ids.read(Kind.JOB, handle)
        except HoldfastError as error:
            wrong[handle] = error
    statuses = (
        await job_queries.statuses(tx, caller.subject_id, list(read.values())) if read else {}
    )
    found = {handle: statuses[job_id] for handle, job_id in read.items() if job_id in statuses}
    wrong |= {handle: NotFound("job", handle) for handle in read.keys() - found.keys()}
    if len(wanted) == 1 and wrong:
        raise wrong[wanted[0]]
    return found, [
        HandleError(job_id=handle, code=wrong[handle].code, message=str(wrong[handle]))
        for handle in dict.fromkeys(wanted)
        if handle in wrong
    ]


async def find_workspace(tx: Transaction, caller: Caller, handle: str) -> Workspace:
    """Return the caller's workspace of that handle.

    Raises:
        Invalid: it is not a handle of a workspace.
        NotFound: the caller has no such workspace.
    """
    found = await workspace_store.workspace(
        tx, caller.subject_id, common_ids.read(Kind.WORKSPACE, handle)
    )
    if found is None:
        raise NotFound("workspace", handle)
    return found


async def narrow(
    tx: Transaction,
    caller: Caller,
    chosen: Filter,
    workspace_id: str | None,
    rerun_of: str | None,
    schedule_id: str | None,
) -> Filter:
    """Narrow a list to a workspace, a schedule, and what repeats a job, where one is named."""
    if workspace_id is not None:
        workspace = await find_workspace(tx, caller, workspace_id)
        chosen = replace(chosen, workspace_id=workspace.id)
    if rerun_of is not None:
        chosen = replace(chosen, rerun_of=(await find(tx, caller, rerun_of)).id)
    if schedule_id is not None:
        fired_by = common_ids.read(Kind.SCHEDULE, schedule_id)
        if not await schedule_store.is_known(tx, caller.subject_id, fired_by):
            raise NotFound("schedule", schedule_id)
        chosen = replace(chosen, schedule_id=fired_by)
    return chosen


def older_than(kind: Kind, cursor: str | None) -> UUID | None:
    """Read a cursor: the handle of the last thing on the page before."""
    return None if cursor is None else common_ids.read(kind, cursor)


async def show_each(tx: Transaction, app: App, statuses: list[JobStatus]) -> list[JobView]:
    """Show several jobs of one subject's, each with the end of its log if that tells why it failed.

    What was printed is read with one statement, if anything is.
    """
    said = await _last_words(tx, [status for status in statuses if status.reason in _EVIDENT])
    return [JobView.of(status, app.hub_url, said.get(status.id)) for status in statuses]


async def _last_words(tx: Transaction, statuses: list[JobStatus]) -> dict[UUID, list[Line]]:
    if not statuses:
        return {}
    ids = [status.id for status in statuses]
    return await log_store.telling(
        tx, statuses[0].subject_id, ids, tail=TAIL, pattern=matching.TELLING
    )


def _situation(status: JobStatus) -> str:
    return f"{job_summary.summary(status)} {job_summary.next_step(status)}"
