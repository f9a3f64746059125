"""The promises every order of moves keeps: a machine that searches for one that does not.

Each rule is a step of some worker, of a caller, of the Hub, or of time; all of them run real
transactions. Claims that are never sent and answers that are never written are crashes; those that
are made late, or once more, are zombies.
"""

from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeVar, cast
from uuid import UUID

import asyncpg
import pytest
from anyio import from_thread, to_thread
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from schema.accounts.vault import Vault
from schema.billing.budgets import Rate
from schema.common.errors import BudgetExceeded, IdempotencyConflict
from schema.db.database import Database
from schema.jobs.run_end import LATE_ARRIVAL_WINDOW
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.tables import JobKind
from schema.jobs.work_queues import DueRun, PollLease
from tests.support.database.state_harness import (
    PROGRESS_COUNTS,
    STUCK_JOBS,
    UNFINISHED_ROWS,
    WANTED_REMOTE_IDS,
    StateHarness,
)
from tests.support.hub.virtual_hub import HubStage, VirtualHub
from tests.support.jobs.worker_steps import (
    LEASE,
    SETTLE,
    STAGE_TIMEOUT,
    HubReply,
    PendingWrite,
    RequestOutcome,
    WorkerSteps,
)

T = TypeVar("T")
Step = TypeVar("Step", bound=Callable[..., Any])

KINDS: Final = st.sampled_from([JobKind.HUB_JOB, JobKind.HUB_JOB, JobKind.INFERENCE])
CHEAP: Final = Rate(1, timedelta(minutes=2))
RATES: Final = st.builds(
    Rate,
    st.integers(0, 4),
    st.timedeltas(timedelta(seconds=1), timedelta(minutes=4)),
    st.integers(1, 2),
    st.none() | st.integers(32, 64),
)
"""What a job can cost, in millionths, where thirty or forty may be spent."""
WAITS: Final = st.sampled_from([LEASE / 2, LEASE * 2, SETTLE * 2])
OUTCOMES: Final = st.sampled_from(
    [
        *RequestOutcome,
        RequestOutcome.CREATED,
        RequestOutcome.CREATED,
        RequestOutcome.CREATED_TWICE,
        RequestOutcome.ANSWER_LOST,
        RequestOutcome.NOT_SENT,
    ]
)
SUBJECTS: Final = ("ada", "bob")
MAX_ROUNDS: Final = 20
"""Rounds of all workers after which nothing may be left for them to do."""

SEARCH_SETTINGS: Final = settings(
    max_examples=40,
    stateful_step_count=40,
    phases=[Phase.generate],  # to shrink what was found takes five minutes: add it by hand
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def when_any_in(*states: str) -> Callable[[Step], Step]:
    """Leave a step out while no job and no run is in one of these states."""

    def has_any(machine: "JobStateMachine") -> bool:
        return not machine.states_present.isdisjoint(states)

    return precondition(has_any)


class JobStateMachine(RuleBasedStateMachine):
    """Callers, workers, a Hub and a clock, each of which may act at any time."""

    claims: Bundle[tuple[JobKind, ClaimedJob]] = Bundle("claims")
    answers: Bundle[PendingWrite] = Bundle("answers")
    leased_runs: Bundle[DueRun] = Bundle("errands")
    poll_leases: Bundle[PollLease] = Bundle("turns")

    def __init__(self, harness: StateHarness) -> None:
        super().__init__()
        self.harness = harness
        self.hub = VirtualHub()
        self.workers = WorkerSteps(harness.database, harness.vault, self.hub)
        self.jobs: dict[UUID, str] = {}
        """Who asked for what."""
        self.keys: dict[tuple[str, str], tuple[object, UUID]] = {}
        self.final: dict[UUID, tuple[object, ...]] = {}
        self.zombies: list[PendingWrite] = []
        self.states_present: frozenset[str] = frozenset()
        """What there is to do something about, so that few steps are idle."""
        self.is_consistent = False
        """Whether the last step and the look that followed it went well."""
        self.run_async(harness.delete_all_rows())
        for subject in SUBJECTS:
            self.run_async(self.harness.lend_token(subject, "first"))
            self.run_async(
                self.harness.set_budgets(subject, workspace_micro_usd=30, month_micro_usd=40)
            )

    def run_async(self, coroutine: Coroutine[Any, Any, T]) -> T:
        async def finish() -> T:
            return await coroutine

        self.is_consistent = False
        return from_thread.run(finish)

    @initialize(
        target=answers,
        kinds=st.lists(KINDS, min_size=2, max_size=5),
        fate=OUTCOMES,
        listed=st.booleans(),
    )
    def start(
        self, kinds: list[JobKind], fate: RequestOutcome, *, listed: bool
    ) -> MultipleResults[PendingWrite]:
        """Have some jobs, of which one kind has been launched: most steps need a run."""
        for kind in kinds:
            self.submit(SUBJECTS[0], kind, "own", None, "true", CHEAP, grouped=True)
        return multiple(*self.run_async(self._launch(kinds[0], fate, listed=listed)))

    @rule(
        subject=st.sampled_from(SUBJECTS),
        kind=KINDS,
        namespace=st.sampled_from(["own", "team"]),
        key=st.sampled_from([None, None, "k"]),
        command=st.sampled_from(["true", "false"]),
        rate=RATES,
        grouped=st.booleans(),
    )
    def submit(
        self,
        subject: str,
        kind: JobKind,
        namespace: str,
        key: str | None,
        command: str,
        rate: Rate,
        *,
        grouped: bool,
    ) -> None:
        request = (kind, namespace, command, rate.most_micro_usd, grouped)
        known = self.keys.get((subject, key or ""))
        ask = partial(self.harness.submit_job, rate=rate, in_workspace=grouped)
        try:
            job_id = self.run_async(ask(subject, kind, namespace, key, command))
        except IdempotencyConflict:
            assert known is not None
            assert known[0] != request
            return
        except BudgetExceeded:
            assert known is None
            return
        assert known in (None, (request, job_id))
        assert self.run_async(ask(subject, kind, namespace, key, command, job_id)) == job_id
        if key is not None:
            self.keys[subject, key] = (request, job_id)
        self.jobs[job_id] = subject

    @when_any_in("launching", "running")
    @rule(which=st.integers(0, 5))
    def cancel(self, which: int) -> None:
        going_on = [job_id for job_id in self.jobs if job_id not in self.final]
        job_id = going_on[which % len(going_on)]
        assert self.run_async(self.harness.cancel_job(self.jobs[job_id], job_id))
        assert not self.run_async(self.harness.cancel_job(self.jobs[job_id], job_id))

    @when_any_in("queued")
    @rule(target=claims, kind=KINDS, limit=st.integers(1, 3))
    def claim(self, kind: JobKind, limit: int) -> MultipleResults[tuple[JobKind, ClaimedJob]]:
        return multiple(
            *((kind, claim) for claim in self.run_async(self.workers.claim_jobs(kind, limit=limit)))
        )

    @rule(target=answers, claim=consumes(claims), fate=OUTCOMES, listed=st.booleans())
    def send(
        self, claim: tuple[JobKind, ClaimedJob], fate: RequestOutcome, *, listed: bool
    ) -> PendingWrite:
        self.zombies.append(
            self.run_async(self.workers.send_request(claim[1], claim[0], fate, listed=listed))
        )
        return self.zombies[-1]

    @rule(answer=answers)
    def write(self, answer: PendingWrite) -> None:
        """Write an answer down, possibly again: nobody can tell whether a lost commit happened."""
        self.run_async(self.workers.commit_write(answer))

    @when_any_in("queued")
    @rule(target=answers, kind=KINDS, fate=OUTCOMES, listed=st.booleans(), held_up=st.booleans())
    def launch(
        self, kind: JobKind, fate: RequestOutcome, *, listed: bool, held_up: bool
    ) -> MultipleResults[PendingWrite]:
        wait = LEASE * 2 if held_up else None
        return multiple(*self.run_async(self._launch(kind, fate, listed=listed, wait=wait)))

    @when_any_in("unknown", "bound")
    @rule(target=leased_runs)
    def lease_due_runs(self) -> MultipleResults[DueRun]:
        return multiple(*self.run_async(self.workers.lease_due_runs()))

    @rule(run=leased_runs, reply=st.sampled_from(HubReply), relaunch=st.booleans())
    def reconcile_run_late(self, run: DueRun, reply: HubReply, *, relaunch: bool) -> None:
        self.run_async(self.workers.reconcile_run(run, reply, relaunch=relaunch))

    @when_any_in("posting", "unknown", "bound")
    @rule(target=leased_runs, wait=WAITS, times=st.integers(1, 3), relaunch=st.booleans())
    def reconcile_runs(
        self, wait: timedelta, times: int, *, relaunch: bool
    ) -> MultipleResults[DueRun]:
        self.run_async(self.harness.advance_time(wait))
        rounds = [self.run_async(self._reconcile_due_runs(relaunch=relaunch)) for _ in range(times)]
        return multiple(*rounds[0])

    @when_any_in("bound", "absent")
    @rule(target=poll_leases)
    def lease_due_polls(self) -> MultipleResults[PollLease]:
        return multiple(*self.run_async(self.workers.lease_due_polls()))

    @rule(turn=poll_leases, reply=st.sampled_from(HubReply))
    def poll_group_late(self, turn: PollLease, reply: HubReply) -> None:
        self.run_async(self.workers.poll_group(turn, reply))

    @when_any_in("bound", "absent")
    @rule(target=poll_leases, wait=WAITS | st.just(STAGE_TIMEOUT))
    def poll_groups(self, wait: timedelta) -> MultipleResults[PollLease]:
        self.run_async(self.harness.advance_time(wait))
        return multiple(*self.run_async(self._poll_due_groups()))

    @rule(subject=st.sampled_from(SUBJECTS), token=st.sampled_from(["first", "second"]))
    def lend_token(self, subject: str, token: str) -> None:
        self.run_async(self.harness.lend_token(subject, token))

    @precondition(lambda self: bool(self.hub.list_alive()))
    @rule(which=st.integers(0, 5), stage=st.sampled_from(HubStage))
    def advance_hub_job(self, which: int, stage: HubStage) -> None:
        alive = self.hub.list_alive()
        self.hub.advance_stage(alive[which % len(alive)], stage)

    @rule(wait=WAITS | st.just(STAGE_TIMEOUT * 2))
    def advance_time(self, wait: timedelta) -> None:
        self.run_async(self.harness.advance_time(wait))
        self.run_async(self.workers.give_up_overdue_jobs())

    @invariant()
    def check_snapshot(self) -> None:
        """Look at everything; `teardown` adds what only holds once the dust has settled."""
        if not self.is_consistent:
            self.run_async(self._check_snapshot())
            self.is_consistent = True

    def teardown(self) -> None:
        # What a broken machine says when it drains would hide why it broke.
        if self.is_consistent:
            self.run_async(self._finish_all_work())

    async def _launch(
        self,
        kind: JobKind,
        fate: RequestOutcome,
        *,
        listed: bool = True,
        wait: timedelta | None = None,
    ) -> list[PendingWrite]:
        claims = await self.workers.claim_jobs(kind)
        if wait is not None:
            await self.harness.advance_time(wait)
        answers = [
            await self.workers.send_request(claim, kind, fate, listed=listed) for claim in claims
        ]
        for answer in answers:
            await self.workers.commit_write(answer)
        self.zombies.extend(answers)
        return answers

    async def _reconcile_due_runs(self, *, relaunch: bool) -> list[DueRun]:
        await self.workers.take_over_silent_runs()
        runs = await self.workers.lease_due_runs()
        for run in runs:
            await self.workers.reconcile_run(run, HubReply.ANSWERED, relaunch=relaunch)
        return runs

    async def _poll_due_groups(self) -> list[PollLease]:
        turns = await self.workers.lease_due_polls()
        for turn in turns:
            await self.workers.poll_group(turn, HubReply.ANSWERED)
        return turns

    async def _check_snapshot(self) -> None:
        look = await self.harness.take_snapshot()
        assert look.broken_invariants == []
        assert self.final.items() <= look.final_jobs.items()
        assert self.hub.reported_ids <= look.remote_ids
        assert look.refused_tokens <= self.hub.refused_tokens
        assert look.valid_tokens.isdisjoint(self.hub.refused_tokens)
        self.final, self.states_present = look.final_jobs, look.states

    async def _finish_all_work(self) -> None:
        """Let the workers finish: first without those whose token was refused, then with them."""
        self.hub.list_everything()
        await self._work_until_idle()
        assert await self.harness.fetch_rows(STUCK_JOBS) == []
        await self._assert_only_wanted_alive()
        for subject in SUBJECTS:
            await self.harness.lend_token(subject, "last")
        await self._work_until_idle(launching=True)
        await self._assert_only_wanted_alive()
        for job in self.hub.list_alive():
            job.stage = HubStage.COMPLETED
        await self._work_until_idle()
        for answer in self.zombies:
            await self.workers.commit_write(answer)
        await self._work_until_idle()
        await self.harness.advance_time(LATE_ARRIVAL_WINDOW)
        await self.workers.give_up_overdue_jobs()
        await self._check_snapshot()
        assert await self.harness.fetch_rows(UNFINISHED_ROWS) == []

    async def _assert_only_wanted_alive(self) -> None:
        wanted_ids = {
            row["id"]: row["remote_ids"] for row in await self.harness.fetch_rows(WANTED_REMOTE_IDS)
        }
        assert {subject: self.hub.findable_ids(subject) for subject in wanted_ids} == wanted_ids

    async def _work_until_idle(self, *, launching: bool = False) -> None:
        """Let every worker work and time pass until nothing changes any more."""
        done: list[dict[str, Any]] = []
        for _ in range(MAX_ROUNDS):
            for kind in JobKind if launching else ():
                await self._launch(kind, RequestOutcome.CREATED)
            await self._reconcile_due_runs(relaunch=True)
            await self._poll_due_groups()
            await self.harness.advance_time(SETTLE * 2)
            before, done = done, await self.harness.fetch_rows(PROGRESS_COUNTS)
            if done == before:
                await self._check_snapshot()
                return
        pytest.fail("the workers never come to rest")


@pytest.mark.timeout(600)  # 8 s of work, but many round trips: it is slow beside other tests
async def test_no_order_of_moves_breaks_a_promise(
    database: Database, database_url: str, vault: Vault
) -> None:
    """Crashes, late answers and late sights are found in an order nobody would think of."""
    admin: asyncpg.Connection = await asyncpg.connect(database_url)
    # The search takes any factory; its annotation admits only a class (hypothesis 6.170).
    factory = cast(
        "type[JobStateMachine]", partial(JobStateMachine, StateHarness(database, admin, vault))
    )
    try:
        await to_thread.run_sync(
            partial(run_state_machine_as_test, factory, settings=SEARCH_SETTINGS)
        )
    finally:
        await admin.close()
