"""The jobs of the local Hub: what was asked for, how it stands, and the course it takes.

    SCHEDULING ──▶ RUNNING ──▶ COMPLETED | ERROR        CANCELED from either
         ▲            │
         └─ attempts ─┘

They are kept in memory only: a restart forgets them, as it kills them.
"""

import asyncio
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from service.local.hub_emulator.jobs.bucket_mounts import Mounts, at_hand
from service.local.hub_emulator.jobs.hardware import FLAVORS
from service.local.hub_emulator.jobs.log import Bell, Log
from service.local.hub_emulator.jobs.processes import bare_environment, run
from service.local.hub_emulator.jobs.schemas import JobRequest
from service.local.hub_emulator.users import LocalUser, Namespace, written

_OUT_OF_MEMORY: Final = 137


class Stage(StrEnum):
    """Where a job stands, in the Hub's words."""

    SCHEDULING = "SCHEDULING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    ERROR = "ERROR"
    CANCELED = "CANCELED"


OVER: Final = frozenset({Stage.COMPLETED, Stage.ERROR, Stage.CANCELED})


@dataclass(slots=True)
class LocalJob:
    """One job, and the log it writes."""

    request: JobRequest
    owner: Namespace
    creator: LocalUser
    hub_url: str
    """Where this Hub is, for what is mounted."""
    copy_of: str | None = None
    """The job this one repeats."""
    fired_by: str | None = None
    """The scheduled job it is one of."""
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started_at: datetime | None = None
    finished_at: datetime | None = None
    stage: Stage = Stage.SCHEDULING
    message: str | None = None
    failures: int = 0
    bell: Bell = field(default_factory=Bell)
    """Rings at every change of the job, and at every line of its log."""
    log: Log = field(init=False)
    course: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.log = Log(self.bell)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.stage in OVER

    @property
    def status(self) -> dict[str, Any]:
        """Where it stands, as the Hub says it."""
        status: dict[str, Any] = {
            "stage": self.stage,
            "message": self.message,
            "failureCount": self.failures,
        }
        asked = self.request
        if asked.expose is not None:
            # Where the Hub has a proxy, a job here has the ports of this machine.
            ports = asked.expose.ports
            status["exposeUrls"] = [f"http://127.0.0.1:{port}" for port in ports]
        if asked.ssh is not None and asked.ssh.enabled:
            # Of the form it has on the Hub; nobody answers there.
            status["sshUrl"] = f"ssh://{self.id}@ssh.hf.jobs"
        return status

    def move(self, stage: Stage, message: str | None = None) -> None:
        """Bring the job to a stage, unless it is over: a cancel may have come first."""
        if self.is_over:
            return
        self.stage, self.message = stage, message
        if stage is Stage.RUNNING:
            self.started_at = self.started_at or datetime.now(UTC)
            self.log.write(f"===== Job started at {datetime.now(UTC):%Y-%m-%d %H:%M:%S} =====")
        elif stage in {Stage.COMPLETED, Stage.ERROR}:
            # As on the Hub, a cancelled job has no finishedAt.
            self.finished_at = datetime.now(UTC)
        self.bell.ring()

    def settle(self, exit_code: int) -> None:
        """Write down how an attempt ended; a failure is the end only if it was the last."""
        if exit_code == 0:
            self.move(Stage.COMPLETED)
            return
        self.failures += 1
        if self.failures < self.request.attempts:
            self.move(Stage.SCHEDULING)
            return
        cause = "OOMKilled" if exit_code == _OUT_OF_MEMORY else "Error"
        self.move(Stage.ERROR, f"Job failed with exit code: {exit_code}. Reason: {cause}")

    def described(self) -> dict[str, Any]:
        """Describe it as the Hub does; what does not apply is left out, not null."""
        asked = self.request
        avatar = {"avatarUrl": "/avatars/local.svg"}
        person = {"id": self.creator.id, "name": self.creator.name}
        described = {
            "type": "job",
            "id": self.id,
            "createdAt": written(self.created_at),
            "startedAt": self.started_at and written(self.started_at),
            "finishedAt": self.finished_at and written(self.finished_at),
            "dockerImage": asked.docker_image,
            "spaceId": asked.space_id,
            "command": asked.command,
            "arguments": asked.arguments,
            "environment": asked.environment,
            "secrets": sorted(asked.secrets),
            "flavor": asked.flavor,
            "arch": asked.arch,
            "timeout": asked.timeout_seconds,
            "retry": asked.attempts - 1,
            "labels": asked.labels,
            "volumes": [volume.described() for volume in asked.volumes or []] or None,
            "expose": asked.expose and asked.expose.model_dump(by_alias=True),
            "resourceGroup": asked.resource_group_id and {"id": asked.resource_group_id},
            "owner": self.owner.described() | avatar,
            "createdBy": person,
            "initiator": self._initiator() or {"type": "user"} | person | avatar,
            "durations": self._durations(),
        }
        kept = {name: value for name, value in described.items() if value is not None}
        return kept | {"status": self.status}

    def _initiator(self) -> dict[str, Any] | None:
        if self.fired_by is not None:
            return {"type": "scheduled-job", "id": self.fired_by}
        return {"type": "duplicated-job", "id": self.copy_of} if self.copy_of else None

    def _durations(self) -> dict[str, int]:
        until = self.finished_at or datetime.now(UTC)
        spans = {"schedulingSecs": (self.started_at or until) - self.created_at}
        # A cancelled job has no finishedAt, so nobody can say how long it ran.
        if self.stage is not Stage.CANCELED:
            spans["totalSecs"] = until - self.created_at
            if self.started_at:
                spans["runningSecs"] = until - self.started_at
        return {name: int(span.total_seconds()) for name, span in spans.items()}


class Jobs:
    """Every job since this Hub was started."""

    def __init__(self, mounts: Mounts, *, scheduling: timedelta) -> None:
        self._mounts = mounts
        self._scheduling = scheduling
        self._jobs: dict[str, LocalJob] = {}

    def start(self, job: LocalJob) -> None:
        """Take a job in and set it on its course."""
        self._jobs[job.id] = job
        job.course = asyncio.create_task(self._run(job), name=job.id)

    def get(self, namespace: str, job_id: str) -> LocalJob | None:
        """Return one job of a namespace."""
        job = self._jobs.get(job_id)
        return job if job is not None and job.owner.name == namespace else None

    def of(self, namespace: str) -> list[LocalJob]:
        """Return the jobs of a namespace, newest first."""
        return [job for job in reversed(self._jobs.values()) if job.owner.name == namespace]

    async def cancel(self, job: LocalJob) -> None:
        """Stop a job and its processes; one that is over stays as it is."""
        if not job.is_over:
            job.move(Stage.CANCELED)
            await _end(job)

    async def close(self) -> None:
        """Stop every job, with its processes."""
        await asyncio.gather(*(_end(job) for job in self._jobs.values()))
        await self._mounts.close()

    async def _run(self, job: LocalJob) -> None:
        asked, flavor = job.request, FLAVORS[job.request.flavor]
        mounted = await self._mounts.mount(asked.volumes or [], job.hub_url)
        given = {name: at_hand(value, mounted) for name, value in asked.environment.items()}
        environment = bare_environment(job.id, flavor) | given | asked.secrets
        command = [at_hand(part, mounted) for part in (*asked.command, *asked.arguments)]
        killed = True
        try:
            while not job.is_over:
                await asyncio.sleep(self._scheduling.total_seconds())
                job.move(Stage.RUNNING)
                # Not documented, and so our choice: each attempt has its time, none follows it.
                async with asyncio.timeout(asked.timeout_seconds):
                    job.settle(await run(command, environment, flavor, job.log.write))
            killed = False
        except TimeoutError:
            job.move(Stage.ERROR, "Job timeout")
        finally:
            self._mounts.release(mounted, job.hub_url, killed=killed)


async def _end(job: LocalJob) -> None:
    if job.course is not None and not job.course.done():
        job.course.cancel()
        await asyncio.wait([job.course])
