"""The interface of executors: the request they get, and the outcomes they can return."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol, Self
from uuid import UUID

from schema.accounts.vault import Secret, Vault
from schema.artifacts.files import NewJobFile
from schema.db.database import Database
from schema.hub.job import RemoteJob
from schema.jobs.progress import JobProgress
from schema.jobs.run_end import RunResult
from schema.jobs.run_tables import RunAddresses
from schema.jobs.tables import Reason
from schema.settings import Settings
from workers.hub.client import HubJobsClient


@dataclass(frozen=True, slots=True)
class Created:
    """Something exists at the Hub now, and this is its id."""

    remote_id: str
    stage: str | None
    addresses: RunAddresses | None = None

    @classmethod
    def from_job(cls, job: RemoteJob) -> Self:
        """Describe a job of the Hub."""
        return cls(job.id, job.stage, job.addresses)


@dataclass(frozen=True, slots=True)
class Completed:
    """The call is over, with success or without."""

    run_result: RunResult
    files: tuple[NewJobFile, ...] = ()
    """The files that it leaves in addition to its result."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Nothing was created for certain, and another try would be rejected as well."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Nothing was created for certain; another try may succeed."""

    message: str
    retry_after: timedelta | None = None
    """How long the Hub asked this subject to wait; none if it did not ask."""


@dataclass(frozen=True, slots=True)
class TokenRejected:
    """Nothing was created for certain: the Hub no longer accepts the subject's token."""

    message: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The request was sent, and its answer was lost or cannot be read."""

    message: str


@dataclass(frozen=True, slots=True)
class HandedBack:
    """It stopped early because it was asked to; its next attempt goes on where it stopped."""


Outcome = Created | Completed | Rejected | RetryLater | TokenRejected | Unknown | HandedBack


ReportProgress = Callable[[JobProgress], None]


@dataclass(frozen=True, slots=True)
class ExecutorDeps:
    """What executors are made from; each takes what it needs."""

    hub: HubJobsClient
    database: Database
    settings: Settings
    vault: Vault


@dataclass(frozen=True, slots=True)
class ExecutionRequest:
    """One attempt to carry out, with the authority of the subject who launched the job."""

    run_id: UUID
    job_id: UUID
    namespace: str
    spec: dict[str, Any]
    labels: dict[str, str]
    token: Secret
    secrets: Mapping[str, Secret]
    request_timeout: timedelta
    """How long a create request may take."""
    report_progress: ReportProgress
    """Reports progress, as often as you like: only the newest is written, every few seconds."""
    hand_back: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when others wait for the slot: an executor that resumes stops as soon as it can."""


class Executor(Protocol):
    """Carries out attempts of one kind of job. Raising is a bug; every outcome has a type."""

    @property
    def kind(self) -> str:
        """The kind of the jobs that it carries out."""
        ...

    @property
    def is_call(self) -> bool:
        """Whether the remote run is over when `execute` returns, and has no id to ask for later."""
        ...

    @property
    def resumes(self) -> bool:
        """Whether a call that was cut off is queued again, and continues where it stopped."""
        ...

    @property
    def slots(self) -> int:
        """How many attempts one worker carries out at a time."""
        ...

    async def execute(self, request: ExecutionRequest) -> Outcome:
        """Carry out the attempt, and return its outcome."""
        ...
