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
from schema.schedules.cron import NAMES, Rhythm
from service.local.hub_emulator.current_user import hub_url
from service.local.hub_emulator.errors import Refusal
from service.local.hub_emulator.jobs.routes import may_read, may_write
from service.local.hub_emulator.jobs.schemas import JobRequest, NewLabels
from service.local.hub_emulator.jobs.store import Jobs, LocalJob
from service.local.hub_emulator.request_body import read_body
from service.local.hub_emulator.users import LocalUser, Namespace, written

_SPEC: Final = (
    *("dockerImage", "spaceId", "command", "arguments", "environment", "secrets", "flavor"),
    *("arch", "timeout", "labels", "volumes"),
)
"""What of a job's description its spec has too."""

_FIELDS: Final = 5

SignedIn = Callable[
    [Callable[[Request, LocalUser], Awaitable[Response]]], Callable[[Request], Awaitable[Response]]
]


class _Asked(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")

    job_spec: JobRequest
    schedule: str
    suspend: bool = False
    concurrency: bool = False


class _NewSchedule(BaseModel):
    model_config = ConfigDict(extra="forbid")

    schedule: str


@dataclass(slots=True)
class ScheduledJob:
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
    last: LocalJob | None = None
    clock: asyncio.Task[None] | None = None

    @property
    def next_at(self) -> datetime:
        """When its clock strikes next."""
        return _after(self.schedule, datetime.now(UTC))

    @property
    def is_busy(self) -> bool:
        """Whether another job of it may not run now."""
        return not self.concurrency and self.last is not None and not self.last.is_over

    def job(self) -> LocalJob:
        """Make the next job."""
        return LocalJob(self.spec, self.owner, self.creator, self.hub_url, fired_by=self.id)

    def described(self) -> dict[str, Any]:
        """Describe it as the Hub does."""
        job = self.job().described()
        last = self.last and {"id": self.last.id, "at": written(self.last.created_at)}
        return {
            "type": "scheduled-job",
            "id": self.id,
            "createdAt": written(self.created_at),
            "schedule": self.schedule,
            "suspend": self.suspend,
            "concurrency": self.concurrency,
            "status": {
                "lastJob": last,
                "nextJobRunAt": None if self.suspend else written(self.next_at),
            },
            "owner": job["owner"],
            "initiator": {"type": "user", **job["createdBy"]},
            "jobSpec": {name: job[name] for name in _SPEC if name in job},
        }


class ScheduledRoutes:
    """The endpoints of scheduled jobs."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._kept: dict[str, ScheduledJob] = {}

    def routes(self, signed_in: SignedIn) -> list[Route]:
        """Say where they are."""
        of_namespace = "/api/scheduled-jobs/{namespace}"
        of_one = f"{of_namespace}/{{scheduled}}"
        return [
            Route(of_namespace, signed_in(self.create), methods=["POST"]),
            Route(of_namespace, signed_in(self.page)),
            Route(of_one, signed_in(self.inspect)),
            Route(of_one, signed_in(self.delete), methods=["DELETE"]),
            Route(f"{of_one}/suspend", signed_in(self.suspend), methods=["POST"]),
            Route(f"{of_one}/resume", signed_in(self.resume), methods=["POST"]),
            Route(f"{of_one}/schedule", signed_in(self.reschedule), methods=["POST"]),
            Route(f"{of_one}/run", signed_in(self.run), methods=["POST"]),
            Route(f"{of_one}/labels", signed_in(self.relabel), methods=["PUT"]),
        ]

    async def create(self, request: Request, user: LocalUser) -> Response:
        """Keep one, and start its clock."""
        owner = may_write(request, user)
        asked = await read_body(request, _Asked)
        _after(asked.schedule, datetime.now(UTC))
        one = ScheduledJob(
            asked.job_spec,
            asked.schedule,
            asked.suspend,
            asked.concurrency,
            owner,
            user,
            hub_url(request),
        )
        self._kept[one.id] = one
        self._wind(one)
        return JSONResponse(one.described())

    async def page(self, request: Request, user: LocalUser) -> Response:
        """List them all; of several labels the Hub looks at one."""
        owner = may_read(request, user)
        name, _, value = request.query_params.get("label", "").partition("=")
        return JSONResponse(
            [
                one.described()
                for one in reversed(self._kept.values())
                if one.owner == owner and (not name or one.spec.labels.get(name) == value)
            ]
        )

    async def inspect(self, request: Request, user: LocalUser) -> Response:
        """Describe one."""
        return JSONResponse(self._one(request, may_read(request, user)).described())

    async def delete(self, request: Request, user: LocalUser) -> Response:
        """Forget one; its jobs go on."""
        one = self._one(request, may_write(request, user))
        del self._kept[one.id]
        _stop(one)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def suspend(self, request: Request, user: LocalUser) -> Response:
        """Let its clock strike in vain."""
        return self._set(request, user, suspend=True)

    async def resume(self, request: Request, user: LocalUser) -> Response:
        """Let it fire again, from now on."""
        return self._set(request, user, suspend=False)

    async def reschedule(self, request: Request, user: LocalUser) -> Response:
        """Set its clock."""
        one = self._one(request, may_write(request, user))
        new = await read_body(request, _NewSchedule)
        _after(new.schedule, datetime.now(UTC))
        one.schedule = new.schedule
        self._wind(one)
        return JSONResponse(one.described())

    async def run(self, request: Request, user: LocalUser) -> Response:
        """Start a job of it now."""
        one = self._one(request, may_write(request, user))
        if one.is_busy:
            raise Refusal(HTTPStatus.CONFLICT, "A job of this scheduled job is running")
        return JSONResponse(self._fire(one).described())

    async def relabel(self, request: Request, user: LocalUser) -> Response:
        """Replace the labels of the jobs to come."""
        one = self._one(request, may_write(request, user))
        new = await read_body(request, NewLabels)
        one.spec = one.spec.model_copy(update={"labels": new.labels})
        return JSONResponse(one.described())

    async def close(self) -> None:
        """Stop every clock."""
        for one in self._kept.values():
            _stop(one)

    def _set(self, request: Request, user: LocalUser, *, suspend: bool) -> Response:
        one = self._one(request, may_write(request, user))
        one.suspend = suspend
        self._wind(one)
        return JSONResponse(one.described())

    def _one(self, request: Request, owner: Namespace) -> ScheduledJob:
        one = self._kept.get(request.path_params["scheduled"])
        if one is None or one.owner != owner:
            raise Refusal(HTTPStatus.NOT_FOUND, "Scheduled job not found")
        return one

    def _fire(self, one: ScheduledJob) -> LocalJob:
        one.last = one.job()
        self._jobs.start(one.last)
        return one.last

    def _wind(self, one: ScheduledJob) -> None:
        _stop(one)
        one.clock = None if one.suspend else asyncio.create_task(self._tick(one))

    async def _tick(self, one: ScheduledJob) -> None:
        while True:
            await asyncio.sleep((one.next_at - datetime.now(UTC)).total_seconds())
            if not one.is_busy and one.creator.pays:
                self._fire(one)


def _stop(one: ScheduledJob) -> None:
    if one.clock is not None:
        one.clock.cancel()


def _after(schedule: str, moment: datetime) -> datetime:
    expression = schedule.strip().lower()
    wrong = Refusal(HTTPStatus.BAD_REQUEST, "schedule: Invalid cron expression")
    if expression not in NAMES and len(expression.split()) != _FIELDS:
        raise wrong
    try:
        return Rhythm(expression, "UTC").after(moment)
    except (CronSimError, Invalid):
        raise wrong from None
