"""The fire loop: schedules that are due become ordinary jobs, one for each time.

The job, what became of the firing and the next time are one commit, so a worker that dies before
it has made nothing, and one that dies after it leaves nothing to be made. What a launch would
refuse is written down as what the firing became, and not tried again: the next time is.
"""

from typing import Final

import structlog
from pydantic import ValidationError

from schema.accounts import secrets as sealed_secrets
from schema.billing.budgets import Rate
from schema.billing.pricing import PriceList, rate_of
from schema.common import ids
from schema.common.errors import Conflict, HoldfastError, Invalid, NotAgreedTo, Unavailable
from schema.common.failpoints import reach
from schema.common.ids import Kind
from schema.common.money import usd
from schema.db.database import Transaction
from schema.jobs import lifecycle
from schema.jobs.tables import JobKind
from schema.schedules import firing
from schema.schedules.firing import Due
from schema.schedules.tables import Became, Missed, Overlap, ReadSchedule, Schedule
from schema.specs.hub_job import HubJobSpec
from workers.context import Worker
from workers.loops.schedule_prices import current

_BITE: Final = 20

log = structlog.stdlib.get_logger()


async def fire(worker: Worker) -> bool:
    """Fire what is due; true if there may be more."""
    async with worker.database.transaction() as tx:
        taken = await firing.take(tx, limit=_BITE, lease=worker.settings.lease)
    if not taken:
        return False
    reach("fire.taken")
    price_list = await current(worker)
    for each in taken:
        handle = ids.write(Kind.SCHEDULE, each.id)
        with structlog.contextvars.bound_contextvars(schedule=handle):
            try:
                await _fire(worker, each, price_list)
            except Unavailable:
                raise
            except Exception:  # one schedule must not stop the others; its lease will lapse
                log.exception("schedule.broken")
    worker.bells.claim.ring()
    return len(taken) == _BITE


async def _fire(worker: Worker, taken: ReadSchedule, price_list: PriceList | None) -> None:
    due = Due.of(taken)
    try:
        async with worker.database.transaction() as tx:
            if not await firing.lock(tx, due):
                return
            became = await _carry_out(tx, worker, due, price_list)
            reach("fire.written")
        reach("fire.committed")
    except Unavailable:
        raise
    except HoldfastError as refusal:
        became = Became.REFUSED
        async with worker.database.transaction() as tx:
            await firing.settle(tx, due, became, code=refusal.code, message=str(refusal))
    log.info("schedule.fired", became=became)


async def _carry_out(
    tx: Transaction, worker: Worker, due: Due, price_list: PriceList | None
) -> Became:
    """Make of a firing what its schedule says; nothing is committed if that is refused."""
    schedule = due.schedule
    if due.late and schedule.missed is Missed.SKIP:
        await firing.settle(tx, due, Became.MISSED)
        return Became.MISSED
    if schedule.overlap is Overlap.SKIP:
        unfinished = await firing.unfinished(tx, schedule.id)
        if unfinished is not None:
            await firing.settle(tx, due, Became.SKIPPED, job_id=unfinished)
            return Became.SKIPPED
    rate = _price(schedule, price_list)
    await _expect_agreement(tx, schedule, rate)
    job = await lifecycle.submit(
        tx,
        subject_id=schedule.subject_id,
        kind=schedule.kind,
        namespace=schedule.namespace,
        title=schedule.title,
        spec=schedule.spec,
        labels=schedule.labels,
        most_open=worker.settings.open_jobs,
        workspace_id=schedule.workspace_id,
        rate=rate,
        monthly_budget=worker.settings.monthly_budget,
        schedule_id=schedule.id,
    )
    secrets = await sealed_secrets.open_schedule_secrets(tx, worker.vault, schedule.id)
    await sealed_secrets.save_job_secrets(tx, worker.vault, job.id, schedule.subject_id, secrets)
    await firing.settle(tx, due, Became.LAUNCHED, job_id=job.id)
    return Became.LAUNCHED


async def _expect_agreement(tx: Transaction, schedule: Schedule, rate: Rate | None) -> None:
    """Refuse what a person would be asked about, if it is more than they knew of."""
    if schedule.workspace_id is None:
        return
    threshold = await firing.confirm_above(tx, schedule.workspace_id)
    ceiling = None if rate is None else rate.ceiling_micro_usd
    known = schedule.ceiling_micro_usd
    if threshold is None or ceiling is None or known is None:
        return
    if ceiling > threshold and ceiling > known:
        raise NotAgreedTo(ceiling=ceiling, threshold=threshold)


def _price(schedule: Schedule, price_list: PriceList | None) -> Rate | None:
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
    return rate_of(spec, price_list, None if most is None else usd(most))
