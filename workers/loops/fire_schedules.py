"""The fire loop: makes an ordinary job of each time at which a schedule is due.

The job, the outcome of the firing and the next time are written in one commit. A worker that dies
before it has made nothing; after it nothing is left to do. If a launch would be refused, the
outcome of the firing says so, and the firing is not repeated; the schedule goes on with its next
time.
"""

from datetime import timedelta
from typing import Final

import structlog
from pydantic import ValidationError

from schema.accounts import secrets as sealed_secrets
from schema.billing.budgets import Rate
from schema.billing.pricing import HardwarePrices, price_job
from schema.common import ids
from schema.common.errors import Conflict, HoldfastError, Invalid, NotAgreedTo, Unavailable
from schema.common.failpoints import hit_failpoint
from schema.common.ids import HandleKind
from schema.common.money import to_usd
from schema.db.database import Transaction
from schema.hub.prices import load_current_prices
from schema.jobs import lifecycle
from schema.jobs.tables import JobKind
from schema.schedules import firing
from schema.schedules.firing import DueFiring
from schema.schedules.tables import (
    FiringOutcome,
    MissedPolicy,
    OverlapPolicy,
    Schedule,
    ScheduleSnapshot,
)
from schema.specs.hub_job import HubJobSpec
from workers.context import Worker

_BATCH_SIZE: Final = 20
_MAX_PRICE_AGE: Final = timedelta(hours=1)
"""How old a price list may be before the Hub is asked for a new one."""

log = structlog.stdlib.get_logger()


async def fire_due_schedules(worker: Worker) -> bool:
    """Fire the schedules that are due; true if there may be more."""
    async with worker.database.transaction() as tx:
        schedules = await firing.lease_due_schedules(
            tx, limit=_BATCH_SIZE, lease=worker.settings.lease
        )
    if not schedules:
        return False
    hit_failpoint("fire.taken")
    price_list = await load_current_prices(worker.database, worker.hub, max_age=_MAX_PRICE_AGE)
    for schedule in schedules:
        handle = ids.format_handle(HandleKind.SCHEDULE, schedule.id)
        with structlog.contextvars.bound_contextvars(schedule=handle):
            try:
                await _fire_schedule(worker, schedule, price_list)
            except Unavailable:
                raise
            except Exception:  # one schedule must not stop the others; its lease will lapse
                log.exception("schedule.broken")
    worker.events.claim.set()
    return len(schedules) == _BATCH_SIZE


async def _fire_schedule(
    worker: Worker, schedule: ScheduleSnapshot, price_list: HardwarePrices | None
) -> None:
    due = DueFiring.from_schedule(schedule)
    try:
        async with worker.database.transaction() as tx:
            if not await firing.lock_firing(tx, due):
                return
            outcome = await _apply_firing(tx, worker, due, price_list)
            hit_failpoint("fire.written")
        hit_failpoint("fire.committed")
    except Unavailable:
        raise
    except HoldfastError as error:
        outcome = FiringOutcome.REFUSED
        async with worker.database.transaction() as tx:
            await firing.record_firing(tx, due, outcome, code=error.code, message=str(error))
    log.info("schedule.fired", became=outcome)


async def _apply_firing(
    tx: Transaction, worker: Worker, due: DueFiring, price_list: HardwarePrices | None
) -> FiringOutcome:
    """Submit the job of a firing, or skip it as the schedule says; an error commits nothing."""
    schedule = due.schedule
    if due.is_late and schedule.missed is MissedPolicy.SKIP:
        await firing.record_firing(tx, due, FiringOutcome.MISSED)
        return FiringOutcome.MISSED
    if schedule.overlap is OverlapPolicy.SKIP:
        unfinished = await firing.find_unfinished_job(tx, schedule.id)
        if unfinished is not None:
            await firing.record_firing(tx, due, FiringOutcome.SKIPPED, job_id=unfinished)
            return FiringOutcome.SKIPPED
    rate = _price_schedule(schedule, price_list)
    await _expect_approved_price(tx, schedule, rate)
    job = await lifecycle.submit_job(
        tx,
        subject_id=schedule.subject_id,
        kind=schedule.kind,
        namespace=schedule.namespace,
        title=schedule.title,
        spec=schedule.spec,
        labels=schedule.labels,
        max_open_jobs=worker.settings.open_jobs,
        workspace_id=schedule.workspace_id,
        rate=rate,
        default_monthly_budget=worker.settings.monthly_budget_micro_usd,
        schedule_id=schedule.id,
    )
    secrets = await sealed_secrets.open_schedule_secrets(tx, worker.vault, schedule.id)
    await sealed_secrets.save_job_secrets(tx, worker.vault, job.id, schedule.subject_id, secrets)
    await firing.record_firing(tx, due, FiringOutcome.LAUNCHED, job_id=job.id)
    return FiringOutcome.LAUNCHED


async def _expect_approved_price(tx: Transaction, schedule: Schedule, rate: Rate | None) -> None:
    """Refuse a price that a person would have to approve, and that is above the one they know."""
    if schedule.workspace_id is None:
        return
    threshold = await firing.get_confirm_threshold(tx, schedule.workspace_id)
    ceiling = None if rate is None else rate.ceiling_micro_usd
    known_ceiling = schedule.ceiling_micro_usd
    if threshold is None or ceiling is None or known_ceiling is None:
        return
    if ceiling > threshold and ceiling > known_ceiling:
        raise NotAgreedTo(ceiling_micro_usd=ceiling, threshold_micro_usd=threshold)


def _price_schedule(schedule: Schedule, price_list: HardwarePrices | None) -> Rate | None:
    """Price a job as a launch would, by today's prices; the price of a call is not known."""
    if schedule.kind != JobKind.HUB_JOB:
        return None
    if price_list is None:
        raise Conflict(
            "Hugging Face did not return its hardware prices, so the price of this job is not "
            "known and nothing was launched."
        )
    try:
        spec = HubJobSpec.model_validate(schedule.spec)
    except ValidationError:
        raise Invalid(
            "The request was valid when the schedule was created and is not valid any more, so "
            "nothing was launched. Delete the schedule and create a new one."
        ) from None
    max_cost = schedule.most_micro_usd
    return price_job(spec, price_list, None if max_cost is None else to_usd(max_cost))
