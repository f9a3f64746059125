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
from schema.jobs.run_end import LATE_WATCH
from schema.jobs.run_launch import Claim
from schema.jobs.tables import JobKind
from schema.jobs.work_queues import AgedRun, Turn
from tests.schema.crew import LEASE, PATIENCE, SETTLE, Crew, Fate, Reply, Write
from tests.schema.ground import DONE, LEFT_OVER, STUCK, WANTED, Ground
from tests.schema.virtual_hub import Stage, VirtualHub

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
FATES: Final = st.sampled_from([*Fate, Fate.MADE, Fate.MADE, Fate.TWICE, Fate.LOST, Fate.UNSENT])
SUBJECTS: Final = ("ada", "bob")
ROUNDS: Final = 20
"""Rounds of all workers after which nothing may be left for them to do."""

SEARCH: Final = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # to shrink what was found takes five minutes: add it by hand
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def while_any(*states: str) -> Callable[[Step], Step]:
    """Leave a step out while no job and no run is in one of these states."""

    def has_any(machine: "Machine") -> bool:
        return not machine.there.isdisjoint(states)

    return precondition(has_any)


class Machine(RuleBasedStateMachine):
    """Callers, workers, a Hub and a clock, each of which may act at any time."""

    claims: Bundle[tuple[JobKind, Claim]] = Bundle("claims")
    answers: Bundle[Write] = Bundle("answers")
    errands: Bundle[AgedRun] = Bundle("errands")
    turns: Bundle[Turn] = Bundle("turns")

    def __init__(self, ground: Ground) -> None:
        super().__init__()
        self.ground = ground
        self.hub = VirtualHub()
        self.crew = Crew(ground.database, ground.vault, self.hub)
        self.jobs: dict[UUID, str] = {}
        """Who asked for what."""
        self.keys: dict[tuple[str, str], tuple[object, UUID]] = {}
        self.final: dict[UUID, tuple[object, ...]] = {}
        self.zombies: list[Write] = []
        self.there: frozenset[str] = frozenset()
        """What there is to do something about, so that few steps are idle."""
        self.sound = False
        """Whether the last step and the look that followed it went well."""
        self.run(ground.clear())
        for subject in SUBJECTS:
            self.run(self.ground.lend(subject, "first"))
            self.run(self.ground.limit(subject, workspace=30, month=40))

    def run(self, steps: Coroutine[Any, Any, T]) -> T:
        async def finish() -> T:
            return await steps

        self.sound = False
        return from_thread.run(finish)

    @initialize(
        target=answers,
        kinds=st.lists(KINDS, min_size=2, max_size=5),
        fate=FATES,
        listed=st.booleans(),
    )
    def start(self, kinds: list[JobKind], fate: Fate, *, listed: bool) -> MultipleResults[Write]:
        """Have some jobs, of which one kind has been launched: most steps need a run."""
        for kind in kinds:
            self.submit(SUBJECTS[0], kind, "own", None, "true", CHEAP, grouped=True)
        return multiple(*self.run(self._launch(kinds[0], fate, listed=listed)))

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
        ask = partial(self.ground.submit, rate=rate, grouped=grouped)
        try:
            job_id = self.run(ask(subject, kind, namespace, key, command))
        except IdempotencyConflict:
            assert known is not None
            assert known[0] != request
            return
        except BudgetExceeded:
            assert known is None
            return
        assert known in (None, (request, job_id))
        assert self.run(ask(subject, kind, namespace, key, command, job_id)) == job_id
        if key is not None:
            self.keys[subject, key] = (request, job_id)
        self.jobs[job_id] = subject

    @while_any("launching", "running")
    @rule(which=st.integers(0, 5))
    def cancel(self, which: int) -> None:
        going_on = [job_id for job_id in self.jobs if job_id not in self.final]
        job_id = going_on[which % len(going_on)]
        assert self.run(self.ground.cancel(self.jobs[job_id], job_id))
        assert not self.run(self.ground.cancel(self.jobs[job_id], job_id))

    @while_any("queued")
    @rule(target=claims, kind=KINDS, limit=st.integers(1, 3))
    def claim(self, kind: JobKind, limit: int) -> MultipleResults[tuple[JobKind, Claim]]:
        return multiple(*((kind, claim) for claim in self.run(self.crew.claim(kind, limit=limit))))

    @rule(target=answers, claim=consumes(claims), fate=FATES, listed=st.booleans())
    def send(self, claim: tuple[JobKind, Claim], fate: Fate, *, listed: bool) -> Write:
        self.zombies.append(self.run(self.crew.send(claim[1], claim[0], fate, listed=listed)))
        return self.zombies[-1]

    @rule(answer=answers)
    def write(self, answer: Write) -> None:
        """Write an answer down, possibly again: nobody can tell whether a lost commit happened."""
        self.run(self.crew.write(answer))

    @while_any("queued")
    @rule(target=answers, kind=KINDS, fate=FATES, listed=st.booleans(), held_up=st.booleans())
    def launch(
        self, kind: JobKind, fate: Fate, *, listed: bool, held_up: bool
    ) -> MultipleResults[Write]:
        wait = LEASE * 2 if held_up else None
        return multiple(*self.run(self._launch(kind, fate, listed=listed, wait=wait)))

    @while_any("unknown", "bound")
    @rule(target=errands)
    def take_runs(self) -> MultipleResults[AgedRun]:
        return multiple(*self.run(self.crew.take_runs()))

    @rule(run=errands, reply=st.sampled_from(Reply), relaunch=st.booleans())
    def attend_late(self, run: AgedRun, reply: Reply, *, relaunch: bool) -> None:
        self.run(self.crew.attend(run, reply, relaunch=relaunch))

    @while_any("posting", "unknown", "bound")
    @rule(target=errands, wait=WAITS, times=st.integers(1, 3), relaunch=st.booleans())
    def attend(self, wait: timedelta, times: int, *, relaunch: bool) -> MultipleResults[AgedRun]:
        self.run(self.ground.let_pass(wait))
        rounds = [self.run(self._attend(relaunch=relaunch)) for _ in range(times)]
        return multiple(*rounds[0])

    @while_any("bound", "absent")
    @rule(target=turns)
    def take_groups(self) -> MultipleResults[Turn]:
        return multiple(*self.run(self.crew.take_groups()))

    @rule(turn=turns, reply=st.sampled_from(Reply))
    def observe_late(self, turn: Turn, reply: Reply) -> None:
        self.run(self.crew.observe(turn, reply))

    @while_any("bound", "absent")
    @rule(target=turns, wait=WAITS | st.just(PATIENCE))
    def observe(self, wait: timedelta) -> MultipleResults[Turn]:
        self.run(self.ground.let_pass(wait))
        return multiple(*self.run(self._observe()))

    @rule(subject=st.sampled_from(SUBJECTS), token=st.sampled_from(["first", "second"]))
    def remember(self, subject: str, token: str) -> None:
        self.run(self.ground.lend(subject, token))

    @precondition(lambda self: bool(self.hub.alive()))
    @rule(which=st.integers(0, 5), stage=st.sampled_from(Stage))
    def go_on_upstream(self, which: int, stage: Stage) -> None:
        alive = self.hub.alive()
        self.hub.go_on(alive[which % len(alive)], stage)

    @rule(wait=WAITS | st.just(PATIENCE * 2))
    def let_pass(self, wait: timedelta) -> None:
        self.run(self.ground.let_pass(wait))
        self.run(self.crew.give_up())

    @invariant()
    def hold_fast(self) -> None:
        """Look at everything; `teardown` adds what only holds once the dust has settled."""
        if not self.sound:
            self.run(self._inspect())
            self.sound = True

    def teardown(self) -> None:
        # What a broken machine says when it drains would hide why it broke.
        if self.sound:
            self.run(self._drain())

    async def _launch(
        self, kind: JobKind, fate: Fate, *, listed: bool = True, wait: timedelta | None = None
    ) -> list[Write]:
        claims = await self.crew.claim(kind)
        if wait is not None:
            await self.ground.let_pass(wait)
        answers = [await self.crew.send(claim, kind, fate, listed=listed) for claim in claims]
        for answer in answers:
            await self.crew.write(answer)
        self.zombies.extend(answers)
        return answers

    async def _attend(self, *, relaunch: bool) -> list[AgedRun]:
        await self.crew.take_over()
        runs = await self.crew.take_runs()
        for run in runs:
            await self.crew.attend(run, Reply.SEEN, relaunch=relaunch)
        return runs

    async def _observe(self) -> list[Turn]:
        turns = await self.crew.take_groups()
        for turn in turns:
            await self.crew.observe(turn, Reply.SEEN)
        return turns

    async def _inspect(self) -> None:
        look = await self.ground.look()
        assert look.broken == []
        assert self.final.items() <= look.final.items()
        assert self.hub.told <= look.remote_ids
        assert look.refused <= self.hub.refused
        assert look.valid.isdisjoint(self.hub.refused)
        self.final, self.there = look.final, look.states

    async def _drain(self) -> None:
        """Let the workers finish: first without those whose token was refused, then with them."""
        self.hub.catch_up()
        await self._work()
        assert await self.ground.rows(STUCK) == []
        await self._expect_only_wanted()
        for subject in SUBJECTS:
            await self.ground.lend(subject, "last")
        await self._work(launching=True)
        await self._expect_only_wanted()
        for job in self.hub.alive():
            job.stage = Stage.COMPLETED
        await self._work()
        for answer in self.zombies:
            await self.crew.write(answer)
        await self._work()
        await self.ground.let_pass(LATE_WATCH)
        await self.crew.give_up()
        await self._inspect()
        assert await self.ground.rows(LEFT_OVER) == []

    async def _expect_only_wanted(self) -> None:
        wanted = {row["id"]: row["remote_ids"] for row in await self.ground.rows(WANTED)}
        assert {subject: self.hub.findable(subject) for subject in wanted} == wanted

    async def _work(self, *, launching: bool = False) -> None:
        """Let every worker work and time pass until nothing changes any more."""
        done: list[dict[str, Any]] = []
        for _ in range(ROUNDS):
            for kind in JobKind if launching else ():
                await self._launch(kind, Fate.MADE)
            await self._attend(relaunch=True)
            await self._observe()
            await self.ground.let_pass(SETTLE * 2)
            before, done = done, await self.ground.rows(DONE)
            if done == before:
                await self._inspect()
                return
        pytest.fail("the workers never come to rest")


@pytest.mark.timeout(180)  # 8 s of work, but many round trips: it is slow beside other tests
async def test_no_order_of_moves_breaks_a_promise(
    database: Database, database_url: str, vault: Vault
) -> None:
    """Crashes, late answers and late sights are found in an order nobody would think of."""
    admin: asyncpg.Connection = await asyncpg.connect(database_url)
    # The search takes any factory; its annotation admits only a class (hypothesis 6.170).
    factory = cast("type[Machine]", partial(Machine, Ground(database, admin, vault)))
    try:
        await to_thread.run_sync(partial(run_state_machine_as_test, factory, settings=SEARCH))
    finally:
        await admin.close()
