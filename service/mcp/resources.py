"""The resources of the MCP server: a job, its log, a workspace, each by its URI.

    job://job_…           JSON: the job as job_status shows it
    job://job_…/logs      text: the end of what it printed
    job://job_…/items     JSONL: all items of a batch, with their outcomes
    job://job_…/files/NAME  a file that it left, as text or in base 64
    workspace://ws_…      JSON: the workspace as workspace_status shows it
    holdfast://help       text: how to sign in; for everybody, in `service.mcp.catalog.help`

A URI is a handle in another form. If the caller does not own what it names, the answer is the same
as for a URI that never existed.
"""

import mimetypes
import re
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final
from urllib.parse import unquote

from mcp.server import MCPServer
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp_types import Resource, ResourceLink

from schema.common.errors import HoldfastError, Invalid, NotFound
from schema.common.text import format_count
from schema.db.database import Transaction
from schema.jobs import queries as job_queries
from schema.jobs.queries import JobFilter, JobStatus
from service.auth.caller import Caller
from service.jobs import exports, operations, output_files
from service.jobs import logs as job_logs
from service.mcp.dependencies import current_app, current_caller
from service.mcp.tool import raise_mcp_errors
from service.runtime.context import CURRENT_CALLER, App
from service.views import job_summary
from service.views.jobs import JobEntry
from service.workspaces import actions as workspace_actions

JOB_URI: Final = "job://{id}"
JOB_LOG_URI: Final = "job://{id}/logs"
JOB_ITEMS_URI: Final = "job://{id}/items"
JOB_FILE_URI: Final = "job://{id}/files/{+name}"
WORKSPACE_URI: Final = "workspace://{id}"

_JSON_MEDIA_TYPE: Final = "application/json"
_TEXT_MEDIA_TYPE: Final = "text/plain"
_BINARY_MEDIA_TYPE: Final = "application/octet-stream"
_FILE_URI: Final = re.compile(r"job://[^/]+/files/.+")
_JSONL_MEDIA_TYPE: Final = "application/jsonl"
_MAX_ITEMS_BYTES: Final = 1024 * 1024
"""The items of a larger batch are only linked."""
_MAX_LISTED_JOBS: Final = 20
_MAX_LINES: Final = 2000
_ALL_JOBS: Final = JobFilter(None, None, None, {})


def register_resources(server: MCPServer[App]) -> None:
    """Register the resource templates."""
    templates = (
        (JOB_URI, "job", "Job", _JSON_MEDIA_TYPE, _read_job),
        (JOB_LOG_URI, "job_logs", "Job log", _TEXT_MEDIA_TYPE, _read_log_end),
        (JOB_ITEMS_URI, "job_items", "Items of a batch", _JSONL_MEDIA_TYPE, _read_items),
        (JOB_FILE_URI, "job_file", "File of a job", _BINARY_MEDIA_TYPE, _read_file),
        (WORKSPACE_URI, "workspace", "Workspace", _JSON_MEDIA_TYPE, _read_workspace),
    )
    for uri, name, title, mime_type, read in templates:
        server.resource(uri, name=name, title=title, mime_type=mime_type)(read)


def job_link(job: JobEntry) -> ResourceLink:
    """Return a link to the resource of a job."""
    uri = JOB_URI.format(id=job.job_id)
    return ResourceLink(uri=uri, name=job.job_id, title=job.title, mime_type=_JSON_MEDIA_TYPE)


async def list_newest_jobs(
    ctx: ServerRequestContext[Any, Any], call_next: CallNext
) -> HandlerResult:
    """List the caller's newest jobs, so that a person can pick one to talk about.

    The list is one short page, for a picker; `list_jobs` has all jobs. The help page follows them,
    and is all there is without a sign-in.
    """
    result = await call_next(ctx)
    if (
        ctx.method != "resources/list"
        or not isinstance(result, dict)
        or CURRENT_CALLER.get() is None
    ):
        return result
    app: App = ctx.lifespan_context
    with raise_mcp_errors():
        caller = await current_caller()
        async with app.transaction(caller) as tx:
            jobs = await job_queries.list_jobs(
                tx, caller.subject_id, _ALL_JOBS, before=None, limit=_MAX_LISTED_JOBS
            )
    resources = [
        _job_resource(job).model_dump(mode="json", by_alias=True, exclude_none=True) for job in jobs
    ]
    return {**result, "resources": [*resources, *result["resources"]]}


async def _read_job(id: str, ctx: Context[Any, Any]) -> str:  # noqa: A002  # the name in the URI template
    """A job as job_status shows it."""
    async with _open_resource(ctx) as (tx, app, caller):
        view = await operations.read_job_view(tx, app, caller, id)
    return view.model_dump_json()


async def _read_log_end(id: str, ctx: Context[Any, Any]) -> str:  # noqa: A002
    """The end of the log of a job; job_logs has all of it."""
    async with _open_resource(ctx) as (tx, _, caller):
        end = await job_logs.read_log_end(
            tx, caller, id, max_lines=_MAX_LINES, max_bytes=job_logs.MAX_PAGE_BYTES
        )
    if not end.omitted_lines:
        return end.text
    return f"[{format_count(end.omitted_lines, 'line')} before: {end.logs_call}]\n{end.text}"


async def _read_items(id: str, ctx: Context[Any, Any]) -> str:  # noqa: A002
    """The items of a batch with their outcomes; job_result links to those that are too large."""
    async with _open_resource(ctx) as (tx, _, caller):
        return await exports.read_items_text(tx, caller, id, max_bytes=_MAX_ITEMS_BYTES)


async def _read_file(
    id: str,  # noqa: A002
    name: str,
    ctx: Context[Any, Any],
) -> str | bytes:
    """A file that a job left, by its name; one that is too large is only linked."""
    with _resource_errors(ctx):
        app, caller = await current_app(ctx), await current_caller()
        output = await output_files.read_output_file(app, caller, id, name)
    return output.content if output.text is None else output.text


async def name_media_type(
    ctx: ServerRequestContext[Any, Any], call_next: CallNext
) -> HandlerResult:
    """Name the type of a file that is read: a template has one type for all of its files."""
    result = await call_next(ctx)
    uri = (ctx.params or {}).get("uri")
    if (
        ctx.method != "resources/read"
        or not isinstance(result, dict)
        or not isinstance(uri, str)
        or not _FILE_URI.fullmatch(uri)
    ):
        return result
    guess, _ = mimetypes.guess_type(unquote(uri))
    contents = [
        {
            **content,
            "mimeType": guess or (_TEXT_MEDIA_TYPE if "text" in content else content["mimeType"]),
        }
        for content in result["contents"]
    ]
    return {**result, "contents": contents}


async def _read_workspace(id: str, ctx: Context[Any, Any]) -> str:  # noqa: A002
    """A workspace as workspace_status shows it; list_jobs has all its jobs."""
    async with _open_resource(ctx) as (tx, _, caller):
        view = await workspace_actions.show_workspace(tx, caller, id)
    return view.model_dump_json()


@asynccontextmanager
async def _open_resource(
    ctx: Context[Any, Any],
) -> AsyncGenerator[tuple[Transaction, App, Caller]]:
    with _resource_errors(ctx):
        app, caller = await current_app(ctx), await current_caller()
        async with app.transaction(caller) as tx:
            yield tx, app, caller


@contextmanager
def _resource_errors(ctx: Context[Any, Any]) -> Generator[None]:
    try:
        yield
    except (NotFound, Invalid):
        # This is word for word the error of the SDK for a URI that fits no template.
        uri = (ctx.request_context.params or {}).get("uri")
        raise ResourceNotFoundError(f"Unknown resource: {uri}") from None
    except HoldfastError as error:
        raise ResourceError(str(error)) from None


def _job_resource(status: JobStatus) -> Resource:
    handle = job_summary.job_handle(status)
    return Resource(
        uri=JOB_URI.format(id=handle),
        name=handle,
        title=job_summary.job_title(status),
        description=job_summary.summarize_job(status),
        mime_type=_JSON_MEDIA_TYPE,
    )
