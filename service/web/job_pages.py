"""The pages of jobs: a table and one job, both live, and the button that cancels.

They read what the tools read, by the same functions, and are told of changes by the registry that
wakes `wait_for_jobs`. A job of somebody else is answered as one that does not exist.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

import anyio
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from schema.common.errors import Invalid, NotFound
from schema.common.ids import HandleKind
from schema.db.database import Transaction
from schema.jobs import queries
from schema.jobs.monitoring import changes
from schema.jobs.monitoring.changes import JobVersion
from schema.jobs.queries import JobFilter, JobStatus
from schema.jobs.tables import FINAL_STATES, JobKind, JobState
from service.auth.caller import Caller
from service.http.pages.rendering import PAGE_HEADERS, respond_with_template
from service.jobs import logs, operations
from service.jobs.batches import ResultQuery
from service.runtime.context import App
from service.web.account_pages import AccountPages, require_session
from service.web.event_stream import EventStream, WriteEvent, format_event
from service.web.job_rows import (
    JobRow,
    ShownState,
    ShownTime,
    TimelineEvent,
    format_cost,
    format_run_time,
)
from service.web.sessions import SignedInAccount

JOBS_PATH: Final = "/jobs"
_PAGE_ROWS: Final = 25
_MAX_EVENTS: Final = 100
_LOG_LINES: Final = 200
_LOG_BYTES: Final = 30_000
_LOOK_FOR_NEW_JOBS: Final = timedelta(seconds=15)
"""How long a table may miss a job that was just launched: nobody watches it yet."""
_STATES_BY_CHOICE: Final[dict[str, list[JobState] | None]] = {
    "all": None,
    "open": [state for state in JobState if state not in FINAL_STATES],
    **{state: [state] for state in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)},
}

ShowAccount = Callable[[Request], SignedInAccount | None]


@dataclass(frozen=True, slots=True)
class JobQuery:
    """What the address of the table chooses."""

    choice: str
    kind: str | None
    before: str | None
    """The last job on the page before."""

    @classmethod
    def from_parameters(cls, parameters: QueryParams) -> "JobQuery":
        """Read the address; a word that nobody knows chooses everything."""
        choice, kind = parameters.get("show", "all"), parameters.get("kind")
        return cls(
            choice if choice in _STATES_BY_CHOICE else "all",
            kind if kind in set(JobKind) else None,
            parameters.get("before") or None,
        )

    @property
    def filter(self) -> JobFilter:
        """The filter of `list_jobs`."""
        return JobFilter(None, _STATES_BY_CHOICE[self.choice], self.kind, {})

    def link(self, path: str = JOBS_PATH, **changes: str | None) -> str:
        """Return the address with other choices."""
        values = {"show": self.choice, "kind": self.kind, "before": self.before} | changes
        chosen = {name: value for name, value in values.items() if value and value != "all"}
        return f"{path}?{urlencode(chosen)}" if chosen else path


@dataclass(frozen=True, slots=True)
class _Table:
    rows: list[JobRow]
    versions: dict[UUID, JobVersion]
    older: str | None


class JobPages:
    """Shows the jobs of whoever has signed in."""

    def __init__(self, get_app: Callable[[], App], show_account: ShowAccount) -> None:
        """Prepare the pages.

        Args:
            get_app: called with each request; the App is opened after the routes.
            show_account: who has signed in, for the header.
        """
        self._get_app = get_app
        self._show_account = show_account

    def routes(self, get_pages: Callable[[], AccountPages]) -> list[Route]:
        """Build the routes; each needs somebody."""

        def route(path: str, page: Any, method: str = "GET") -> Route:
            return Route(path, require_session(get_pages, page), methods=[method])

        return [
            route(JOBS_PATH, self.show_jobs),
            route(f"{JOBS_PATH}/events", self.stream_jobs),
            route(f"{JOBS_PATH}/{{handle}}", self.show_job),
            route(f"{JOBS_PATH}/{{handle}}/events", self.stream_job),
            route(f"{JOBS_PATH}/{{handle}}/cancel", self.cancel_job, "POST"),
        ]

    async def show_jobs(self, request: Request, caller: Caller) -> Response:
        """Show a page of the table."""
        query = JobQuery.from_parameters(request.query_params)
        table = await self._read_table(caller, query)
        return respond_with_template(
            "jobs.html",
            account=self._show_account(request),
            section="jobs",
            query=query,
            choices=list(_STATES_BY_CHOICE),
            kinds=list(JobKind),
            rows=table.rows,
            older=table.older,
            events=query.link(f"{JOBS_PATH}/events"),
        )

    async def stream_jobs(self, request: Request, caller: Caller) -> Response:
        """Send the table again whenever a job in it has changed."""
        query = JobQuery.from_parameters(request.query_params)
        follow = partial(self._follow_table, caller, query)
        return EventStream(follow, self._app.wait_slots, caller.subject_id)

    async def show_job(self, request: Request, caller: Caller) -> Response:
        """Show one job."""
        job = await self._read_job(caller, request.path_params["handle"])
        return respond_with_template(
            "job.html",
            account=self._show_account(request),
            section="jobs",
            **job,
        )

    async def stream_job(self, request: Request, caller: Caller) -> Response:
        """Send one job again whenever it, or its log, has changed."""
        handle = request.path_params["handle"]
        async with self._app.transaction(caller) as tx:
            status = await _find_job(tx, caller, handle)
        follow = partial(self._follow_job, caller, handle, status.id)
        return EventStream(follow, self._app.wait_slots, caller.subject_id)

    async def cancel_job(self, request: Request, caller: Caller) -> Response:
        """Cancel a job, and show it."""
        handle = request.path_params["handle"]
        try:
            await operations.cancel_job(self._app, caller, handle)
        except Invalid:
            raise NotFound("job", handle) from None
        return RedirectResponse(f"{JOBS_PATH}/{handle}", HTTPStatus.SEE_OTHER, PAGE_HEADERS)

    @property
    def _app(self) -> App:
        return self._get_app()

    async def _read_table(self, caller: Caller, query: JobQuery) -> _Table:
        before = operations.parse_cursor(HandleKind.JOB, query.before)
        async with self._app.transaction(caller) as tx:
            now: datetime = await tx.fetchval("SELECT now()")
            statuses = await queries.list_jobs(
                tx, caller.subject_id, query.filter, before=before, limit=_PAGE_ROWS + 1
            )
            has_more = len(statuses) > _PAGE_ROWS
            statuses = statuses[:_PAGE_ROWS]
            entries = await operations.build_job_entries(tx, self._app, statuses)
        return _Table(
            [JobRow.from_entry(entry, now) for entry in entries],
            {status.id: _version(status) for status in statuses},
            query.link(before=entries[-1].job_id) if has_more else None,
        )

    async def _follow_table(self, caller: Caller, query: JobQuery, write: WriteEvent) -> None:
        table, shown = await self._read_table(caller, query), ""
        while not self._app.watch.is_stopping:
            with self._app.watch.watch_jobs(caller.subject_id, table.versions) as watcher:
                table = await self._read_table(caller, query)
                watcher.set_seen(
                    {each: seen for each, seen in table.versions.items() if each in watcher.ids}
                )
                shown = await _write_changed(
                    write, shown, format_event("jobs", "job_rows.html", rows=table.rows)
                )
                if watcher.ids == table.versions.keys():
                    with anyio.move_on_after(_LOOK_FOR_NEW_JOBS.total_seconds()):
                        await watcher.wait_for_change()

    async def _read_job(self, caller: Caller, handle: str) -> dict[str, Any]:
        async with self._app.transaction(caller) as tx:
            now: datetime = await tx.fetchval("SELECT now()")
            status = await _find_job(tx, caller, handle)
            [view] = await operations.build_job_views(tx, self._app, [status])
            log_end = await logs.read_log_end(
                tx, caller, handle, max_lines=_LOG_LINES, max_bytes=_LOG_BYTES
            )
            events = await queries.list_latest_job_events(
                tx, caller.subject_id, status.id, limit=_MAX_EVENTS
            )
            result = ""
            if status.finished_at is not None:
                query = ResultQuery()
                collected = await operations.read_result(tx, self._app, caller, handle, query)
                result = collected.text
        moments = {
            "Created": view.created_at,
            "Started": view.started_at,
            "Finished": view.finished_at,
        }
        return {
            "job": view,
            "status_id": status.id,
            "version": _version(status),
            "state": ShownState.from_state(view.state),
            "times": {
                name: ShownTime.from_moment(moment, now)
                for name, moment in moments.items()
                if moment is not None
            },
            "run_time": format_run_time(view, now),
            "cost": format_cost(view.cost),
            "timeline": [TimelineEvent.from_event(event, now) for event in events],
            "log": log_end,
            "result": result,
            "can_cancel": view.state not in FINAL_STATES,
        }

    async def _follow_job(
        self, caller: Caller, handle: str, job_id: UUID, write: WriteEvent
    ) -> None:
        watch, shown = self._app.watch, ""
        while not watch.is_stopping:
            with (
                watch.watch_jobs(caller.subject_id, [job_id]) as job_watcher,
                watch.watch_pages(caller.subject_id, [job_id]) as log_watcher,
            ):
                async with self._app.transaction(caller) as tx:
                    log_watcher.set_seen(
                        await changes.read_page_versions(tx, caller.subject_id, [job_id])
                    )
                job = await self._read_job(caller, handle)
                job_watcher.set_seen({job_id: job["version"]})
                shown = await _write_changed(
                    write, shown, format_event("job", "job_parts.html", **job)
                )
                with anyio.move_on_after(_LOOK_FOR_NEW_JOBS.total_seconds()):
                    await _wait_for_any(job_watcher.wait_for_change, log_watcher.wait_for_change)


async def _write_changed(write: WriteEvent, shown: str, event: str) -> str:
    """Write an event unless the browser shows just that; a comment shows that it is still there."""
    await write(event if event != shown else ": still here\n\n")
    return event


async def _find_job(tx: Transaction, caller: Caller, handle: str) -> JobStatus:
    """Return a job of the caller; what is no handle is a job that does not exist.

    Raises:
        NotFound: there is none.
    """
    try:
        return await operations.find_job(tx, caller, handle)
    except Invalid:
        raise NotFound("job", handle) from None


async def _wait_for_any(*waits: Callable[[], Awaitable[object]]) -> None:
    """Wait until the first of several waits is over."""
    async with anyio.create_task_group() as tasks:

        async def wait(change: Callable[[], Awaitable[object]]) -> None:
            await change()
            tasks.cancel_scope.cancel()

        for each in waits:
            tasks.start_soon(wait, each)


def _version(status: JobStatus) -> JobVersion:
    return JobVersion(status.version, status.hold)
