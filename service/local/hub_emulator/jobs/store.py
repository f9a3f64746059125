"""The jobs of the emulated Hub: the request, the stage and the log of each, and its life cycle.

    SCHEDULING ──▶ RUNNING ──▶ COMPLETED | ERROR        CANCELED from either
         ▲            │
         └─ attempts ─┘

They are in memory only: a restart kills them and forgets them.
"""

import asyncio
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from service.local.hub_emulator.jobs.bucket_mounts import BucketMounts, replace_mount_path
from service.local.hub_emulator.jobs.hardware import FLAVORS
from service.local.hub_emulator.jobs.log import ChangeSignal, LocalJobLog
from service.local.hub_emulator.jobs.processes import job_environment, run_command
from service.local.hub_emulator.jobs.schemas import JobRequest
from service.local.hub_emulator.shared.clock import read_clock
from service.local.hub_emulator.users import AVATAR_PATH, LocalUser, Namespace, format_timestamp

_OUT_OF_MEMORY_EXIT_CODE: Final = 137


class Stage(StrEnum):
    """The stages of a job, in the Hub's words."""

    SCHEDULING = "SCHEDULING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    ERROR = "ERROR"
    CANCELED = "CANCELED"


FINAL_STAGES: Final = frozenset({Stage.COMPLETED, Stage.ERROR, Stage.CANCELED})


@dataclass(slots=True)
class LocalJob:
    """One job and its log."""

    request: JobRequest
    owner: Namespace
    creator: LocalUser
    hub_url: str
    """The URL of this Hub, for the transfer of mounted buckets."""
    duplicate_of: str | None = None
    """The id of the job that this one repeats."""
    scheduled_job_id: str | None = None
    """The id of the scheduled job that has started this one."""
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created_at: datetime = field(default_factory=read_clock)
    started_at: datetime | None = None
    finished_at: datetime | None = None
    stage: Stage = Stage.SCHEDULING
    message: str | None = None
    failure_count: int = 0
    change_signal: ChangeSignal = field(default_factory=ChangeSignal)
    """Notifies at every change of the job, and at every line of its log."""
    log: LocalJobLog = field(init=False)
    task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.log = LocalJobLog(self.change_signal)

    @property
    def is_final(self) -> bool:
        """Whether the stage is final."""
        return self.stage in FINAL_STAGES

    @property
    def status(self) -> dict[str, Any]:
        """The status, as the Hub describes it."""
        status: dict[str, Any] = {
            "stage": self.stage,
            "message": self.message,
            "failureCount": self.failure_count,
        }
        expose, ssh = self.request.expose, self.request.ssh
        if expose is not None:
            # The Hub has a proxy for these; a job here has the ports of this machine.
            status["exposeUrls"] = [f"http://127.0.0.1:{port}" for port in expose.ports]
        if ssh is not None and ssh.enabled:
            # Of the form that the Hub gives; nothing answers there.
            status["sshUrl"] = f"ssh://{self.id}@ssh.hf.jobs"
        return status

    def set_stage(self, stage: Stage, message: str | None = None) -> None:
        """Set the stage, unless it is final: a cancel may have come first."""
        if self.is_final:
            return
        self.stage, self.message = stage, message
        if stage is Stage.RUNNING:
            self.started_at = self.started_at or read_clock()
            self.log.write(f"===== Job started at {read_clock():%Y-%m-%d %H:%M:%S} =====")
        elif stage in {Stage.COMPLETED, Stage.ERROR}:
            # As on the Hub, a cancelled job has no finishedAt.
            self.finished_at = read_clock()
        self.change_signal.notify()

    def record_exit(self, exit_code: int) -> None:
        """Record the end of an attempt; after a failure another attempt follows, if one is left."""
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
        """Describe the job as the Hub does; fields that do not apply are left out, not null."""
        request = self.request
        avatar = {"avatarUrl": AVATAR_PATH}
        creator = {"id": self.creator.id, "name": self.creator.name}
        description = {
            "type": "job",
            "id": self.id,
            "createdAt": format_timestamp(self.created_at),
            "startedAt": self.started_at and format_timestamp(self.started_at),
            "finishedAt": self.finished_at and format_timestamp(self.finished_at),
            "dockerImage": request.docker_image,
            "spaceId": request.space_id,
            "command": request.command,
            "arguments": request.arguments,
            "environment": request.environment,
            "secrets": sorted(request.secrets),
            "flavor": request.flavor,
            "arch": request.arch,
            "timeout": request.timeout_seconds,
            "retry": request.attempts - 1,
            "labels": request.labels,
            "volumes": [volume.to_dict() for volume in request.volumes or []] or None,
            "expose": request.expose and request.expose.model_dump(by_alias=True),
            "resourceGroup": request.resource_group_id and {"id": request.resource_group_id},
            "owner": self.owner.to_dict() | avatar,
            "createdBy": creator,
            "initiator": self._initiator() or {"type": "user"} | creator | avatar,
            "durations": self._durations(),
        }
        applicable = {name: value for name, value in description.items() if value is not None}
        return applicable | {"status": self.status}

    def _initiator(self) -> dict[str, Any] | None:
        if self.scheduled_job_id is not None:
            return {"type": "scheduled-job", "id": self.scheduled_job_id}
        return {"type": "duplicated-job", "id": self.duplicate_of} if self.duplicate_of else None

    def _durations(self) -> dict[str, int]:
        end = self.finished_at or read_clock()
        durations = {"schedulingSecs": (self.started_at or end) - self.created_at}
        # A cancelled job has no finishedAt, so its running time is not known.
        if self.stage is not Stage.CANCELED:
            durations["totalSecs"] = end - self.created_at
            if self.started_at:
                durations["runningSecs"] = end - self.started_at
        return {name: int(duration.total_seconds()) for name, duration in durations.items()}


class JobStore:
    """All jobs since this Hub was started."""

    def __init__(self, mounts: BucketMounts, *, scheduling_delay: timedelta) -> None:
        self._mounts = mounts
        self._scheduling_delay = scheduling_delay
        self._jobs: dict[str, LocalJob] = {}

    def start(self, job: LocalJob) -> None:
        """Add a job and start it."""
        self._jobs[job.id] = job
        job.task = asyncio.create_task(self._run_job(job), name=job.id)

    def get(self, namespace: str, job_id: str) -> LocalJob | None:
        """Return a job by its namespace and id."""
        job = self._jobs.get(job_id)
        return job if job is not None and job.owner.name == namespace else None

    def list_by_namespace(self, namespace: str) -> list[LocalJob]:
        """Return the jobs of a namespace, newest first."""
        return [job for job in reversed(self._jobs.values()) if job.owner.name == namespace]

    async def cancel(self, job: LocalJob) -> None:
        """Stop a job and its processes; a final stage stays as it is."""
        if not job.is_final:
            job.set_stage(Stage.CANCELED)
            await _stop_job(job)

    async def close(self) -> None:
        """Stop all jobs and their processes."""
        await asyncio.gather(*(_stop_job(job) for job in self._jobs.values()))
        await self._mounts.close()

    async def _run_job(self, job: LocalJob) -> None:
        request, flavor = job.request, FLAVORS[job.request.flavor]
        mounted = await self._mounts.mount(request.volumes or [], job.hub_url)
        variables = {
            name: replace_mount_path(value, mounted) for name, value in request.environment.items()
        }
        environment = job_environment(job.id, flavor) | variables | request.secrets
        argv = (*request.command, *request.arguments)
        command = [replace_mount_path(argument, mounted) for argument in argv]
        killed = True
        try:
            while not job.is_final:
                await asyncio.sleep(self._scheduling_delay.total_seconds())
                job.set_stage(Stage.RUNNING)
                # The Hub does not document it. Our choice: the timeout is that of one attempt,
                # and no attempt follows a timeout.
                async with asyncio.timeout(request.timeout_seconds):
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
