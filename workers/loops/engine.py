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
from workers.context import AutoResetEvent, Worker
from workers.loops.claim_jobs import ClaimLoop
from workers.loops.fire_schedules import fire_due_schedules
from workers.loops.poll_runs import poll_runs
from workers.loops.reconcile_runs import reconcile_runs

_PRUNE_INTERVAL: Final = timedelta(minutes=10)
_DEADLINE_INTERVAL: Final = timedelta(minutes=1)
_SHUTDOWN_GRACE: Final = timedelta(seconds=6)
"""How long steps under way may take once told to stop; what is cut off then is handed back."""
_ERROR_PAUSE_SECONDS: Final = 1.0
_SWEEP_MARGIN_SECONDS: Final = 0.02

log = structlog.stdlib.get_logger()


async def run_loops(worker: Worker, stop: anyio.Event) -> None:
    """Carry jobs until told to stop; then let the steps under way come to their end."""
    log.info("worker.started", worker=worker.name)
    async with anyio.create_task_group() as steps:
        async with anyio.create_task_group() as clocks:
            clocks.start_soon(_run_sweeps, worker)
            clocks.start_soon(_run_pruning, worker)
            clocks.start_soon(_run_deadlines, worker)
            _start_loops(worker, ClaimLoop(worker, steps), steps, stop)
            await stop.wait()
            worker.stopping.set()
            clocks.cancel_scope.cancel()
        wake_loops(worker)  # so that the loops see that they are to stop
        worker.events.poll.set()
        worker.events.release.set()
        worker.events.fire.set()
        steps.cancel_scope.deadline = anyio.current_time() + _SHUTDOWN_GRACE.total_seconds()
    log.info("worker.stopped", worker=worker.name)


def wake_loops(worker: Worker) -> None:
    """Answer the doorbell: something is to be claimed, or to be killed."""
    worker.events.claim.set()
    worker.events.reconcile.set()


def _start_loops(
    worker: Worker, claim_loop: ClaimLoop, loops: TaskGroup, stop: anyio.Event
) -> None:
    bells = worker.events
    for name, bell, step in (
        ("claim", bells.claim, claim_loop.claim_due_jobs),
        ("attend", bells.reconcile, partial(reconcile_runs, worker)),
        ("observe", bells.poll, partial(poll_runs, worker)),
        ("release", bells.release, partial(_release_dependents, worker)),
        ("fire", bells.fire, partial(fire_due_schedules, worker)),
    ):
        loops.start_soon(_run_loop, name, bell, step, stop)


async def _run_sweeps(worker: Worker) -> None:
    every = worker.settings.sweep.total_seconds()
    pause = every

    async def sweep() -> bool:
        nonlocal pause
        next_in = await _sweep_once(worker)
        pause = (
            every
            if next_in is None
            else min(every, next_in.total_seconds() + _SWEEP_MARGIN_SECONDS)
        )
        return False

    while True:
        await _repeat_step("sweep", sweep)
        # Spread, so that many workers do not look at the same instant.
        await anyio.sleep(pause * random.uniform(1.0, 1.2))  # noqa: S311  # keeps no secret


async def _sweep_once(worker: Worker) -> timedelta | None:
    """Ring for whatever is due, in case nobody else did; say when more will be."""
    async with worker.database.transaction() as tx:
        due = await work_queues.find_due_queues(tx)
    for is_due, bell in (
        (due.queued, worker.events.claim),
        (due.runs, worker.events.reconcile),
        (due.groups, worker.events.poll),
        (due.dependents, worker.events.release),
        (due.schedules, worker.events.fire),
    ):
        if is_due:
            bell.set()
    return due.next_in


async def _release_dependents(worker: Worker) -> bool:
    """Let jobs begin that waited for others, or end them; true if there may be more."""
    async with worker.database.transaction() as tx:
        any_begins, more = await job_dependencies.release_waiting_jobs(tx, worker=worker.name)
    if any_begins:
        worker.events.claim.set()
    return more


async def _run_pruning(worker: Worker) -> None:
    async def prune() -> bool:
        async with worker.database.transaction() as tx:
            return await retention.prune_expired(tx, retention=worker.settings.retention)

    while True:
        await _repeat_step("prune", prune)
        await anyio.sleep(_PRUNE_INTERVAL.total_seconds())


async def _run_deadlines(worker: Worker) -> None:
    patience = worker.settings.queue_deadline

    async def give_up() -> bool:
        async with worker.database.transaction() as tx:
            more = await deadlines.fail_abandoned_jobs(
                tx, abandon_after=patience, worker=worker.name
            )
        async with worker.database.transaction() as tx:
            return await deadlines.stop_watching_absent_runs(tx, worker=worker.name) or more

    while True:
        await _repeat_step("give up", give_up)
        await anyio.sleep(min(_DEADLINE_INTERVAL, patience).total_seconds())


async def _run_loop(
    name: str, event: AutoResetEvent, step: Callable[[], Awaitable[bool]], stop: anyio.Event
) -> None:
    async def unless_stopped() -> bool:
        return not stop.is_set() and await step()

    while not stop.is_set():
        await event.wait()
        await _repeat_step(name, unless_stopped)


async def _repeat_step(name: str, step: Callable[[], Awaitable[bool]]) -> None:
    """Make steps while there is more to do; a loop outlives whatever goes wrong in one."""
    try:
        while await step():
            pass
    except Unavailable:
        log.warning("loop.interrupted", loop=name)
        await anyio.sleep(_ERROR_PAUSE_SECONDS)
    except Exception:  # a bug in one step must not end the worker: the rows stay due
        log.exception("loop.broken", loop=name)
        await anyio.sleep(_ERROR_PAUSE_SECONDS)
