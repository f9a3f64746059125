"""The loops of a worker, and the sweep that wakes them: Postgres is the queue, Redis only wakes.

    wake-up (Redis) ──▶ claim ──▶ attempt     jobs that are due
                    └─▶ reconcile             runs that owe a step
    sweep (1/s) ──────▶ claim, reconcile,
                        poll                  groups of runs, compared with the Hub's listing
                        release               jobs that wait for other jobs
                        fire                  schedules
                        send                  webhooks of jobs that have ended

Each loop takes due rows under a lease, so any number of workers may run all of them.

A wake-up only saves the wait for the next sweep. The sweep looks once a second, and also when it
knows that something falls due, with one statement for all queues. Without Redis everything happens,
up to a second later.
"""

import random
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Final

import anyio
import structlog
from anyio.abc import TaskGroup

from schema.common.errors import Unavailable
from schema.db.revisions import WrongRevision
from schema.hub.url_fetcher import Fetcher
from schema.jobs import deadlines, work_queues
from schema.jobs import dependencies as job_dependencies
from schema.jobs.monitoring.heartbeats import HEARTBEAT_INTERVAL
from schema.jobs.retention.pruning import RetentionPeriods, prune_expired
from schema.jobs.run_end import LATE_ARRIVAL_WINDOW
from workers.context import AutoResetEvent, Worker
from workers.loops.claim_jobs import ClaimLoop
from workers.loops.fire_schedules import fire_due_schedules
from workers.loops.heartbeats import record_heartbeat
from workers.loops.metrics_endpoint import serve_metrics
from workers.loops.poll_runs import poll_runs
from workers.loops.queue_metrics import WorkerCollector
from workers.loops.reconcile_runs import reconcile_runs
from workers.loops.refresh_accounts import refresh_due_accounts
from workers.loops.restored_subjects import reconcile_restored_subjects
from workers.loops.send_webhooks import WebhookLoop

_PRUNE_INTERVAL: Final = timedelta(minutes=10)
_DEADLINE_INTERVAL: Final = timedelta(minutes=1)
_RESTORE_INTERVAL: Final = timedelta(seconds=5)
_REFRESH_INTERVAL: Final = timedelta(seconds=5)
_SHUTDOWN_GRACE: Final = timedelta(seconds=6)
"""How long steps under way may take after a stop; a step that is cut off then is handed back."""
_ERROR_PAUSE_SECONDS: Final = 1.0
_SWEEP_MARGIN_SECONDS: Final = 0.02
"""Added to the wait for the next due row, so that the sweep does not come just before it."""

log = structlog.stdlib.get_logger()


async def run_loops(worker: Worker, stop: anyio.Event) -> None:
    """Run the loops until `stop` is set; then let the steps under way finish.

    The worker sets it itself when a later release has migrated the database beyond it.
    """
    log.info("worker.started", worker=worker.name)
    async with anyio.create_task_group() as steps:
        # With the steps: a refresh under way may finish, for its token is for one use.
        steps.start_soon(_run_refreshes, worker, stop)
        async with anyio.create_task_group() as clocks:
            clocks.start_soon(_run_sweeps, worker)
            clocks.start_soon(_run_pruning, worker)
            clocks.start_soon(_run_deadlines, worker)
            clocks.start_soon(_run_heartbeats, worker, stop)
            clocks.start_soon(_run_restores, worker)
            clocks.start_soon(serve_metrics, worker.settings, WorkerCollector(worker))
            webhook_loop = WebhookLoop(worker, steps, Fetcher())
            _start_loops(worker, ClaimLoop(worker, steps), webhook_loop, steps, stop)
            await stop.wait()
            worker.stopping.set()
            clocks.cancel_scope.cancel()
        wake_loops(worker)  # so that each loop sees that it must stop
        worker.events.poll.set()
        worker.events.release.set()
        worker.events.fire.set()
        worker.events.send.set()
        steps.cancel_scope.deadline = anyio.current_time() + _SHUTDOWN_GRACE.total_seconds()
    log.info("worker.stopped", worker=worker.name)


def wake_loops(worker: Worker) -> None:
    """Wake the loops that any wake-up may be for: a job is to be claimed, or a run to be killed."""
    worker.events.claim.set()
    worker.events.reconcile.set()


def wake_loop(worker: Worker, kind: str | None) -> None:
    """Wake the loop that a wake-up is for.

    Args:
        worker: whose loop it is.
        kind: of the job to be claimed; None: a run is to be killed.
    """
    if kind is None:
        worker.events.reconcile.set()
    else:
        worker.activity.woken_kinds.add(kind)
        worker.events.claim.set()


def _start_loops(
    worker: Worker,
    claim_loop: ClaimLoop,
    webhook_loop: WebhookLoop,
    loops: TaskGroup,
    stop: anyio.Event,
) -> None:
    events = worker.events
    for name, event, step in (
        ("claim", events.claim, claim_loop.claim_due_jobs),
        ("reconcile", events.reconcile, partial(reconcile_runs, worker)),
        ("poll", events.poll, partial(poll_runs, worker)),
        ("release", events.release, partial(_release_dependents, worker)),
        ("fire", events.fire, partial(fire_due_schedules, worker)),
        ("send", events.send, webhook_loop.send_due_webhooks),
    ):
        loops.start_soon(_run_loop, name, event, step, stop)


async def _run_sweeps(worker: Worker) -> None:
    interval = worker.settings.sweep.total_seconds()
    pause = interval

    async def sweep() -> bool:
        nonlocal pause
        next_in = await _sweep_once(worker)
        pause = (
            interval
            if next_in is None
            else min(interval, next_in.total_seconds() + _SWEEP_MARGIN_SECONDS)
        )
        return False

    while True:
        await _repeat_step("sweep", sweep)
        # Spread, so that many workers do not look at the same instant.
        await anyio.sleep(pause * random.uniform(1.0, 1.2))  # noqa: S311  # keeps no secret


async def _sweep_once(worker: Worker) -> timedelta | None:
    """Wake the loops that have due rows, in case no wake-up came; return when more fall due."""
    async with worker.database.transaction() as tx:
        due = await work_queues.find_due_queues(tx)
    worker.activity.swept_at = time.time()
    for is_due, event in (
        (due.queued, worker.events.claim),
        (due.runs, worker.events.reconcile),
        (due.groups, worker.events.poll),
        (due.dependents, worker.events.release),
        (due.schedules, worker.events.fire),
        (due.webhooks, worker.events.send),
    ):
        if is_due:
            event.set()
    return due.next_in


async def _release_dependents(worker: Worker) -> bool:
    """Queue or end the jobs that waited for others; true if there may be more."""
    async with worker.database.transaction() as tx:
        any_queued, more = await job_dependencies.release_waiting_jobs(tx, worker=worker.name)
    if any_queued:
        worker.events.claim.set()
    return more


async def _run_heartbeats(worker: Worker, stop: anyio.Event) -> None:
    is_first = True

    async def write_heartbeat() -> bool:
        nonlocal is_first
        try:
            await record_heartbeat(worker, is_first=is_first)
        except WrongRevision as error:
            log.error("worker.outdated", why=str(error))  # noqa: TRY400  # a sentence, no bug
            worker.activity.wrong_revision = error
            stop.set()
        is_first = False
        return False

    while True:
        await _repeat_step("heartbeat", write_heartbeat)
        await anyio.sleep(HEARTBEAT_INTERVAL.total_seconds())


async def _run_restores(worker: Worker) -> None:
    while True:
        await _repeat_step("restore", partial(reconcile_restored_subjects, worker))
        await anyio.sleep(_RESTORE_INTERVAL.total_seconds())


async def _run_refreshes(worker: Worker, stop: anyio.Event) -> None:
    async def refresh_unless_stopped() -> bool:
        return not stop.is_set() and await refresh_due_accounts(worker)

    while not stop.is_set():
        await _repeat_step("refresh", refresh_unless_stopped)
        with anyio.move_on_after(_REFRESH_INTERVAL.total_seconds()):
            await stop.wait()


async def _run_pruning(worker: Worker) -> None:
    while True:
        await _repeat_step("prune", partial(prune, worker))
        await anyio.sleep(_PRUNE_INTERVAL.total_seconds())


async def prune(worker: Worker) -> bool:
    """Delete some of what is past its retention; true if there may be more."""
    settings = worker.settings
    periods = RetentionPeriods(
        jobs=settings.retention,
        jobs_by_kind=settings.retention_by_kind,
        firings=settings.retention_firing or settings.retention,
        audit=settings.retention_audit,
        spending=settings.retention_spending,
    )
    async with worker.database.transaction() as tx:
        lead = await worker.clock.read_lead(tx, settings.retention)
        return await prune_expired(tx, periods=periods.extend(worker.clock.lead), clock_lead=lead)


async def _run_deadlines(worker: Worker) -> None:
    pause = min(_DEADLINE_INTERVAL, worker.settings.queue_deadline)
    while True:
        await _repeat_step("deadlines", partial(enforce_deadlines, worker))
        await anyio.sleep(pause.total_seconds())


async def enforce_deadlines(worker: Worker) -> bool:
    """End some of what has waited for too long; true if there may be more."""
    queue_deadline = worker.settings.queue_deadline
    async with worker.database.transaction() as tx:
        lead = await worker.clock.read_lead(tx, queue_deadline)
        more = await deadlines.fail_abandoned_jobs(
            tx, abandon_after=queue_deadline + lead, worker=worker.name
        )
    async with worker.database.transaction() as tx:
        lead = await worker.clock.read_lead(tx, LATE_ARRIVAL_WINDOW)
        more_watched = await deadlines.stop_watching_absent_runs(
            tx, clock_lead=lead, worker=worker.name
        )
    return more or more_watched


async def _run_loop(
    name: str, event: AutoResetEvent, step: Callable[[], Awaitable[bool]], stop: anyio.Event
) -> None:
    async def step_unless_stopped() -> bool:
        return not stop.is_set() and await step()

    while not stop.is_set():
        await event.wait()
        await _repeat_step(name, step_unless_stopped)


async def _repeat_step(name: str, step: Callable[[], Awaitable[bool]]) -> None:
    """Make steps while there is more to do; an error in a step does not end the loop."""
    try:
        while await step():
            pass
    except Unavailable:
        log.warning("loop.interrupted", loop=name)
        await anyio.sleep(_ERROR_PAUSE_SECONDS)
    except Exception:  # a bug in one step must not end the worker: the rows stay due
        log.exception("loop.broken", loop=name)
        await anyio.sleep(_ERROR_PAUSE_SECONDS)
