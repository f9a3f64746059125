"""Scheduled jobs of the Hub: a job spec and a cron expression in UTC, with a timer for each.

They are in memory only, like the jobs they start. A scheduled job that is due while its last job
still runs is skipped, unless it allows concurrency.
"""

import asyncio
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from cronsim import CronSimError
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from schema.common.errors import Invalid
from schema.schedules.cron import CRON_ALIASES, CronTrigger
from service.local.hub_emulator.current_user import get_hub_url, with_current_user
from service.local.hub_emulator.errors import HubApiError
from service.local.hub_emulator.jobs.routes import (
    require_readable_namespace,
    require_writable_namespace,
)
from service.local.hub_emulator.jobs.schemas import JobRequest, NewLabels
from service.local.hub_emulator.jobs.store import JobStore, LocalJob
from service.local.hub_emulator.request_body import read_body
from service.local.hub_emulator.shared.clock import read_clock
from service.local.hub_emulator.users import LocalUser, Namespace, format_timestamp

_SPEC_FIELDS: Final = (
    *("dockerImage", "spaceId", "command", "arguments", "environment", "secrets", "flavor"),
    *("arch", "timeout", "labels", "volumes"),
)
"""The fields that a job spec shares with the description of a job."""

_CRON_FIELD_COUNT: Final = 5


class _ScheduledJobRequest(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")

    job_spec: JobRequest
    schedule: str
    suspend: bool = False
    concurrency: bool = False


class _ScheduleRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    schedule: str


@dataclass(slots=True)
class LocalScheduledJob:
    """One scheduled job, its last job and its timer."""

    spec: JobRequest
    schedule: str
    suspend: bool
    concurrency: bool
    owner: Namespace
    creator: LocalUser
    hub_url: str
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created_at: datetime = field(default_factory=read_clock)
    last_job: LocalJob | None = None
    timer_task: asyncio.Task[None] | None = None

    @property
    def next_run_at(self) -> datetime:
        """When it is due next."""
        return _compute_next_run(self.schedule, read_clock())

    @property
    def is_busy(self) -> bool:
        """Whether its last job still runs and no other may run at the same time."""
        return not self.concurrency and self.last_job is not None and not self.last_job.is_final

    def create_job(self) -> LocalJob:
        """Create its next job, without starting it."""
        return LocalJob(self.spec, self.owner, self.creator, self.hub_url, scheduled_job_id=self.id)

    def to_dict(self) -> dict[str, Any]:
        """Describe the scheduled job as the Hub does."""
        job = self.create_job().to_dict()
        last = self.last_job and {
            "id": self.last_job.id,
            "at": format_timestamp(self.last_job.created_at),
        }
        return {
            "type": "scheduled-job",
            "id": self.id,
            "createdAt": format_timestamp(self.created_at),
            "schedule": self.schedule,
            "suspend": self.suspend,
            "concurrency": self.concurrency,
            "status": {
                "lastJob": last,
                "nextJobRunAt": None if self.suspend else format_timestamp(self.next_run_at),
            },
            "owner": job["owner"],
            "initiator": {"type": "user", **job["createdBy"]},
            "jobSpec": {name: job[name] for name in _SPEC_FIELDS if name in job},
        }


class ScheduledJobRoutes:
    """The endpoints of scheduled jobs."""

    def __init__(self, jobs: JobStore) -> None:
        self._jobs = jobs
        self._scheduled_jobs: dict[str, LocalScheduledJob] = {}

    def routes(self) -> list[Route]:
        """Return the routes."""
        namespace = "/api/scheduled-jobs/{namespace}"
        path, post = f"{namespace}/{{scheduled}}", ["POST"]
        return [
            Route(namespace, with_current_user(self.create), methods=post),
            Route(namespace, with_current_user(self.list_page)),
            Route(path, with_current_user(self.inspect)),
            Route(path, with_current_user(self.delete), methods=["DELETE"]),
            Route(f"{path}/suspend", with_current_user(self.suspend), methods=post),
            Route(f"{path}/resume", with_current_user(self.resume), methods=post),
            Route(f"{path}/schedule", with_current_user(self.reschedule), methods=post),
            Route(f"{path}/run", with_current_user(self.run_now), methods=post),
            Route(f"{path}/labels", with_current_user(self.replace_labels), methods=["PUT"]),
        ]

    async def create(self, request: Request, user: LocalUser) -> Response:
        """Create a scheduled job and start its timer."""
        owner = require_writable_namespace(request, user)
        body = await read_body(request, _ScheduledJobRequest)
        _compute_next_run(body.schedule, read_clock())
        scheduled_job = LocalScheduledJob(
            body.job_spec,
            body.schedule,
            body.suspend,
            body.concurrency,
            owner,
            user,
            get_hub_url(request),
        )
        self._scheduled_jobs[scheduled_job.id] = scheduled_job
        self._restart_timer(scheduled_job)
        return JSONResponse(scheduled_job.to_dict())

    async def list_page(self, request: Request, user: LocalUser) -> Response:
        """List the scheduled jobs of a namespace; as on the Hub only one label can be a filter."""
        owner = require_readable_namespace(request, user)
        name, _, value = request.query_params.get("label", "").partition("=")
        return JSONResponse(
            [
                scheduled_job.to_dict()
                for scheduled_job in reversed(self._scheduled_jobs.values())
                if scheduled_job.owner == owner
                and (not name or scheduled_job.spec.labels.get(name) == value)
            ]
        )

    async def inspect(self, request: Request, user: LocalUser) -> Response:
        """Describe a scheduled job."""
        owner = require_readable_namespace(request, user)
        return JSONResponse(self._require_scheduled_job(request, owner).to_dict())

    async def delete(self, request: Request, user: LocalUser) -> Response:
        """Delete a scheduled job; its jobs go on."""
        scheduled_job = self._require_scheduled_job(
            request, require_writable_namespace(request, user)
        )
        del self._scheduled_jobs[scheduled_job.id]
        _stop_timer(scheduled_job)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def suspend(self, request: Request, user: LocalUser) -> Response:
        """Stop the timer of a scheduled job."""
        return self._set_suspended(request, user, suspend=True)

    async def resume(self, request: Request, user: LocalUser) -> Response:
        """Start the timer again; what was due meanwhile is not made up for."""
        return self._set_suspended(request, user, suspend=False)

    async def reschedule(self, request: Request, user: LocalUser) -> Response:
        """Replace the cron expression."""
        scheduled_job = self._require_scheduled_job(
            request, require_writable_namespace(request, user)
        )
        body = await read_body(request, _ScheduleRequest)
        _compute_next_run(body.schedule, read_clock())
        scheduled_job.schedule = body.schedule
        self._restart_timer(scheduled_job)
        return JSONResponse(scheduled_job.to_dict())

    async def run_now(self, request: Request, user: LocalUser) -> Response:
        """Start a job of a scheduled job now."""
        scheduled_job = self._require_scheduled_job(
            request, require_writable_namespace(request, user)
        )
        if scheduled_job.is_busy:
            raise HubApiError(HTTPStatus.CONFLICT, "A job of this scheduled job is running")
        return JSONResponse(self._start_job(scheduled_job).to_dict())

    async def replace_labels(self, request: Request, user: LocalUser) -> Response:
        """Replace the labels of future jobs."""
        scheduled_job = self._require_scheduled_job(
            request, require_writable_namespace(request, user)
        )
        body = await read_body(request, NewLabels)
        scheduled_job.spec = scheduled_job.spec.model_copy(update={"labels": body.labels})
        return JSONResponse(scheduled_job.to_dict())

    async def close(self) -> None:
        """Stop all timers."""
        for scheduled_job in self._scheduled_jobs.values():
            _stop_timer(scheduled_job)

    def _set_suspended(self, request: Request, user: LocalUser, *, suspend: bool) -> Response:
        scheduled_job = self._require_scheduled_job(
            request, require_writable_namespace(request, user)
        )
        scheduled_job.suspend = suspend
        self._restart_timer(scheduled_job)
        return JSONResponse(scheduled_job.to_dict())

    def _require_writable(self, request: Request, user: LocalUser) -> LocalScheduledJob:
        return self._require_scheduled_job(request, require_writable_namespace(request, user))

    def _require_scheduled_job(self, request: Request, owner: Namespace) -> LocalScheduledJob:
        scheduled_job = self._scheduled_jobs.get(request.path_params["scheduled"])
        if scheduled_job is None or scheduled_job.owner != owner:
            raise HubApiError(HTTPStatus.NOT_FOUND, "Scheduled job not found")
        return scheduled_job

    def _start_job(self, scheduled_job: LocalScheduledJob) -> LocalJob:
        scheduled_job.last_job = scheduled_job.create_job()
        self._jobs.start(scheduled_job.last_job)
        return scheduled_job.last_job

    def _restart_timer(self, scheduled_job: LocalScheduledJob) -> None:
        _stop_timer(scheduled_job)
        scheduled_job.timer_task = (
            None if scheduled_job.suspend else asyncio.create_task(self._run_timer(scheduled_job))
        )

    async def _run_timer(self, scheduled_job: LocalScheduledJob) -> None:
        while True:
            await asyncio.sleep((scheduled_job.next_run_at - read_clock()).total_seconds())
            if not scheduled_job.is_busy and scheduled_job.creator.pays:
                self._start_job(scheduled_job)


def _stop_timer(scheduled_job: LocalScheduledJob) -> None:
    if scheduled_job.timer_task is not None:
        scheduled_job.timer_task.cancel()


def _compute_next_run(schedule: str, moment: datetime) -> datetime:
    expression = schedule.strip().lower()
    error = HubApiError(HTTPStatus.BAD_REQUEST, "schedule: Invalid cron expression")
    if expression not in CRON_ALIASES and len(expression.split()) != _CRON_FIELD_COUNT:
        raise error
    try:
        return CronTrigger(expression, "UTC").next_after(moment)
    except (CronSimError, Invalid):
        raise error from None
