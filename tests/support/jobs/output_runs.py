"""A job with outputs, taken step by step, and a local Hub of which some requests are refused."""

import asyncio
from dataclasses import dataclass, field

from huggingface_hub import BucketFile, HfApi
from starlette.types import ASGIApp, Receive, Scope, Send

from schema.artifacts import files
from schema.artifacts.files import JobFile
from schema.jobs.queries import JobStatus
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.tables import JobKind
from schema.specs.outputs import OutputFolder
from service.local.hub_emulator.errors import error_response
from service.local.hub_emulator.users import LocalUser, find_user
from tests.support.jobs.hub_runs import poll_namespace, read_status
from tests.support.polling import wait_until
from tests.support.subjects import ADA_ID
from workers.attempts.run import run_attempt
from workers.context import Worker
from workers.timing import boottime_seconds


@dataclass(slots=True)
class FailingHub:
    """The local Hub, of which some requests are refused."""

    app: ASGIApp
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])
    """Status and message, by a part of the path."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        for part, (status, message) in self.refusals.items():
            if part in scope.get("path", ""):
                app = error_response(status, message)
        await app(scope, receive, send)


@dataclass(frozen=True, slots=True)
class OutputsHub:
    """The Hub of these tests, and the failures of it."""

    url: str
    users: list[LocalUser]
    failing_hub: FailingHub

    def api(self) -> HfApi:
        return HfApi(endpoint=self.url, token=find_user(self.users, "alice").token)


@dataclass(frozen=True, slots=True)
class OutputRun:
    """One job with outputs, taken step by step."""

    worker: Worker
    hub: OutputsHub
    claim: ClaimedJob
    bucket: str

    @property
    def folder(self) -> OutputFolder:
        return OutputFolder.for_job(self.bucket, self.claim.job_id)

    async def launch(self) -> None:
        executor = self.worker.executors[JobKind.HUB_JOB]
        await run_attempt(
            self.worker,
            executor,
            self.claim,
            claimed_at=boottime_seconds(),
            hand_back=asyncio.Event(),
        )

    async def complete(self) -> None:
        """Launch it, and wait until it is over at the Hub."""
        await self.launch()
        status = await self.read_status()
        assert status.remote_id is not None
        wait_until(lambda: self.read_stage(status.remote_id) in {"COMPLETED", "ERROR"})

    def read_stage(self, remote_id: str | None) -> str:
        api = self.hub.api()
        assert remote_id is not None
        return api.inspect_job(job_id=remote_id, namespace="alice").status.stage

    async def poll(self, after: str = "0s") -> JobStatus:
        """Poll it, after so much time."""
        async with self.worker.database.transaction() as tx:
            await tx.execute(
                "UPDATE remote_run SET posted_at = posted_at - $1::text::interval,"
                " seen_at = seen_at - $1::text::interval,"
                " deadline_at = deadline_at - $1::text::interval",
                after,
            )
        await poll_namespace(self.worker)
        return await self.read_status()

    async def read_status(self) -> JobStatus:
        return await read_status(self.worker, self.claim)

    async def read_files(self) -> dict[str, JobFile]:
        async with self.worker.database.transaction() as tx:
            job_files = await files.list_job_files(tx, ADA_ID, self.claim.job_id)
        return {file.name: file for file in job_files}

    def find_in_bucket(self, name: str) -> BucketFile | None:
        """Look into the bucket."""
        paths = [self.folder.bucket_path(name)]
        files = self.hub.api().get_bucket_paths_info(self.folder.bucket, paths)
        return next(iter(files), None)

    def write_to_bucket(self, *names: str) -> None:
        """Let what the job wrote arrive in the bucket."""
        self.hub.api().batch_bucket_files(
            self.folder.bucket,
            add=[(name.encode(), self.folder.bucket_path(name)) for name in names],
        )


def list_job_ids(hub: OutputsHub) -> set[str]:
    """Return the jobs that the Hub has."""
    return {job.id for job in hub.api().list_jobs(namespace="alice")}
