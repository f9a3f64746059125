"""The tools that show, list and cancel jobs, and read their logs and results."""

from datetime import datetime
from typing import Annotated, Final

from mcp_types import CallToolResult
from pydantic import BeforeValidator, Field, RootModel

from schema.common import timestamps
from schema.common.errors import Invalid
from schema.common.ids import HandleKind, format_handle
from schema.common.text import format_count, format_utc
from schema.common.timestamps import TimestampOrAge
from schema.jobs import search as job_search
from schema.jobs.queries import JobFilter
from schema.jobs.search import SearchEnd
from schema.jobs.tables import JobKind, JobState
from schema.specs.hub_job import Labels
from service.auth.caller import ACTING_SCOPES, Caller, Scope
from service.jobs import exports, logs, operations, output_files
from service.jobs.batches import ItemStateFilter, ResultQuery
from service.jobs.results import ResultView
from service.mcp import content
from service.mcp.dependencies import AppDep, CallerDep
from service.mcp.resources import job_link
from service.mcp.tool import (
    DESTRUCTIVE,
    IDEMPOTENT_WRITE,
    READ_ONLY,
    McpTool,
    build_tool,
    tool_result,
)
from service.mcp.tools import outside_jobs
from service.mcp.tools.arguments import (
    EMPTY_IS_NONE,
    Cursor,
    JobId,
    JobIds,
    Namespace,
    OpenJobsOf,
    normalize_choice,
    one_target_error,
    to_list,
)
from service.runtime.context import App
from service.runtime.sealed_tokens import ExportKind
from service.views.base import Detail, View
from service.views.job_text import describe_job
from service.views.jobs import JobEntry, JobPage, JobsView, JobView, LogView
from service.views.outside_jobs import OutsideJobEntry, OutsideJobPage
from service.views.pages import describe_page, describe_unseen_page, take_page
from service.workspaces.open_jobs import cancel_open_jobs
from service.workspaces.views import WorkspaceCancelView

StateFilter = Annotated[
    list[Annotated[JobState, BeforeValidator(normalize_choice)]],
    BeforeValidator(to_list),
]
KindFilter = Annotated[
    str,
    BeforeValidator(normalize_choice),
    Field(description=f"{', '.join(JobKind)}, or another executor's."),
]
Unseen = Annotated[
    bool,
    Field(description="Only what ended and no call has shown since; cursor marks a page as seen."),
]
_PAGE_LIMIT: Final = 10
_NO_JOB: Final = "No job of yours matches."
MaxBytes = Annotated[
    int,
    Field(
        ge=1000,
        le=200_000,
        description=f"As text, and as an object; {logs.MAX_PAGE_BYTES} at most.",
    ),
]


class JobListAnswer(View):
    """The jobs with a handle; or those at the Hub that have none."""

    jobs: list[JobEntry | OutsideJobEntry]
    next_cursor: str | None
    searched_until: Detail[datetime | None] = None


async def job_status(
    job_ids: JobIds, *, app: AppDep, caller: CallerDep
) -> Annotated[CallToolResult, JobsView]:
    """Show where jobs stand, at once: one job with all its details, several in brief.

    Nothing will change any more once poll_after_seconds is null. Handles that name no job of yours
    come back under errors.
    """
    async with app.transaction(caller) as tx:
        view = await operations.read_job_views(tx, app, caller, job_ids)
    lines = [
        f"{job.job_id} ({job.brief_facts}): {job.summary} {job.next_step}" for job in view.jobs
    ]
    lines += [error.message for error in view.errors]
    whole = [job for job in view.jobs if isinstance(job, JobView)]
    details = "\n".join(describe_job(job) for job in whole)
    return tool_result("\n".join(lines), view, details, [job_link(job) for job in whole])


async def list_jobs(
    workspace_id: str | None = None,
    state: Annotated[StateFilter | None, EMPTY_IS_NONE] = None,
    kind: Annotated[KindFilter | None, EMPTY_IS_NONE] = None,
    labels: Labels | None = None,
    since: Annotated[
        TimestampOrAge | None,
        EMPTY_IS_NONE,
        Field(description='How long ago ("2h", "7d"), or when (ISO 8601, UTC).'),
    ] = None,
    until: Annotated[TimestampOrAge | None, EMPTY_IS_NONE] = None,
    rerun_of: Annotated[str | None, Field(description="What retry_job made of this job.")] = None,
    schedule_id: Annotated[str | None, Field(description="What this schedule launched.")] = None,
    text: Annotated[
        str | None,
        Field(max_length=200, description="Words of its name, labels, request or failure."),
        EMPTY_IS_NONE,
    ] = None,
    unseen: Unseen = False,  # noqa: FBT002  # filled in by name, from JSON
    outside: Annotated[  # noqa: FBT002  # filled in by name, from JSON
        bool, Field(description="Those at Hugging Face without a handle; only of a namespace.")
    ] = False,
    namespace: Namespace = None,
    cursor: Cursor = None,
    limit: Annotated[int, Field(ge=1, le=100)] = _PAGE_LIMIT,
    *,
    app: AppDep,
    caller: CallerDep,
) -> Annotated[CallToolResult, JobListAnswer]:
    """List your jobs, the newest first, from whichever client they were launched.

    This is how to find a job whose handle you no longer have. All filters must hold; a job has
    every label given. Pass next_cursor as cursor for older ones.
    """
    if outside:
        filters = (workspace_id, state, kind, labels, since, until, rerun_of, schedule_id, text)
        if unseen or any(filters):
            raise Invalid("outside goes with namespace, cursor and limit alone.")
        return await _list_outside(app, caller, namespace, cursor, limit)
    if namespace is not None:
        raise Invalid("namespace goes with outside=true; your jobs with a handle are in one list.")
    before = None if unseen else operations.parse_cursor(HandleKind.JOB, cursor)
    timestamps.expect_since_before_until(since, until)
    words = (text or "").split()
    if unseen and words:
        raise Invalid("text does not go with unseen; give one of them, or leave both out.")
    base_filter = JobFilter(
        None, state, kind, labels or {}, since, until, unseen=unseen, words=words
    )
    async with app.transaction(caller) as tx:
        if unseen:
            await operations.acknowledge_page(tx, caller, cursor)
        job_filter = await operations.narrow_filter(
            tx, caller, base_filter, workspace_id, rerun_of, schedule_id
        )
        listed = await job_search.search_jobs(
            tx, caller.subject_id, job_filter, before=before, limit=limit + 1
        )
        entries = await operations.build_job_entries(tx, app, listed.jobs)
        jobs, has_more = take_page(entries, limit=limit, default_limit=_PAGE_LIMIT)
        next_cursor = jobs[-1].job_id if has_more else None
        if unseen:
            next_cursor = await operations.stamp_page(tx, caller, listed.jobs[: len(jobs)])
    end = None if has_more else listed.end
    if end is not None:
        next_cursor = format_handle(HandleKind.JOB, end.job_id)
    view = JobPage(
        jobs=jobs, next_cursor=next_cursor, searched_until=None if end is None else end.created_at
    )
    if end is not None:
        sentence = _describe_search_end(len(jobs), end, next_cursor)
    elif unseen:
        sentence = _describe_unseen_jobs(len(jobs), next_cursor, has_more=has_more)
    else:
        sentence = _describe_jobs(len(jobs), next_cursor)
    return tool_result(sentence, view, "\n".join(job.line for job in jobs))


def _describe_jobs(count: int, next_cursor: str | None) -> str:
    return describe_page(count, "job", next_cursor) if count else _NO_JOB


def _describe_unseen_jobs(count: int, next_cursor: str | None, *, has_more: bool) -> str:
    return describe_unseen_page(count, next_cursor, has_more=has_more) if count else _NO_JOB


def _describe_search_end(count: int, end: SearchEnd, next_cursor: str | None) -> str:
    matches = f"{format_count(count, 'job')} of" if count else "No job of yours matches among"
    return (
        f"{matches} the newest {end.searched:,} searched, back to {format_utc(end.created_at)}. "
        f'Older ones were not searched; go on with cursor="{next_cursor}".'
    )


class CancelAnswer(RootModel[JobView | WorkspaceCancelView]):
    """The job; or the counts of a workspace, if all its jobs were to be cancelled."""


async def _list_outside(
    app: App, caller: Caller, namespace: str | None, cursor: str | None, limit: int
) -> CallToolResult:
    page = await outside_jobs.list_outside_jobs(app, caller, namespace, cursor=cursor, limit=limit)
    view = OutsideJobPage(jobs=page.entries, next_cursor=page.next_cursor)
    if not page.entries:
        following = f' Read on with cursor="{page.next_cursor}".' if page.next_cursor else ""
        return tool_result(f"Every job listed there has a handle.{following}", view)
    lines = [f"{job.line}. {job.next_step}" for job in page.entries]
    sentence = describe_page(len(page.entries), "job", page.next_cursor)
    return tool_result(f"{sentence} None has a handle.", view, "\n".join(lines))


async def adopt_job(
    hub_job_id: Annotated[
        str, Field(max_length=100, description="24 characters, of a job you can see there.")
    ],
    namespace: Namespace = None,
    *,
    app: AppDep,
    caller: CallerDep,
) -> Annotated[CallToolResult, JobView]:
    """Give a job that was started elsewhere at Hugging Face a handle like any other.

    It is then watched, and its log and cost are stored; cancel_job stops it. Adopting it twice
    gives the same handle.
    """
    adopted = await outside_jobs.adopt_job(app, caller, hub_job_id, namespace)
    view = adopted.view
    return tool_result(
        f"{adopted.sentence} {view.summary} {view.next_step}", view, describe_job(view)
    )


async def cancel_job(
    job_id: JobId | None = None,
    workspace_id: OpenJobsOf = None,
    *,
    app: AppDep,
    caller: CallerDep,
) -> Annotated[CallToolResult, CancelAnswer]:
    """Call a job off, for good; or every open job of a workspace.

    What runs at Hugging Face is stopped within seconds. While upstream is "stopping" it may still
    cost money: poll job_status until it is "stopped". Cancelling twice is harmless.
    """
    match job_id, workspace_id:
        case str(), None:
            view, cancelled = await operations.cancel_job(app, caller, job_id)
            prefix = "" if cancelled else "Nothing was changed, for it had already finished. "
            return tool_result(f"{prefix}{view.summary} {view.next_step}", view, describe_job(view))
        case None, str():
            counts = await cancel_open_jobs(app, caller, workspace_id)
            sentence = f"{counts.describe()} {counts.next_step}"
            return tool_result(sentence, counts, counts.list_left_jobs())
        case _:
            raise one_target_error("job_id", "workspace_id")


async def job_logs(
    job_id: JobId,
    cursor: Annotated[int, Field(ge=0, le=2**53, description="Start at this line.")] = 0,
    tail: Annotated[int | None, Field(ge=1, le=2000, description="Only the last lines.")] = None,
    grep: Annotated[
        str | None,
        Field(min_length=1, max_length=200, description="Only lines with this text."),
        EMPTY_IS_NONE,
    ] = None,
    limit: Annotated[int, Field(ge=1, le=2000)] = 200,
    max_bytes: MaxBytes = 6000,
    *,
    app: AppDep,
    caller: CallerDep,
) -> Annotated[CallToolResult, LogView]:
    """Read what a job printed, in order; a call of a model prints nothing.

    Give next_cursor as cursor (and the same grep) to read on, or tail instead for the end.
    complete is true once nothing can follow.
    """
    if tail is not None and (cursor or grep):
        raise Invalid("tail goes with neither cursor nor grep; give it alone, or leave it out.")
    query = logs.LogQuery(cursor, tail, grep, limit, max_bytes)
    async with app.transaction(caller) as tx:
        status = await operations.find_job(tx, caller, job_id)
        view, sentence, text = await logs.read_log_page(tx, status, query)
    return tool_result(f"{sentence} The job is {view.state}. {view.next_step}", view, text)


async def job_result(
    job_id: JobId,
    cursor: Annotated[int, Field(ge=0, le=2**31 - 1, description="Of items, or of files.")] = 0,
    limit: Annotated[int, Field(ge=1, le=100, description="Fewer items are shown longer.")] = 20,
    only: Annotated[ItemStateFilter | None, EMPTY_IS_NONE] = None,
    offset: Annotated[int, Field(ge=0, le=2**31 - 1, description="In a long answer.")] = 0,
    download: Annotated[
        ExportKind | None, EMPTY_IS_NONE, Field(description="Only a link: to all of it as a file.")
    ] = None,
    file: Annotated[
        Annotated[str, Field(min_length=1, max_length=1000)] | None,
        EMPTY_IS_NONE,
        Field(description="Read this text file that it left."),
    ] = None,
    *,
    app: AppDep,
    caller: CallerDep,
) -> Annotated[CallToolResult, ResultView]:
    """Collect what a finished job left behind: a call's answer, files, or how a command ended.

    A job that has not finished is an error that says when to ask again; of a batch, the items
    answered so far are shown.
    """
    query = ResultQuery(cursor, limit, only, offset)
    if file is not None:
        if download is not None:
            raise Invalid("file and download are both given; choose one of them.")
        collected = await output_files.read_text(app, caller, job_id, file, offset=offset)
    else:
        async with app.transaction(caller) as tx:
            if download is not None:
                collected = await exports.link_export(tx, app, caller, job_id, download)
            else:
                collected = await operations.read_result(tx, app, caller, job_id, query)
    view = collected.view
    blocks = [*content.show_files(collected.inline_files), *content.link_files(view.files)]
    return tool_result(f"{view.summary} {view.next_step}", view, collected.text, blocks)


def build_tools() -> list[McpTool]:
    """Publish these tools."""
    return [
        build_tool(job_status, "Job status", READ_ONLY, show_details=True),
        build_tool(list_jobs, "List jobs", READ_ONLY),
        build_tool(job_logs, "Job log", READ_ONLY),
        build_tool(job_result, "Job result", READ_ONLY),
        build_tool(adopt_job, "Adopt a job", IDEMPOTENT_WRITE, Scope.JOBS),
        build_tool(cancel_job, "Cancel a job", DESTRUCTIVE, *ACTING_SCOPES),
    ]
