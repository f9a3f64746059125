"""What workers do to a database and a `VirtualHub`, in steps that may be put off or left out.

It follows `workers.attempts.run`, `workers.loops.reconcile_runs` and `workers.loops.poll_runs`.
Between two steps anything
may happen: a worker that makes the second one late is a zombie, one that never does has crashed.
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
from schema.jobs.run_end import Ending
from schema.jobs.run_launch import Claim
from schema.jobs.run_tables import RunState
from schema.jobs.tables import JobKind, JobState, Reason
from schema.jobs.work_queues import AgedRun, Turn
from tests.schema.virtual_hub import ENDINGS, HubJob, VirtualHub

LEASE: Final = timedelta(minutes=1)
SETTLE: Final = timedelta(minutes=10)
PATIENCE: Final = timedelta(hours=6)
"""How long a stage may last, and a job may wait for its subject after that."""
_NOW: Final = timedelta(0)
_MANY: Final = 50

Write = Callable[[Transaction], Awaitable[object]]
"""What a worker has yet to write down."""


class Fate(StrEnum):
    """What becomes of a create request, or of a call."""

    MADE = "made"
    TWICE = "twice"
    """Created twice, and the answer lost: somebody between us and the Hub sent it again."""
    LOST = "lost"
    """Created, and the answer lost."""
    UNSENT = "unsent"
    """Not created, and nobody can tell."""
    REFUSED = "refused"
    LATER = "later"
    DENIED = "denied"
    """Created, though the answer said to come again later."""
    QUIET = "quiet"
    """Not created; the whole subject is asked to wait."""
    TOKEN_REFUSED = "token_refused"


class Reply(StrEnum):
    """What the Hub says when it is asked about runs."""

    SEEN = "seen"
    AWAY = "away"
    TOKEN_REFUSED = "token_refused"


@dataclass
class Crew:
    """All workers of a deployment; which of them makes a step does not matter to any move."""

    database: Database
    vault: Vault
    hub: VirtualHub

    async def claim(self, kind: JobKind, *, limit: int = _MANY) -> list[Claim]:
        """Claim due jobs, in an order that does not depend on their random ids."""
        async with self.database.transaction() as tx:
            claims = await run_launch.claim(
                tx, kind, limit=limit, worker="w", lease=LEASE, settle=SETTLE
            )
            made = await tx.fetch(
                "SELECT id FROM job WHERE id = ANY($1::uuid[]) ORDER BY created_at",
                [claim.job_id for claim in claims],
            )
        order = [row["id"] for row in made]
        return sorted(claims, key=lambda claim: order.index(claim.job_id))

    async def send(self, claim: Claim, kind: JobKind, fate: Fate, *, listed: bool) -> Write:
        """Send the request of a claim, and return what is to be written about its answer."""
        async with self.database.transaction() as tx:
            lent = await credentials.lend(tx, self.vault, claim.subject_id)
            if lent is None:
                return partial(_reject, claim=claim)
            if kind is JobKind.INFERENCE and not await run_launch.begin(
                tx, claim.run_id, worker="w"
            ):
                return partial(_reject, claim=claim)
        denials: dict[Fate, Write] = {
            Fate.REFUSED: partial(_reject, claim=claim, reason=Reason.INVALID_REQUEST),
            Fate.LATER: partial(_reject, claim=claim),
            Fate.DENIED: partial(_reject, claim=claim),
            Fate.QUIET: partial(_reject, claim=claim, quiet_for=LEASE),
            Fate.TOKEN_REFUSED: partial(self._refuse_token, claim=claim, version=lent.version),
        }
        if fate is Fate.DENIED and kind is JobKind.HUB_JOB:
            self.hub.create(claim, listed=listed).denied = True
        if fate in denials:
            return denials[fate]
        if kind is JobKind.INFERENCE:
            succeeded = Ending(JobState.SUCCEEDED, "OK", result={"text": "yes"})
            ending = succeeded if fate is Fate.MADE else _lost("LOST")
            return partial(_answer, claim=claim, ending=ending)
        if fate is Fate.MADE:
            return partial(self._bind, job=self.hub.create(claim, listed=listed))
        for _ in range({Fate.TWICE: 2, Fate.LOST: 1, Fate.UNSENT: 0}[fate]):
            self.hub.create(claim, listed=listed)
        return partial(_doubt, claim=claim)

    async def write(self, write: Write) -> None:
        async with self.database.transaction() as tx:
            await write(tx)

    async def take_over(self) -> None:
        """Take up the runs of workers that fell silent."""
        async with self.database.transaction() as tx:
            silent = await run_launch.lapsed(tx)
        for run in silent:
            async with self.database.transaction() as tx:
                if run.kind == JobKind.HUB_JOB:
                    await run_launch.doubt(tx, run.run_id, why="silent", worker="w", lapsed=True)
                elif run.begun:
                    await run_end.answer(tx, run.run_id, _lost("LOST"), worker="w", lapsed=True)
                else:
                    await run_launch.reject(
                        tx, run.run_id, reason=None, message="silent", worker="w", lapsed=True
                    )

    async def take_runs(self) -> list[AgedRun]:
        """Take the runs that owe a step, in an order that does not depend on random ids."""
        async with self.database.transaction() as tx:
            runs = await work_queues.take_runs(tx, limit=_MANY, lease=LEASE)
        return sorted(runs, key=lambda run: (run.posted_at, run.remote_id or "", run.attempt))

    async def attend(self, run: AgedRun, reply: Reply, *, relaunch: bool) -> None:
        """Make the step that a run owed when it was taken."""
        async with self.database.transaction() as tx:
            lent = await credentials.lend(tx, self.vault, run.subject_id)
        if lent is None:
            return
        if reply is Reply.AWAY:
            async with self.database.transaction() as tx:
                await work_queues.hand_back_run(tx, run.id)
        elif reply is Reply.TOKEN_REFUSED:
            async with self.database.transaction() as tx:
                await self._refuse(tx, run.subject_id, lent.version)
        elif run.state is RunState.UNKNOWN:
            await self._find(run, relaunch=relaunch)
        else:
            await self._kill(run)

    async def give_up(self) -> None:
        """Give up the jobs that nobody could do anything for."""
        async with self.database.transaction() as tx:
            await deadlines.give_up(tx, patience=PATIENCE, worker="w")
            await deadlines.stop_watching(tx, worker="w")

    async def take_groups(self) -> list[Turn]:
        async with self.database.transaction() as tx:
            turns = await work_queues.take_groups(tx, limit=_MANY, lease=LEASE)
        return sorted(turns, key=lambda turn: (turn.subject_id, turn.namespace))

    async def observe(self, turn: Turn, reply: Reply) -> None:
        """Compare a group with its listing, and end the turn."""
        async with self.database.transaction() as tx:
            lent = await credentials.lend(tx, self.vault, turn.subject_id)
            runs = await work_queues.bound_runs(tx, turn)
        if lent is None or reply is Reply.SEEN:
            if lent is not None:
                await self._look(turn, runs)
            async with self.database.transaction() as tx:
                await work_queues.give_back(tx, turn, fastest=timedelta(seconds=1), slowest=LEASE)
            return
        async with self.database.transaction() as tx:
            if reply is Reply.TOKEN_REFUSED:
                await self._refuse(tx, turn.subject_id, lent.version)
            await work_queues.postpone(tx, turn, look_again=LEASE)

    async def _refuse(self, tx: Transaction, subject_id: str, version: int) -> None:
        self.hub.refused.add((subject_id, version))
        await credentials.refused(tx, subject_id, version=version)

    async def _refuse_token(self, tx: Transaction, claim: Claim, version: int) -> None:
        await self._refuse(tx, claim.subject_id, version)
        await _reject(tx, claim)

    async def _find(self, run: AgedRun, *, relaunch: bool) -> None:
        found = self.hub.labelled(run)
        async with self.database.transaction() as tx:
            for job in found:
                await self._bind(tx, job)
            if not found and await run_end.miss(tx, run.id, look_again=_NOW):
                await run_end.conclude_absent(tx, run.id, worker="w", relaunch=relaunch)

    async def _kill(self, run: AgedRun) -> None:
        assert run.remote_id is not None
        async with self.database.transaction() as tx:
            await work_queues.kill_sent(tx, run.id, look_again=_NOW)
        job = self.hub.jobs[run.remote_id]
        job.cancel()
        async with self.database.transaction() as tx:
            await run_end.end(tx, run.id, ENDINGS[job.stage], worker="w")

    async def _look(self, turn: Turn, runs: list[AgedRun]) -> None:
        for run in runs:
            job = self.hub.jobs[run.remote_id or ""]
            async with self.database.transaction() as tx:
                if not job.alive:
                    await run_end.end(tx, run.id, ENDINGS[job.stage], worker="w")
                elif not run.overdue or not await _expire(tx, run):
                    await _note_stage(tx, run, job)
        async with self.database.transaction() as tx:
            for job in self.hub.active(turn.namespace):
                known = await work_queues.runs(tx, turn, [job.claim.run_id])
                if any(run.remote_id != job.id for run in known.values()):
                    await self._bind(tx, job)

    async def _bind(self, tx: Transaction, job: HubJob) -> None:
        """Write an id down, whatever became of its run meanwhile."""
        self.hub.told.add(job.id)
        await run_launch.bind(
            tx,
            job.claim.run_id,
            remote_id=job.id,
            stage=job.stage,
            worker="w",
            look_again=_NOW,
            patience=PATIENCE,
        )


async def _reject(
    tx: Transaction, claim: Claim, reason: Reason | None = None, quiet_for: timedelta = _NOW
) -> None:
    await run_launch.reject(
        tx, claim.run_id, reason=reason, message="no", worker="w", quiet_for=quiet_for
    )


async def _doubt(tx: Transaction, claim: Claim) -> None:
    await run_launch.doubt(tx, claim.run_id, why="timeout", worker="w")


async def _answer(tx: Transaction, claim: Claim, ending: Ending) -> None:
    if not await run_launch.renew(tx, claim.run_id, lease=LEASE):
        ending = _lost("ABORTED")
    await run_end.answer(tx, claim.run_id, ending, worker="w")


async def _expire(tx: Transaction, run: AgedRun) -> bool:
    return await deadlines.expire(
        tx, run.id, reason=Reason.TIMED_OUT, message="too long", worker="w"
    )


async def _note_stage(tx: Transaction, run: AgedRun, job: HubJob) -> None:
    await run_end.note_stage(
        tx, run.id, stage=job.stage, started_at=None, worker="w", patience=PATIENCE
    )


def _lost(stage: str) -> Ending:
    return Ending(JobState.FAILED, stage, Reason.OUTCOME_UNKNOWN, "silent")
