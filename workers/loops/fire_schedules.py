"""The fire loop: schedules that are due become ordinary jobs, one for each time.

The job, what became of the firing and the next time are one commit, so a worker that dies before
it has made nothing, and one that dies after it leaves nothing to be made. What a launch would
refuse is written down as what the firing became, and not tried again: the next time is.
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
    """Fire what is due; true if there may be more."""
    async with worker.database.transaction() as tx:
        taken = await firing.lease_due_schedules(tx, limit=_BATCH_SIZE, lease=worker.settings.lease)
    if not taken:
        return False
    hit_failpoint("fire.taken")
    price_list = await load_current_prices(worker.database, worker.hub, max_age=_MAX_PRICE_AGE)
    for each in taken:
        handle = ids.format_handle(HandleKind.SCHEDULE, each.id)
        with structlog.contextvars.bound_contextvars(schedule=handle):
            try:
                await _fire_schedule(worker, each, price_list)
            except Unavailable:
                raise
            except Exception:  # one schedule must not stop the others; its lease will lapse
                log.exception("schedule.broken")
    worker.events.claim.set()
    return len(taken) == _BATCH_SIZE


async def _fire_schedule(
    worker: Worker, schedule: ScheduleSnapshot, price_list: HardwarePrices | None
) -> None:
    due = DueFiring.from_schedule(schedule)
    try:
        async with worker.database.transaction() as tx:
            if not await firing.lock_firing(tx, due):
                return
            became = await _apply_firing(tx, worker, due, price_list)
            hit_failpoint("fire.written")
        hit_failpoint("fire.committed")
    except Unavailable:
        raise
    except HoldfastError as refusal:
        became = FiringOutcome.REFUSED
        async with worker.database.transaction() as tx:
            await firing.record_firing(tx, due, became, code=refusal.code, message=str(refusal))
    log.info("schedule.fired", became=became)


async def _apply_firing(
    tx: Transaction, worker: Worker, due: DueFiring, price_list: HardwarePrices | None
) -> FiringOutcome:
    """Make of a firing what its schedule says; nothing is committed if that is refused."""
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
    """Refuse what a person would be asked about, if it is more than they knew of."""
    if schedule.workspace_id is None:
        return
    threshold = await firing.get_confirm_threshold(tx, schedule.workspace_id)
    ceiling = None if rate is None else rate.ceiling_micro_usd
    known = schedule.ceiling_micro_usd
    if threshold is None or ceiling is None or known is None:
        return
    if ceiling > threshold and ceiling > known:
        raise NotAgreedTo(ceiling_micro_usd=ceiling, threshold_micro_usd=threshold)


def _price_schedule(schedule: Schedule, price_list: HardwarePrices | None) -> Rate | None:
    """Price a job as a launch would, by today's prices; a call has none that anybody knows."""
    if schedule.kind != JobKind.HUB_JOB:
        return None
    if price_list is None:
        raise Conflict(
            "Hugging Face has not said what hardware costs, so what this may cost is not known "
            "and nothing was launched."
        )
    try:
        spec = HubJobSpec.model_validate(schedule.spec)
    except ValidationError:
        raise Invalid(
            "The request was checked when the schedule was made, and is not taken any more, so "
            "nothing was launched. Delete the schedule and create it anew."
        ) from None
    most = schedule.most_micro_usd
    return price_job(spec, price_list, None if most is None else to_usd(most))
