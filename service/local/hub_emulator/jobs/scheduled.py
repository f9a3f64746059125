"""Scheduled jobs, as the Hub has them: a spec and a cron line, fired by its own clock, in UTC.

Kept in memory like the jobs they start. One that is due while its last job runs is passed over,
unless it may run beside it.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
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
from service.local.hub_emulator.current_user import get_hub_url
from service.local.hub_emulator.errors import HubApiError
from service.local.hub_emulator.jobs.routes import (
    require_readable_namespace,
    require_writable_namespace,
)
from service.local.hub_emulator.jobs.schemas import JobRequest, NewLabels
from service.local.hub_emulator.jobs.store import JobStore, LocalJob
from service.local.hub_emulator.request_body import read_body
from service.local.hub_emulator.users import LocalUser, Namespace, format_timestamp

_SPEC_FIELDS: Final = (
    *("dockerImage", "spaceId", "command", "arguments", "environment", "secrets", "flavor"),
    *("arch", "timeout", "labels", "volumes"),
)
"""What of a job's description its spec has too."""

_CRON_FIELD_COUNT: Final = 5

UserEndpointDecorator = Callable[
    [Callable[[Request, LocalUser], Awaitable[Response]]], Callable[[Request], Awaitable[Response]]
]


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
    """One of them."""

    spec: JobRequest
    schedule: str
    suspend: bool
    concurrency: bool
    owner: Namespace
    creator: LocalUser
    hub_url: str
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    last_job: LocalJob | None = None
    timer_task: asyncio.Task[None] | None = None

    @property
    def next_run_at(self) -> datetime:
        """When its clock strikes next."""
        return _compute_next_run(self.schedule, datetime.now(UTC))

    @property
    def is_busy(self) -> bool:
        """Whether another job of it may not run now."""
        return not self.concurrency and self.last_job is not None and not self.last_job.is_final

    def create_job(self) -> LocalJob:
        """Make the next job."""
        return LocalJob(self.spec, self.owner, self.creator, self.hub_url, scheduled_job_id=self.id)

    def to_dict(self) -> dict[str, Any]:
        """Describe it as the Hub does."""
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

    def routes(self, with_user: UserEndpointDecorator) -> list[Route]:
        """Say where they are."""
        of_namespace = "/api/scheduled-jobs/{namespace}"
        of_one = f"{of_namespace}/{{scheduled}}"
        return [
            Route(of_namespace, with_user(self.create), methods=["POST"]),
            Route(of_namespace, with_user(self.list_page)),
            Route(of_one, with_user(self.inspect)),
            Route(of_one, with_user(self.delete), methods=["DELETE"]),
            Route(f"{of_one}/suspend", with_user(self.suspend), methods=["POST"]),
            Route(f"{of_one}/resume", with_user(self.resume), methods=["POST"]),
            Route(f"{of_one}/schedule", with_user(self.reschedule), methods=["POST"]),
            Route(f"{of_one}/run", with_user(self.run_now), methods=["POST"]),
            Route(f"{of_one}/labels", with_user(self.replace_labels), methods=["PUT"]),
        ]

    async def create(self, request: Request, user: LocalUser) -> Response:
        """Keep one, and start its clock."""
        owner = require_writable_namespace(request, user)
        asked = await read_body(request, _ScheduledJobRequest)
        _compute_next_run(asked.schedule, datetime.now(UTC))
        one = LocalScheduledJob(
            asked.job_spec,
            asked.schedule,
            asked.suspend,
            asked.concurrency,
            owner,
            user,
            get_hub_url(request),
        )
        self._scheduled_jobs[one.id] = one
        self._restart_timer(one)
        return JSONResponse(one.to_dict())

    async def list_page(self, request: Request, user: LocalUser) -> Response:
        """List them all; of several labels the Hub looks at one."""
        owner = require_readable_namespace(request, user)
        name, _, value = request.query_params.get("label", "").partition("=")
        return JSONResponse(
            [
                one.to_dict()
                for one in reversed(self._scheduled_jobs.values())
                if one.owner == owner and (not name or one.spec.labels.get(name) == value)
            ]
        )

    async def inspect(self, request: Request, user: LocalUser) -> Response:
        """Describe one."""
        return JSONResponse(
            self._require_scheduled_job(
                request, require_readable_namespace(request, user)
            ).to_dict()
        )

    async def delete(self, request: Request, user: LocalUser) -> Response:
        """Forget one; its jobs go on."""
        one = self._require_scheduled_job(request, require_writable_namespace(request, user))
        del self._scheduled_jobs[one.id]
        _stop_timer(one)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def suspend(self, request: Request, user: LocalUser) -> Response:
        """Let its clock strike in vain."""
        return self._set_suspended(request, user, suspend=True)

    async def resume(self, request: Request, user: LocalUser) -> Response:
        """Let it fire again, from now on."""
        return self._set_suspended(request, user, suspend=False)

    async def reschedule(self, request: Request, user: LocalUser) -> Response:
        """Set its clock."""
        one = self._require_scheduled_job(request, require_writable_namespace(request, user))
        new = await read_body(request, _ScheduleRequest)
        _compute_next_run(new.schedule, datetime.now(UTC))
        one.schedule = new.schedule
        self._restart_timer(one)
        return JSONResponse(one.to_dict())

    async def run_now(self, request: Request, user: LocalUser) -> Response:
        """Start a job of it now."""
        one = self._require_scheduled_job(request, require_writable_namespace(request, user))
        if one.is_busy:
            raise HubApiError(HTTPStatus.CONFLICT, "A job of this scheduled job is running")
        return JSONResponse(self._start_job(one).to_dict())

    async def replace_labels(self, request: Request, user: LocalUser) -> Response:
        """Replace the labels of the jobs to come."""
        one = self._require_scheduled_job(request, require_writable_namespace(request, user))
        new = await read_body(request, NewLabels)
        one.spec = one.spec.model_copy(update={"labels": new.labels})
        return JSONResponse(one.to_dict())

    async def close(self) -> None:
        """Stop every clock."""
        for one in self._scheduled_jobs.values():
            _stop_timer(one)

    def _set_suspended(self, request: Request, user: LocalUser, *, suspend: bool) -> Response:
        one = self._require_scheduled_job(request, require_writable_namespace(request, user))
        one.suspend = suspend
        self._restart_timer(one)
        return JSONResponse(one.to_dict())

    def _require_scheduled_job(self, request: Request, owner: Namespace) -> LocalScheduledJob:
        one = self._scheduled_jobs.get(request.path_params["scheduled"])
        if one is None or one.owner != owner:
            raise HubApiError(HTTPStatus.NOT_FOUND, "Scheduled job not found")
        return one

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
            await asyncio.sleep((scheduled_job.next_run_at - datetime.now(UTC)).total_seconds())
            if not scheduled_job.is_busy and scheduled_job.creator.pays:
                self._start_job(scheduled_job)


def _stop_timer(scheduled_job: LocalScheduledJob) -> None:
    if scheduled_job.timer_task is not None:
        scheduled_job.timer_task.cancel()


def _compute_next_run(schedule: str, moment: datetime) -> datetime:
    expression = schedule.strip().lower()
    wrong = HubApiError(HTTPStatus.BAD_REQUEST, "schedule: Invalid cron expression")
    if expression not in CRON_ALIASES and len(expression.split()) != _CRON_FIELD_COUNT:
        raise wrong
    try:
        return CronTrigger(expression, "UTC").next_after(moment)
    except (CronSimError, Invalid):
        raise wrong from None
