"""What can be attached to a conversation by its address? A job, its log, a workspace.

    job://job_…           JSON: the job as job_status shows it
    job://job_…/logs      text: the end of what it printed
    workspace://ws_…      JSON: the workspace as workspace_status shows it

An address is a handle in another form. What it names is either the caller's, or there is no such
resource: the answer is the one for an address that never was.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from mcp.server import MCPServer
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp_types import Resource, ResourceLink

from schema.common.errors import HoldfastError, Invalid, NotFound
from schema.db.database import Transaction
from schema.jobs import queries as job_queries
from schema.jobs.queries import Filter, JobStatus
from service.auth.caller import Caller
from service.jobs import logs as job_logs
from service.jobs import operations
from service.mcp.dependencies import current_app, current_caller
from service.mcp.tool import answering
from service.runtime.context import CALLING, App
from service.views import job_summary
from service.views.jobs import JobView
from service.workspaces import actions as workspace_actions

JOB: Final = "job://{id}"
LOGS: Final = "job://{id}/logs"
WORKSPACE: Final = "workspace://{id}"

_JSON: Final = "application/json"
_TEXT: Final = "text/plain"
_LISTED: Final = 20
_LINES: Final = 2000
_BYTES: Final = 64_000
_ANY: Final = Filter(None, None, None, {})


def publish(server: MCPServer[App]) -> None:
    """Let these be read."""
    publishing = (
        (JOB, "job", "Job", _JSON, _job),
        (LOGS, "job_logs", "Job log", _TEXT, _logs),
        (WORKSPACE, "workspace", "Workspace", _JSON, _workspace),
    )
    for uri, name, title, mime_type, read in publishing:
        server.resource(uri, name=name, title=title, mime_type=mime_type)(read)


def link_to(job: JobView) -> ResourceLink:
    """Point a host to a job."""
    uri = JOB.format(id=job.job_id)
    return ResourceLink(uri=uri, name=job.job_id, title=job.title, mime_type=_JSON)


async def list_newest(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """List the caller's newest jobs, so that a person can pick one to talk about.

    One short page, for a picker: `list_jobs` has all of them. Who has not signed in has none.
    """
    listed = await call_next(ctx)
    if ctx.method != "resources/list" or not isinstance(listed, dict) or CALLING.get() is None:
        return listed
    app: App = ctx.lifespan_context
    with answering():
        caller = await current_caller()
        async with app.transaction(caller) as tx:
            newest = await job_queries.page(tx, caller.subject_id, _ANY, before=None, limit=_LISTED)
    shown = [
        _listed(job).model_dump(mode="json", by_alias=True, exclude_none=True) for job in newest
    ]
    return {**listed, "resources": shown}


async def _job(id: str, ctx: Context[Any, Any]) -> str:  # noqa: A002  # as the template calls it
    """Where a job stands, as job_status shows it."""
    async with _reading(ctx) as (tx, app, caller):
        view = await operations.look(tx, app, caller, id)
    return view.model_dump_json()


async def _logs(id: str, ctx: Context[Any, Any]) -> str:  # noqa: A002
    """The end of what a job has printed; job_logs has the whole."""
    async with _reading(ctx) as (tx, _, caller):
        end = await job_logs.ending(tx, caller, id, lines=_LINES, max_bytes=_BYTES)
    if not end.before:
        return end.text
    call = f'job_logs(job_id="{job_summary.handle_of(end.status)}")'
    return f"[{end.before} lines before these: {call}]\n{end.text}"


async def _workspace(id: str, ctx: Context[Any, Any]) -> str:  # noqa: A002
    """A workspace as workspace_status shows it; list_jobs has all its jobs."""
    async with _reading(ctx) as (tx, _, caller):
        view = await workspace_actions.look(tx, caller, id)
    return view.model_dump_json()


@asynccontextmanager
async def _reading(
    ctx: Context[Any, Any],
) -> AsyncGenerator[tuple[Transaction, App, Caller]]:
    try:
        app, caller = await current_app(ctx), await current_caller()
        async with app.transaction(caller) as tx:
            yield tx, app, caller
    except (NotFound, Invalid):
        # Word for word what the SDK says of an address that fits no template.
        uri = (ctx.request_context.params or {}).get("uri")
        raise ResourceNotFoundError(f"Unknown resource: {uri}") from None
    except HoldfastError as failure:
        raise ResourceError(str(failure)) from None


def _listed(status: JobStatus) -> Resource:
    handle = job_summary.handle_of(status)
    return Resource(
        uri=JOB.format(id=handle),
        name=handle,
        title=job_summary.title(status),
        description=job_summary.summary(status),
        mime_type=_JSON,
    )
