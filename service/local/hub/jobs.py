"""The jobs of the local Hub: what was asked for, how it stands, and the course it takes."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from service.local.hub.hardware import FLAVORS
from service.local.hub.processes import bare_environment, job_folder, run
from service.local.hub.requests import JobRequest
from service.local.hub.users import LocalUser

_LOG_LINES: Final = 100_000
_OUT_OF_MEMORY: Final = 137


class Stage(StrEnum):
    """Where a job stands, in the Hub's words."""

    SCHEDULING = "SCHEDULING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    ERROR = "ERROR"
    CANCELED = "CANCELED"


OVER: Final = frozenset({Stage.COMPLETED, Stage.ERROR, Stage.CANCELED})


def moment() -> str:
    """Write the time as the Hub does."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(slots=True)
class LocalJob:
    """One job, and the log it writes."""

    request: JobRequest
    namespace: str
    creator: LocalUser
    initiator: str = "user"
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created_at: str = field(default_factory=moment)
    started_at: str | None = None
    finished_at: str | None = None
    stage: Stage = Stage.SCHEDULING
    message: str | None = None
    failures: int = 0
    log: list[tuple[str, str]] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    course: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.stage in OVER

    def described(self) -> dict[str, Any]:
        """Describe it as the Hub does; what does not apply is left out, not null."""
        asked = self.request
        owner = {"id": self.creator.id, "name": self.namespace, "type": "user"}
        person = {"id": self.creator.id, "name": self.creator.name}
        described = {
            "type": "job",
            "id": self.id,
            "createdAt": self.created_at,
            "startedAt": self.started_at,
            "finishedAt": self.finished_at,
            "dockerImage": asked.docker_image,
            "spaceId": asked.space_id,
            "command": asked.command,
            "arguments": asked.arguments,
            "environment": asked.environment,
            "secrets": sorted(asked.secrets),
            "flavor": asked.flavor,
            "arch": "amd64",
            "timeout": asked.timeout_seconds,
            "retry": asked.attempts - 1,
            "labels": asked.labels,
            "owner": owner | {"avatarUrl": "/avatars/local.svg"},
            "createdBy": person,
            "initiator": {"type": self.initiator} | person,
            "status": {
                "stage": self.stage,
                "message": self.message,
                "failureCount": self.failures,
            },
        }
        status = described["status"]
        kept = {name: value for name, value in described.items() if value is not None}
        return kept | {"status": status}


class Jobs:
    """Every job since this Hub was started."""

    def __init__(self, *, scheduling: timedelta) -> None:
        self._scheduling = scheduling
        self._jobs: dict[str, LocalJob] = {}

    def start(self, job: LocalJob) -> None:
        """Take a job in and set it on its course."""
        self._jobs[job.id] = job
        job.course = asyncio.create_task(self._run(job), name=job.id)

    def get(self, namespace: str, job_id: str) -> LocalJob | None:
        """Return one job of a namespace."""
        job = self._jobs.get(job_id)
        return job if job is not None and job.namespace == namespace else None

    def of(self, namespace: str) -> list[LocalJob]:
        """Return the jobs of a namespace, newest first."""
        return [job for job in reversed(self._jobs.values()) if job.namespace == namespace]

    async def cancel(self, job: LocalJob) -> None:
        """Stop a job; one that is over stays as it is."""
        if job.is_over:
            return
        # As on the Hub: no finishedAt, no message.
        await _tell(job, stage=Stage.CANCELED)
        await _end(job)

    async def close(self) -> None:
        """Stop every job, with its processes."""
        await asyncio.gather(*(_end(job) for job in self._jobs.values()))

    async def _run(self, job: LocalJob) -> None:
        await asyncio.sleep(self._scheduling.total_seconds())
        limit = job.request.timeout_seconds
        try:
            async with asyncio.timeout(limit):
                await self._attempt(job)
        except TimeoutError:
            await _tell(job, stage=Stage.ERROR, message="Job timeout", over=True)

    async def _attempt(self, job: LocalJob) -> None:
        asked, flavor = job.request, FLAVORS[job.request.flavor]
        while True:
            await _tell(job, stage=Stage.RUNNING)
            await _write(job, f"===== Job started at {moment()} =====")
            async with job_folder() as home, _log_of(job) as lines:
                environment = bare_environment(home, job.id, flavor)
                environment |= asked.environment | asked.secrets
                command = [*asked.command, *asked.arguments]
                code = await run(command, environment, home, flavor, lines.put_nowait)
            if code == 0:
                await _tell(job, stage=Stage.COMPLETED, over=True)
                return
            job.failures += 1
            if job.failures >= asked.attempts:
                cause = "OOMKilled" if code == _OUT_OF_MEMORY else "Error"
                message = f"Job failed with exit code: {code}. Reason: {cause}"
                await _tell(job, stage=Stage.ERROR, message=message, over=True)
                return
            await _tell(job, stage=Stage.SCHEDULING)


@asynccontextmanager
async def _log_of(job: LocalJob) -> AsyncGenerator[asyncio.Queue[str | None]]:
    """Yield a queue whose lines become the job's log, all of them before the block is left."""
    lines: asyncio.Queue[str | None] = asyncio.Queue()

    async def copying() -> None:
        while (line := await lines.get()) is not None:
            await _write(job, line)

    copier = asyncio.create_task(copying())
    try:
        yield lines
    finally:
        lines.put_nowait(None)
        await copier


async def _write(job: LocalJob, text: str) -> None:
    async with job.changed:
        if len(job.log) < _LOG_LINES:
            job.log.append((moment(), text))
        job.changed.notify_all()


async def _tell(
    job: LocalJob, *, stage: Stage, message: str | None = None, over: bool = False
) -> None:
    async with job.changed:
        if job.is_over:
            return  # a cancel came first
        job.stage, job.message = stage, message
        if stage is Stage.RUNNING:
            job.started_at = job.started_at or moment()
        if over:
            job.finished_at = moment()
        job.changed.notify_all()


async def _end(job: LocalJob) -> None:
    if job.course is not None and not job.course.done():
        job.course.cancel()
        await asyncio.wait([job.course])
