"""A Hub without a network: what it was asked to create, and what it shows of that."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from schema.jobs.run_end import Ending
from schema.jobs.run_launch import Claim
from schema.jobs.run_tables import RemoteRun
from schema.jobs.tables import JobState, Reason


class Stage(StrEnum):
    """What the Hub calls the state of a job."""

    SCHEDULING = "SCHEDULING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    ERROR = "ERROR"
    CANCELED = "CANCELED"
    DELETED = "DELETED"


ENDINGS: Final = {
    Stage.COMPLETED: Ending(JobState.SUCCEEDED, Stage.COMPLETED),
    Stage.ERROR: Ending(JobState.FAILED, Stage.ERROR, Reason.EXIT_NONZERO, exit_code=1),
    Stage.CANCELED: Ending(JobState.CANCELLED, Stage.CANCELED, Reason.CANCELLED_UPSTREAM),
    Stage.DELETED: Ending(JobState.FAILED, Stage.DELETED, Reason.UPSTREAM_DELETED),
}
"""How a job went, for each stage that is the last."""


@dataclass
class HubJob:
    """A job upstream, labelled with the run that asked for it."""

    id: str
    claim: Claim
    listed: bool
    """Whether listings show it yet; whoever knows its id can ask for it at any time."""
    stage: Stage = Stage.SCHEDULING
    denied: bool = False
    """Whether we were told that it was not created; only chance can make us look for it."""

    @property
    def alive(self) -> bool:
        return self.stage not in ENDINGS

    def cancel(self) -> None:
        """Stop, if there is anything to stop."""
        if self.alive:
            self.stage = Stage.CANCELED


@dataclass
class VirtualHub:
    """Every job that was ever created, and what our side was told: ids, and refusals of tokens."""

    jobs: dict[str, HubJob] = field(default_factory=dict[str, HubJob])
    told: set[str] = field(default_factory=set[str])
    refused: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])

    def create(self, claim: Claim, *, listed: bool) -> HubJob:
        """Create the job a claim asks for; a second request creates a second one."""
        job = HubJob(f"r{len(self.jobs)}", claim, listed)
        self.jobs[job.id] = job
        return job

    def labelled(self, run: RemoteRun) -> list[HubJob]:
        """List the jobs with the label of a run, over or not, the oldest first."""
        return [
            job
            for job in self.jobs.values()
            if job.claim.run_id == run.id and job.listed and job.stage is not Stage.DELETED
        ]

    def active(self, namespace: str) -> list[HubJob]:
        """List what goes on in a namespace, whoever started it."""
        return [job for job in self.alive() if job.claim.namespace == namespace and job.listed]

    def alive(self) -> list[HubJob]:
        """Return what costs money, listed or not."""
        return [job for job in self.jobs.values() if job.alive]

    def findable(self, subject_id: str) -> list[str]:
        """Return the ids of what is alive, but for what nobody has a reason to look for."""
        return sorted(
            job.id
            for job in self.alive()
            if job.claim.subject_id == subject_id and (not job.denied or job.id in self.told)
        )

    def go_on(self, job: HubJob, stage: Stage) -> None:
        """Move a job on; it is listed by then, and so is a twin of it."""
        job.stage = stage
        for twin in self.jobs.values():
            twin.listed = twin.listed or twin.claim.run_id == job.claim.run_id

    def catch_up(self) -> None:
        """Show everything in the listings from now on."""
        for job in self.jobs.values():
            job.listed = True
