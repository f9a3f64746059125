"""The state of the model: its rules, and one job with its attempts, here and upstream."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

from schema.jobs.run_tables import DesiredState, RunOrigin, RunState
from schema.jobs.tables import JobState

OPEN_RUN_STATES: Final = frozenset({RunState.POSTING, RunState.UNKNOWN, RunState.BOUND})
"""A run that is or may be alive."""


class ProtocolFlaw(StrEnum):
    """A rule of ours that is left out or broken, to show that it is needed."""

    SENDS_AGAIN = "sends_again"
    """An unclear answer is taken for a refusal: the job is queued again."""

    NO_LATE_WATCH = "no_late_watch"
    """A run given up as absent is never looked for again."""

    BELIEVES_REFUSALS = "believes_refusals"
    """A run that was refused is never looked for."""

    CANCEL_SPARES_RUNS = "cancel_spares_runs"
    """A cancel ends the job, and gives its runs no kill order."""

    BIND_NEEDS_LEASE = "bind_needs_lease"
    """An id learned after the lease lapsed is dropped, though the Hub lists the job."""

    BIND_UNDOES_CANCEL = "bind_undoes_cancel"
    """An id learned after a cancel sets the job to running."""

    BELIEVES_404 = "believes_404"
    """A bound run that the Hub does not know everywhere yet is taken for deleted."""

    SURPLUS_COUNTS = "surplus_counts"
    """A late arrival is bound as the run that the job was waiting for."""


@dataclass(frozen=True, slots=True)
class ModelRules:
    """The rules of a game: the policy, the assumptions, and the flaw, if any."""

    relaunch: bool = False
    """Queue the job again, once, when its run is given up; otherwise it fails."""

    settled: bool = False
    """Runs are given up only when nothing is in flight, unsent, or created and not listed."""

    refusals_lie: bool = False
    """The Hub may create a job and answer with a 4xx all the same."""

    flaw: ProtocolFlaw | None = None


class WorkerPhase(StrEnum):
    """How far the worker of an attempt is."""

    UNSENT = "unsent"
    WAITING = "waiting"
    REFUSED = "refused"
    """A 4xx is on its way back."""
    GONE = "gone"
    """Done, or dead: it makes no transition any more."""


class Attempt(NamedTuple):
    """One attempt: its run as we hold it, its worker, and what is true of it upstream."""

    run: RunState = RunState.POSTING
    desired: DesiredState = DesiredState.ALIVE
    origin: RunOrigin = RunOrigin.OURS
    hand: WorkerPhase = WorkerPhase.UNSENT
    in_flight: bool = False
    created: bool = False
    alive: bool = False
    listed: bool = False

    @property
    def is_awaited(self) -> bool:
        """Tell whether it may live until it ends by itself."""
        is_ours_and_alive = self.origin is RunOrigin.OURS and self.desired is DesiredState.ALIVE
        return is_ours_and_alive and self.run is RunState.BOUND

    @property
    def is_settled(self) -> bool:
        """Tell whether nothing more can come of its request than the listing shows."""
        unlisted = self.created and not self.listed
        return not (self.in_flight or unlisted or self.hand is WorkerPhase.UNSENT)


class ModelState(NamedTuple):
    """The job, and all its attempts."""

    job: JobState = JobState.QUEUED
    tries: int = 0
    relaunched: bool = False
    attempts: tuple[Attempt, ...] = ()

    def attempt(self, number: int) -> Attempt:
        """Return an attempt; they are counted from one."""
        return self.attempts[number - 1]

    def with_attempt(self, number: int, **changes: Any) -> "ModelState":
        """Return this state with one of its attempts changed."""
        before, after = self.attempts[: number - 1], self.attempts[number:]
        return self._replace(attempts=(*before, self.attempt(number)._replace(**changes), *after))
