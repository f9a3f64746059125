"""The worker at work: loops on Postgres, which need no Redis, and how they stop.

    wake (Redis) ──▶ ring ──▶ claim ──▶ launch      each loop takes due rows under a lease,
    sweep (1/s)  ──▶ ring ──▶ attend                so any number of workers may run them all
                     ring ──▶ observe
                     ring ──▶ release     jobs that waited for others
                     ring ──▶ fire        schedules

A wake only saves the wait for the next sweep. The sweep looks once a second, and when it knows that
something falls due, with one statement for all queues; a lost Redis therefore costs a second and
nothing else.
"""

import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Final

import anyio
import structlog
from anyio.abc import TaskGroup

from schema.common.errors import Unavailable
from schema.jobs import deadlines, retention, work_queues
from schema.jobs import dependencies as job_dependencies
from workers.context import Bell, Worker
from workers.loops.claim_jobs import Hands
from workers.loops.fire_schedules import fire
from workers.loops.poll_runs import observe
from workers.loops.reconcile_runs import attend

_PRUNE_EVERY: Final = timedelta(minutes=10)
_GIVE_UP_EVERY: Final = timedelta(minutes=1)
_GRACE: Final = timedelta(seconds=6)
"""How long steps under way may take once told to stop; what is cut off then is handed back."""
_PAUSE: Final = 1.0
_TICK: Final = 0.02

log = structlog.stdlib.get_logger()


async def work(worker: Worker, stop: anyio.Event) -> None:
    """Carry jobs until told to stop; then let the steps under way come to their end."""
    log.info("worker.started", worker=worker.name)
    async with anyio.create_task_group() as steps:
        async with anyio.create_task_group() as clocks:
            clocks.start_soon(_sweep_for_ever, worker)
            clocks.start_soon(_prune_for_ever, worker)
            clocks.start_soon(_give_up_for_ever, worker)
            _start(worker, Hands(worker, steps), steps, stop)
            await stop.wait()
            worker.stopping.set()
            clocks.cancel_scope.cancel()
        wake(worker)  # so that the loops see that they are to stop
        worker.bells.observe.ring()
        worker.bells.release.ring()
        worker.bells.fire.ring()
        steps.cancel_scope.deadline = anyio.current_time() + _GRACE.total_seconds()
    log.info("worker.stopped", worker=worker.name)


def wake(worker: Worker) -> None:
    """Answer the doorbell: something is to be claimed, or to be killed."""
    worker.bells.claim.ring()
    worker.bells.attend.ring()


def _start(worker: Worker, hands: Hands, loops: TaskGroup, stop: anyio.Event) -> None:
    bells = worker.bells
    for name, bell, step in (
        ("claim", bells.claim, hands.claim),
        ("attend", bells.attend, partial(attend, worker)),
        ("observe", bells.observe, partial(observe, worker)),
        ("release", bells.release, partial(_release, worker)),
        ("fire", bells.fire, partial(fire, worker)),
    ):
        loops.start_soon(_answer, name, bell, step, stop)


async def _sweep_for_ever(worker: Worker) -> None:
    every = worker.settings.sweep.total_seconds()
    pause = every

    async def sweep() -> bool:
        nonlocal pause
        next_in = await _sweep(worker)
        pause = every if next_in is None else min(every, next_in.total_seconds() + _TICK)
        return False

    while True:
        await _go("sweep", sweep)
        # Spread, so that many workers do not look at the same instant.
        await anyio.sleep(pause * random.uniform(1.0, 1.2))  # noqa: S311  # keeps no secret


async def _sweep(worker: Worker) -> timedelta | None:
    """Ring for whatever is due, in case nobody else did; say when more will be."""
    async with worker.database.transaction() as tx:
        due = await work_queues.due(tx)
    for is_due, bell in (
        (due.queued, worker.bells.claim),
        (due.runs, worker.bells.attend),
        (due.groups, worker.bells.observe),
        (due.dependents, worker.bells.release),
        (due.schedules, worker.bells.fire),
    ):
        if is_due:
            bell.ring()
    return due.next_in


async def _release(worker: Worker) -> bool:
    """Let jobs begin that waited for others, or end them; true if there may be more."""
    async with worker.database.transaction() as tx:
        any_begins, more = await job_dependencies.release(tx, worker=worker.name)
    if any_begins:
        worker.bells.claim.ring()
    return more


async def _prune_for_ever(worker: Worker) -> None:
    async def prune() -> bool:
        async with worker.database.transaction() as tx:
            return await retention.prune(tx, retention=worker.settings.retention)

    while True:
        await _go("prune", prune)
        await anyio.sleep(_PRUNE_EVERY.total_seconds())


async def _give_up_for_ever(worker: Worker) -> None:
    patience = worker.settings.queue_deadline

    async def give_up() -> bool:
        async with worker.database.transaction() as tx:
            more = await deadlines.give_up(tx, patience=patience, worker=worker.name)
        async with worker.database.transaction() as tx:
            return await deadlines.stop_watching(tx, worker=worker.name) or more

    while True:
        await _go("give up", give_up)
        await anyio.sleep(min(_GIVE_UP_EVERY, patience).total_seconds())


async def _answer(
    name: str, bell: Bell, step: Callable[[], Awaitable[bool]], stop: anyio.Event
) -> None:
    async def unless_stopped() -> bool:
        return not stop.is_set() and await step()

    while not stop.is_set():
        await bell.rung()
        await _go(name, unless_stopped)


async def _go(name: str, step: Callable[[], Awaitable[bool]]) -> None:
    """Make steps while there is more to do; a loop outlives whatever goes wrong in one."""
    try:
        while await step():
            pass
    except Unavailable:
        log.warning("loop.interrupted", loop=name)
        await anyio.sleep(_PAUSE)
    except Exception:  # a bug in one step must not end the worker: the rows stay due
        log.exception("loop.broken", loop=name)
        await anyio.sleep(_PAUSE)
