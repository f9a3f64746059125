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

from service.local.hub_emulator.jobs.bucket_mounts import BucketMounts, replace_mount_path
from service.local.hub_emulator.jobs.hardware import FLAVORS
from service.local.hub_emulator.jobs.log import ChangeSignal, LocalJobLog
from service.local.hub_emulator.jobs.processes import job_environment, run_command
from service.local.hub_emulator.jobs.schemas import JobRequest
from service.local.hub_emulator.users import LocalUser, Namespace, format_timestamp

_OUT_OF_MEMORY_EXIT_CODE: Final = 137


class Stage(StrEnum):
    """Where a job stands, in the Hub's words."""

    SCHEDULING = "SCHEDULING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    ERROR = "ERROR"
    CANCELED = "CANCELED"


FINAL_STAGES: Final = frozenset({Stage.COMPLETED, Stage.ERROR, Stage.CANCELED})


@dataclass(slots=True)
class LocalJob:
    """One job, and the log it writes."""

    request: JobRequest
    owner: Namespace
    creator: LocalUser
    hub_url: str
    """Where this Hub is, for what is mounted."""
    duplicate_of: str | None = None
    """The job this one repeats."""
    scheduled_job_id: str | None = None
    """The scheduled job it is one of."""
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started_at: datetime | None = None
    finished_at: datetime | None = None
    stage: Stage = Stage.SCHEDULING
    message: str | None = None
    failure_count: int = 0
    change_signal: ChangeSignal = field(default_factory=ChangeSignal)
    """Rings at every change of the job, and at every line of its log."""
    log: LocalJobLog = field(init=False)
    task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.log = LocalJobLog(self.change_signal)

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.stage in FINAL_STAGES

    @property
    def status(self) -> dict[str, Any]:
        """Where it stands, as the Hub says it."""
        status: dict[str, Any] = {
            "stage": self.stage,
            "message": self.message,
            "failureCount": self.failure_count,
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

    def set_stage(self, stage: Stage, message: str | None = None) -> None:
        """Bring the job to a stage, unless it is over: a cancel may have come first."""
        if self.is_final:
            return
        self.stage, self.message = stage, message
        if stage is Stage.RUNNING:
            self.started_at = self.started_at or datetime.now(UTC)
            self.log.write(f"===== Job started at {datetime.now(UTC):%Y-%m-%d %H:%M:%S} =====")
        elif stage in {Stage.COMPLETED, Stage.ERROR}:
            # As on the Hub, a cancelled job has no finishedAt.
            self.finished_at = datetime.now(UTC)
        self.change_signal.notify()

    def record_exit(self, exit_code: int) -> None:
        """Write down how an attempt ended; a failure is the end only if it was the last."""
        if exit_code == 0:
            self.set_stage(Stage.COMPLETED)
            return
        self.failure_count += 1
        if self.failure_count < self.request.attempts:
            self.set_stage(Stage.SCHEDULING)
            return
        cause = "OOMKilled" if exit_code == _OUT_OF_MEMORY_EXIT_CODE else "Error"
        self.set_stage(Stage.ERROR, f"Job failed with exit code: {exit_code}. Reason: {cause}")

    def to_dict(self) -> dict[str, Any]:
        """Describe it as the Hub does; what does not apply is left out, not null."""
        asked = self.request
        avatar = {"avatarUrl": "/avatars/local.svg"}
        person = {"id": self.creator.id, "name": self.creator.name}
        described = {
            "type": "job",
            "id": self.id,
            "createdAt": format_timestamp(self.created_at),
            "startedAt": self.started_at and format_timestamp(self.started_at),
            "finishedAt": self.finished_at and format_timestamp(self.finished_at),
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
            "volumes": [volume.to_dict() for volume in asked.volumes or []] or None,
            "expose": asked.expose and asked.expose.model_dump(by_alias=True),
            "resourceGroup": asked.resource_group_id and {"id": asked.resource_group_id},
            "owner": self.owner.to_dict() | avatar,
            "createdBy": person,
            "initiator": self._initiator() or {"type": "user"} | person | avatar,
            "durations": self._durations(),
        }
        kept = {name: value for name, value in described.items() if value is not None}
        return kept | {"status": self.status}

    def _initiator(self) -> dict[str, Any] | None:
        if self.scheduled_job_id is not None:
            return {"type": "scheduled-job", "id": self.scheduled_job_id}
        return {"type": "duplicated-job", "id": self.duplicate_of} if self.duplicate_of else None

    def _durations(self) -> dict[str, int]:
        until = self.finished_at or datetime.now(UTC)
        spans = {"schedulingSecs": (self.started_at or until) - self.created_at}
        # A cancelled job has no finishedAt, so nobody can say how long it ran.
        if self.stage is not Stage.CANCELED:
            spans["totalSecs"] = until - self.created_at
            if self.started_at:
                spans["runningSecs"] = until - self.started_at
        return {name: int(span.total_seconds()) for name, span in spans.items()}


class JobStore:
    """Every job since this Hub was started."""

    def __init__(self, mounts: BucketMounts, *, scheduling_delay: timedelta) -> None:
        self._mounts = mounts
        self._scheduling_delay = scheduling_delay
        self._jobs: dict[str, LocalJob] = {}

    def start(self, job: LocalJob) -> None:
        """Take a job in and set it on its course."""
        self._jobs[job.id] = job
        job.task = asyncio.create_task(self._run_job(job), name=job.id)

    def get(self, namespace: str, job_id: str) -> LocalJob | None:
        """Return one job of a namespace."""
        job = self._jobs.get(job_id)
        return job if job is not None and job.owner.name == namespace else None

    def list_by_namespace(self, namespace: str) -> list[LocalJob]:
        """Return the jobs of a namespace, newest first."""
        return [job for job in reversed(self._jobs.values()) if job.owner.name == namespace]

    async def cancel(self, job: LocalJob) -> None:
        """Stop a job and its processes; one that is over stays as it is."""
        if not job.is_final:
            job.set_stage(Stage.CANCELED)
            await _stop_job(job)

    async def close(self) -> None:
        """Stop every job, with its processes."""
        await asyncio.gather(*(_stop_job(job) for job in self._jobs.values()))
        await self._mounts.close()

    async def _run_job(self, job: LocalJob) -> None:
        asked, flavor = job.request, FLAVORS[job.request.flavor]
        mounted = await self._mounts.mount(asked.volumes or [], job.hub_url)
        given = {
            name: replace_mount_path(value, mounted) for name, value in asked.environment.items()
        }
        environment = job_environment(job.id, flavor) | given | asked.secrets
        command = [replace_mount_path(part, mounted) for part in (*asked.command, *asked.arguments)]
        killed = True
        try:
            while not job.is_final:
                await asyncio.sleep(self._scheduling_delay.total_seconds())
                job.set_stage(Stage.RUNNING)
                # Not documented, and so our choice: each attempt has its time, none follows it.
                async with asyncio.timeout(asked.timeout_seconds):
                    job.record_exit(await run_command(command, environment, flavor, job.log.write))
            killed = False
        except TimeoutError:
            job.set_stage(Stage.ERROR, "Job timeout")
        finally:
            self._mounts.release(mounted, job.hub_url, killed=killed)


async def _stop_job(job: LocalJob) -> None:
    if job.task is not None and not job.task.done():
        job.task.cancel()
        await asyncio.wait([job.task])
