"""The steps of workers on a database and a `VirtualHub`, each of which can be late or left out.

It follows `workers.attempts.run`, `workers.loops.reconcile_runs` and `workers.loops.poll_runs`.
Between two steps anything may happen: a worker that makes the second one late is a zombie, one that
never makes it has crashed.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import Final

from schema.accounts import credentials
from schema.accounts.vault import Vault
from schema.db.database import Database, Transaction
from schema.jobs import deadlines, run_end, run_launch, work_queues
from schema.jobs.run_end import RunResult
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.run_tables import RunState
from schema.jobs.tables import JobKind, JobState, Reason
from schema.jobs.work_queues import DueRun, PollLease
from tests.support.hub.virtual_hub import RESULTS_BY_STAGE, HubJob, VirtualHub

LEASE: Final = timedelta(minutes=1)
SETTLE: Final = timedelta(minutes=10)
STAGE_TIMEOUT: Final = timedelta(hours=6)
"""How long a stage may last, and a job may wait for its subject after that."""
_NO_DELAY: Final = timedelta(0)
_BATCH_LIMIT: Final = 50

PendingWrite = Callable[[Transaction], Awaitable[object]]
"""What a worker has yet to write down."""


class RequestOutcome(StrEnum):
    """What becomes of a create request, or of a call."""

    CREATED = "made"
    CREATED_TWICE = "twice"
    """Created twice, and the answer lost: somebody between us and the Hub sent it again."""
    ANSWER_LOST = "lost"
    """Created, and the answer lost."""
    NOT_SENT = "unsent"
    """Not created, and nobody can tell."""
    REJECTED = "refused"
    RETRY_LATER = "later"
    CREATED_BUT_REFUSED = "denied"
    """Created, though the answer said to come again later."""
    SUBJECT_THROTTLED = "quiet"
    """Not created; the whole subject is asked to wait."""
    TOKEN_REFUSED = "token_refused"


class HubReply(StrEnum):
    """What the Hub says when it is asked about runs."""

    ANSWERED = "seen"
    UNAVAILABLE = "away"
    TOKEN_REFUSED = "token_refused"


@dataclass
class WorkerSteps:
    """All workers of a deployment; which of them makes a step does not matter to any move."""

    database: Database
    vault: Vault
    hub: VirtualHub

    async def claim_jobs(self, kind: JobKind, *, limit: int = _BATCH_LIMIT) -> list[ClaimedJob]:
        """Claim due jobs, in an order that does not depend on their random ids."""
        async with self.database.transaction() as tx:
            claims = await run_launch.claim(
                tx, kind, limit=limit, worker="w", lease=LEASE, settle_window=SETTLE
            )
            made = await tx.fetch(
                "SELECT id FROM job WHERE id = ANY($1::uuid[]) ORDER BY created_at",
                [claim.job_id for claim in claims],
            )
        order = [row["id"] for row in made]
        return sorted(claims, key=lambda claim: order.index(claim.job_id))

    async def send_request(
        self, claim: ClaimedJob, kind: JobKind, outcome: RequestOutcome, *, listed: bool
    ) -> PendingWrite:
        """Send the request of a claim, and return what is to be written about its answer."""
        async with self.database.transaction() as tx:
            lent = await credentials.load_token(tx, self.vault, claim.subject_id)
            if lent is None:
                return partial(_mark_not_created, claim=claim)
            if kind is JobKind.INFERENCE and not await run_launch.begin_calls(
                tx, [claim.run_id], worker="w"
            ):
                return partial(_mark_not_created, claim=claim)
        denials: dict[RequestOutcome, PendingWrite] = {
            RequestOutcome.REJECTED: partial(
                _mark_not_created, claim=claim, reason=Reason.INVALID_REQUEST
            ),
            RequestOutcome.RETRY_LATER: partial(_mark_not_created, claim=claim),
            RequestOutcome.CREATED_BUT_REFUSED: partial(_mark_not_created, claim=claim),
            RequestOutcome.SUBJECT_THROTTLED: partial(
                _mark_not_created, claim=claim, quiet_for=LEASE
            ),
            RequestOutcome.TOKEN_REFUSED: partial(
                self._reject_for_token, claim=claim, version=lent.version
            ),
        }
        if outcome is RequestOutcome.CREATED_BUT_REFUSED and kind is JobKind.HUB_JOB:
            self.hub.create_job(claim, listed=listed).was_denied = True
        if outcome in denials:
            return denials[outcome]
        if kind is JobKind.INFERENCE:
            succeeded = RunResult(JobState.SUCCEEDED, "OK", result={"text": "yes"})
            ending = succeeded if outcome is RequestOutcome.CREATED else _unknown_outcome("LOST")
            return partial(_record_answer, claim=claim, ending=ending)
        if outcome is RequestOutcome.CREATED:
            return partial(self._record_remote_id, job=self.hub.create_job(claim, listed=listed))
        for _ in range(
            {
                RequestOutcome.CREATED_TWICE: 2,
                RequestOutcome.ANSWER_LOST: 1,
                RequestOutcome.NOT_SENT: 0,
            }[outcome]
        ):
            self.hub.create_job(claim, listed=listed)
        return partial(_mark_unconfirmed, claim=claim)

    async def commit_write(self, pending_write: PendingWrite) -> None:
        async with self.database.transaction() as tx:
            await pending_write(tx)

    async def take_over_silent_runs(self) -> None:
        """Take up the runs of workers that fell silent."""
        async with self.database.transaction() as tx:
            silent = await work_queues.find_lapsed_runs(tx)
        for run in silent:
            async with self.database.transaction() as tx:
                if run.kind == JobKind.HUB_JOB:
                    await run_launch.mark_unconfirmed(
                        tx, run.run_id, cause="silent", worker="w", only_if_lapsed=True
                    )
                elif run.has_begun:
                    await run_end.end_call(
                        tx, run.run_id, _unknown_outcome("LOST"), worker="w", only_if_lapsed=True
                    )
                else:
                    await run_launch.mark_not_created(
                        tx,
                        run.run_id,
                        reason=None,
                        message="silent",
                        worker="w",
                        only_if_lapsed=True,
                    )

    async def lease_due_runs(self) -> list[DueRun]:
        """Take the runs that owe a step, in an order that does not depend on random ids."""
        async with self.database.transaction() as tx:
            runs = await work_queues.lease_due_runs(tx, limit=_BATCH_LIMIT, lease=LEASE)
        return sorted(runs, key=lambda run: (run.posted_at, run.remote_id or "", run.attempt))

    async def reconcile_run(self, run: DueRun, reply: HubReply, *, relaunch: bool) -> None:
        """Make the step that a run owed when it was taken."""
        async with self.database.transaction() as tx:
            lent = await credentials.load_token(tx, self.vault, run.subject_id)
        if lent is None:
            return
        if reply is HubReply.UNAVAILABLE:
            async with self.database.transaction() as tx:
                await work_queues.release_run_lease(tx, run.id)
        elif reply is HubReply.TOKEN_REFUSED:
            async with self.database.transaction() as tx:
                await self._record_token_refusal(tx, run.subject_id, lent.version)
        elif run.state is RunState.UNKNOWN:
            await self._reconcile_unknown_run(run, relaunch=relaunch)
        else:
            await self._kill_cancelled_run(run)

    async def give_up_overdue_jobs(self) -> None:
        """Give up the jobs that nobody could do anything for."""
        async with self.database.transaction() as tx:
            await deadlines.fail_abandoned_jobs(tx, abandon_after=STAGE_TIMEOUT, worker="w")
            await deadlines.stop_watching_absent_runs(tx, worker="w")

    async def lease_due_polls(self) -> list[PollLease]:
        async with self.database.transaction() as tx:
            turns = await work_queues.lease_due_poll_groups(tx, limit=_BATCH_LIMIT, lease=LEASE)
        return sorted(turns, key=lambda turn: (turn.subject_id, turn.namespace))

    async def poll_group(self, turn: PollLease, reply: HubReply) -> None:
        """Compare a group with its listing, and end the turn."""
        async with self.database.transaction() as tx:
            lent = await credentials.load_token(tx, self.vault, turn.subject_id)
            runs = await work_queues.list_bound_runs(tx, [turn])
        if lent is None or reply is HubReply.ANSWERED:
            if lent is not None:
                await self._compare_with_listing(turn, [run.read() for run in runs])
            async with self.database.transaction() as tx:
                await work_queues.finish_polls(
                    tx, [turn], min_interval=timedelta(seconds=1), max_interval=LEASE
                )
            return
        async with self.database.transaction() as tx:
            if reply is HubReply.TOKEN_REFUSED:
                await self._record_token_refusal(tx, turn.subject_id, lent.version)
            await work_queues.postpone_poll(tx, turn, recheck_after=LEASE)

    async def _record_token_refusal(self, tx: Transaction, subject_id: str, version: int) -> None:
        self.hub.refused_tokens.add((subject_id, version))
        await credentials.mark_credential_refused(tx, subject_id, version=version)

    async def _reject_for_token(self, tx: Transaction, claim: ClaimedJob, version: int) -> None:
        await self._record_token_refusal(tx, claim.subject_id, version)
        await _mark_not_created(tx, claim)

    async def _reconcile_unknown_run(self, run: DueRun, *, relaunch: bool) -> None:
        jobs = self.hub.list_by_label(run)
        async with self.database.transaction() as tx:
            for job in jobs:
                await self._record_remote_id(tx, job)
            if not jobs and await run_end.record_missed_listing(
                tx, run.id, recheck_after=_NO_DELAY
            ):
                await run_end.mark_absent(tx, run.id, worker="w", relaunch=relaunch)

    async def _kill_cancelled_run(self, run: DueRun) -> None:
        assert run.remote_id is not None
        async with self.database.transaction() as tx:
            await work_queues.record_kill_request(tx, run.id, recheck_after=_NO_DELAY)
        job = self.hub.jobs[run.remote_id]
        job.cancel()
        async with self.database.transaction() as tx:
            await run_end.end_run(tx, run.id, RESULTS_BY_STAGE[job.stage], worker="w")

    async def _compare_with_listing(self, turn: PollLease, runs: list[DueRun]) -> None:
        for run in runs:
            job = self.hub.jobs[run.remote_id or ""]
            async with self.database.transaction() as tx:
                if not job.is_alive:
                    await run_end.end_run(tx, run.id, RESULTS_BY_STAGE[job.stage], worker="w")
                elif not run.overdue or not await _expire_run(tx, run):
                    await _record_stage(tx, run, job)
        async with self.database.transaction() as tx:
            for job in self.hub.list_active(turn.namespace):
                known = await work_queues.find_group_runs(tx, turn, [job.claim.run_id])
                if any(run.remote_id != job.id for run in known.values()):
                    await self._record_remote_id(tx, job)

    async def _record_remote_id(self, tx: Transaction, job: HubJob) -> None:
        """Write an id down, whatever became of its run meanwhile."""
        self.hub.reported_ids.add(job.id)
        await run_launch.record_remote_id(
            tx,
            job.claim.run_id,
            remote_id=job.id,
            stage=job.stage,
            worker="w",
            poll_after=_NO_DELAY,
            max_stage_duration=STAGE_TIMEOUT,
        )


async def _mark_not_created(
    tx: Transaction,
    claim: ClaimedJob,
    reason: Reason | None = None,
    quiet_for: timedelta = _NO_DELAY,
) -> None:
    await run_launch.mark_not_created(
        tx, claim.run_id, reason=reason, message="no", worker="w", pause_subject_for=quiet_for
    )


async def _mark_unconfirmed(tx: Transaction, claim: ClaimedJob) -> None:
    await run_launch.mark_unconfirmed(tx, claim.run_id, cause="timeout", worker="w")


async def _record_answer(tx: Transaction, claim: ClaimedJob, ending: RunResult) -> None:
    if not await run_launch.renew_lease(tx, claim.run_id, lease=LEASE):
        ending = _unknown_outcome("ABORTED")
    await run_end.end_call(tx, claim.run_id, ending, worker="w")


async def _expire_run(tx: Transaction, run: DueRun) -> bool:
    return await deadlines.expire_run(
        tx, run.id, reason=Reason.TIMED_OUT, message="too long", worker="w"
    )


async def _record_stage(tx: Transaction, run: DueRun, job: HubJob) -> None:
    await run_end.record_stage(
        tx, run.id, stage=job.stage, started_at=None, worker="w", max_stage_duration=STAGE_TIMEOUT
    )


def _unknown_outcome(stage: str) -> RunResult:
    return RunResult(JobState.FAILED, stage, Reason.OUTCOME_UNKNOWN, "silent")
