"""A job with outputs, taken step by step, and a local Hub of which some requests are refused."""

from dataclasses import dataclass, field

from huggingface_hub import BucketFile, HfApi
from starlette.types import ASGIApp, Receive, Scope, Send

from schema.artifacts import files
from schema.artifacts.files import JobFile
from schema.jobs.queries import JobStatus
from schema.jobs.run_launch import Claim
from schema.jobs.tables import JobKind
from schema.specs.outputs import Folder
from service.local.hub_emulator.errors import error_answer
from service.local.hub_emulator.users import LocalUser, user_with
from tests.conftest import ADA
from tests.service.local.hub.conftest import until
from tests.workers.conftest import poll, status_of
from workers.attempts.run import launch
from workers.context import Worker
from workers.timing import elapsed


@dataclass(slots=True)
class Struck:
    """The local Hub, of which some requests are refused."""

    app: ASGIApp
    refused: dict[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])
    """Status and message, by a part of the path."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        for part, (status, message) in self.refused.items():
            if part in scope.get("path", ""):
                app = error_answer(status, message)
        await app(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Ground:
    """The Hub of these tests, and what strikes it."""

    url: str
    users: list[LocalUser]
    struck: Struck

    def api(self) -> HfApi:
        return HfApi(endpoint=self.url, token=user_with(self.users, "alice").token)


@dataclass(frozen=True, slots=True)
class Run:
    """One job with outputs, taken step by step."""

    worker: Worker
    ground: Ground
    claim: Claim
    bucket: str

    @property
    def folder(self) -> Folder:
        return Folder.of(self.bucket, self.claim.job_id)

    async def launch(self) -> None:
        made = self.worker.executors[JobKind.HUB_JOB]
        await launch(self.worker, made, self.claim, claimed_at=elapsed())

    async def complete(self) -> None:
        """Launch it, and let it be over at the Hub."""
        await self.launch()
        status = await self.status()
        assert status.remote_id is not None
        until(lambda: self.stage(status.remote_id) in {"COMPLETED", "ERROR"})

    def stage(self, remote_id: str | None) -> str:
        api = self.ground.api()
        assert remote_id is not None
        return api.inspect_job(job_id=remote_id, namespace="alice").status.stage

    async def look(self, later: str = "0s") -> JobStatus:
        """Look at it, after so much time."""
        async with self.worker.database.transaction() as tx:
            await tx.execute(
                "UPDATE remote_run SET posted_at = posted_at - $1::text::interval,"
                " seen_at = seen_at - $1::text::interval,"
                " deadline_at = deadline_at - $1::text::interval",
                later,
            )
        await poll(self.worker)
        return await self.status()

    async def status(self) -> JobStatus:
        return await status_of(self.worker, self.claim)

    async def files(self) -> dict[str, JobFile]:
        async with self.worker.database.transaction() as tx:
            kept = await files.of_job(tx, ADA, self.claim.job_id)
        return {file.name: file for file in kept}

    def there(self, name: str) -> BucketFile | None:
        """Look into the bucket."""
        paths = [self.folder.file(name)]
        found = self.ground.api().get_bucket_paths_info(self.folder.bucket, paths)
        return next(iter(found), None)

    def write(self, *names: str) -> None:
        """Let what the job wrote arrive in the bucket."""
        self.ground.api().batch_bucket_files(
            self.folder.bucket, add=[(name.encode(), self.folder.file(name)) for name in names]
        )


def run_ids(ground: Ground) -> set[str]:
    """Return the jobs that the Hub has."""
    return {job.id for job in ground.api().list_jobs(namespace="alice")}
