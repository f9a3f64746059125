"""A Hub without a network: what it was asked to create, and what it shows of that."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from schema.jobs.run_end import RunResult
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.run_tables import RemoteRun
from schema.jobs.tables import JobState, Reason


class HubStage(StrEnum):
    """What the Hub calls the state of a job."""

    SCHEDULING = "SCHEDULING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    ERROR = "ERROR"
    CANCELED = "CANCELED"
    DELETED = "DELETED"


RESULTS_BY_STAGE: Final = {
    HubStage.COMPLETED: RunResult(JobState.SUCCEEDED, HubStage.COMPLETED),
    HubStage.ERROR: RunResult(JobState.FAILED, HubStage.ERROR, Reason.EXIT_NONZERO, exit_code=1),
    HubStage.CANCELED: RunResult(JobState.CANCELLED, HubStage.CANCELED, Reason.CANCELLED_UPSTREAM),
    HubStage.DELETED: RunResult(JobState.FAILED, HubStage.DELETED, Reason.UPSTREAM_DELETED),
}
"""How a job went, for each stage that is the last."""


@dataclass
class HubJob:
    """A job upstream, labelled with the run that asked for it."""

    id: str
    claim: ClaimedJob
    is_listed: bool
    """Whether listings show it yet; whoever knows its id can ask for it at any time."""
    stage: HubStage = HubStage.SCHEDULING
    was_denied: bool = False
    """Whether we were told that it was not created; only chance can make us look for it."""

    @property
    def is_alive(self) -> bool:
        return self.stage not in RESULTS_BY_STAGE

    def cancel(self) -> None:
        """Stop, if there is anything to stop."""
        if self.is_alive:
            self.stage = HubStage.CANCELED


@dataclass
class VirtualHub:
    """Every job that was ever created, and what our side was told: ids, and refusals of tokens."""

    jobs: dict[str, HubJob] = field(default_factory=dict[str, HubJob])
    reported_ids: set[str] = field(default_factory=set[str])
    refused_tokens: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])

    def create_job(self, claim: ClaimedJob, *, listed: bool) -> HubJob:
        """Create the job a claim asks for; a second request creates a second one."""
        job = HubJob(f"r{len(self.jobs)}", claim, listed)
        self.jobs[job.id] = job
        return job

    def list_by_label(self, run: RemoteRun) -> list[HubJob]:
        """List the jobs with the label of a run, over or not, the oldest first."""
        return [
            job
            for job in self.jobs.values()
            if job.claim.run_id == run.id and job.is_listed and job.stage is not HubStage.DELETED
        ]

    def list_active(self, namespace: str) -> list[HubJob]:
        """List what goes on in a namespace, whoever started it."""
        return [
            job for job in self.list_alive() if job.claim.namespace == namespace and job.is_listed
        ]

    def list_alive(self) -> list[HubJob]:
        """Return what costs money, listed or not."""
        return [job for job in self.jobs.values() if job.is_alive]

    def findable_ids(self, subject_id: str) -> list[str]:
        """Return the ids of what is alive, but for what nobody has a reason to look for."""
        return sorted(
            job.id
            for job in self.list_alive()
            if job.claim.subject_id == subject_id
            and (not job.was_denied or job.id in self.reported_ids)
        )

    def advance_stage(self, job: HubJob, stage: HubStage) -> None:
        """Move a job on; it is listed by then, and so is a twin of it."""
        job.stage = stage
        for twin in self.jobs.values():
            twin.is_listed = twin.is_listed or twin.claim.run_id == job.claim.run_id

    def list_everything(self) -> None:
        """Show everything in the listings from now on."""
        for job in self.jobs.values():
            job.is_listed = True
