"""The comparison of a restored database with the Hub, before anything is launched again.

Rows of a backup are older than the world. Each subject whose rows came from one is compared until
the settle window has passed and the listings were complete three times:

- a run with our labels that no row knows belongs to a job that was launched after the backup: the
  job is claimed for that run, and bound to it; if there is no such job, it is made again;
- a call that was unfinished leaves no trace at the Hub, so it fails: nobody knows how it went;
- firings of schedules up to the restore count as missed.

Only then are the subject's jobs launched again. Nothing here sends a create request.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from http import HTTPStatus
from typing import Final
from uuid import UUID

import anyio
import structlog
from pydantic import TypeAdapter

from schema.accounts import credentials, restored_subjects
from schema.accounts.credentials import DecryptedToken
from schema.accounts.restored_subjects import RestoreLease
from schema.billing.pricing import HardwarePrices
from schema.common import ids
from schema.common.errors import Invalid, Unavailable
from schema.common.ids import HandleKind
from schema.db.database import Transaction
from schema.hub.client import HubError, HubJson, HubRejected, parse_response
from schema.hub.job import RemoteJob
from schema.hub.job_request import read_request
from schema.hub.labels import (
    APP_LABEL,
    APP_NAME,
    JOB_LABEL,
    RUN_LABEL,
    RUN_VARIABLE,
    SERVER_LABEL,
)
from schema.hub.prices import load_current_prices
from schema.jobs import adoption, lifecycle
from schema.jobs.adoption import JobAtRestore, UntrackedRun
from schema.jobs.tables import JobKind, JobState
from schema.schedules import firing
from workers.context import Worker
from workers.hub.job_ending import ACTIVE_STAGES
from workers.loops.reconcile_runs import created_at_key, hold_if_token_rejected

_BATCH_SIZE: Final = 4
_WHOAMI_TIMEOUT: Final = timedelta(seconds=15)
_MAX_PRICE_AGE: Final = timedelta(hours=1)
_RETRY_AFTER: Final = timedelta(seconds=30)
_MAX_RECHECK_INTERVAL: Final = timedelta(minutes=1)
_ID_SLACK: Final = timedelta(minutes=10)
"""How far the clock of a service, which makes the ids of jobs, may be from that of Postgres."""
_MAX_MILLISECONDS: Final = 4_102_444_800_000
"""The year 2100: a label may name a job that nobody has made."""
_FINAL_STATES: Final = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
_INVISIBLE_STATUSES: Final = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})

log = structlog.stdlib.get_logger()


class _Organisation(HubJson):
    name: str


class _Account(HubJson):
    """Whose token it is, and where jobs can be."""

    id: str
    name: str
    orgs: list[_Organisation] = []


_ACCOUNT_ADAPTER: Final = TypeAdapter(_Account)


class RunAction(StrEnum):
    """What became of a run that no row knew."""

    ADOPTED = "adopted by its queued job"
    RECREATED = "adopted, its handle made again"
    CANCELLED = "adopted, and cancelled"
    KILLED = "its job is over: being stopped"
    OLDER = "left alone: it is older than the backup"
    OVER = "left alone: its job was over in the backup"
    SUPERSEDED = "left alone: its job has another run"
    FOREIGN = "left alone: its job is not theirs"


_ADOPTIONS: Final = frozenset({RunAction.ADOPTED, RunAction.RECREATED})


@dataclass(frozen=True, slots=True)
class RunFinding:
    """One run at the Hub that no row knew."""

    run: UntrackedRun
    action: RunAction


@dataclass(slots=True)
class Comparison:
    """What the comparison of one subject has shown."""

    lease: RestoreLease
    findings: list[RunFinding] = field(default_factory=list[RunFinding])
    failed_calls: int = 0
    missed_firings: int = 0
    window_left: timedelta | None = None
    """How long nothing is launched yet; None if the subject is reconciled."""
    error: str | None = None
    """Why it could not be compared."""


class _DryRun(Exception):  # not an error, so no name that ends with Error
    """Takes back what a dry run has done in its transaction."""


async def reconcile_restored_subjects(worker: Worker) -> bool:
    """Compare the restored subjects that are due; true if there may be more."""
    async with worker.database.transaction() as tx:
        leases = await restored_subjects.lease_restored_subjects(
            tx, limit=_BATCH_SIZE, lease=worker.settings.lease
        )
    async with anyio.create_task_group() as group:
        for lease in leases:
            group.start_soon(compare_subject, worker, lease)
    return len(leases) == _BATCH_SIZE


async def compare_subject(
    worker: Worker, lease: RestoreLease, *, cancels: bool = False, dry_run: bool = False
) -> Comparison:
    """Compare one subject with the Hub.

    Args:
        cancels: cancel the jobs that are adopted, if they still run.
        dry_run: change nothing.
    """
    comparison = Comparison(lease)
    with structlog.contextvars.bound_contextvars(subject=lease.subject_id):
        try:
            await _compare(worker, comparison, cancels=cancels, dry_run=dry_run)
        except (HubError, Unavailable) as error:
            comparison.error = str(error)
            log.warning("restore.not_compared", error=str(error))
            if dry_run:
                return comparison
            with suppress(Unavailable):
                async with worker.database.transaction() as tx:
                    await restored_subjects.postpone_comparison(
                        tx, lease, recheck_after=error.retry_after or _RETRY_AFTER
                    )
        except Exception:  # one subject must not stop the others; the lease will lapse
            comparison.error = "This is a bug in Holdfast: the log has the details."
            log.exception("restore.broken")
    return comparison


async def _compare(worker: Worker, comparison: Comparison, *, cancels: bool, dry_run: bool) -> None:
    lease = comparison.lease
    async with worker.database.transaction() as tx:
        credential = await credentials.load_token(tx, worker.vault, lease.subject_id)
        namespaces = await adoption.list_namespaces(tx, lease.subject_id)
        # Of the restored database: this worker may have been started before.
        deployment_id = await restored_subjects.read_deployment_id(tx)
    if credential is None:
        comparison.error = "Their token cannot be used any more; their next call brings another."
        return
    try:
        jobs = await _list_jobs(worker, deployment_id, credential, namespaces)
    except HubRejected as error:
        if not dry_run:
            await hold_if_token_rejected(worker, lease.subject_id, credential, error)
        raise
    prices = await load_current_prices(worker.database, worker.hub, max_age=_MAX_PRICE_AGE)
    with suppress(_DryRun):
        async with worker.database.transaction() as tx:
            comparison.findings += await _adopt_unknown_runs(
                tx, worker, lease, jobs, prices, cancels=cancels
            )
            if dry_run:
                raise _DryRun
    with suppress(_DryRun):
        async with worker.database.transaction() as tx:
            settle = worker.settings.settle
            comparison.window_left = await restored_subjects.record_comparison(
                tx,
                lease,
                settle_window=settle + await worker.clock.read_lead(tx, settle),
                recheck_after=min(_MAX_RECHECK_INTERVAL, settle / 10),
            )
            if comparison.window_left is None:
                await _end_restore(tx, comparison)
            if dry_run:
                raise _DryRun
    if dry_run:
        return
    for finding in comparison.findings:
        log.warning("run.adopted", run=str(finding.run.run_id), became=finding.action)
    worker.events.poll.set()
    worker.events.reconcile.set()
    worker.events.claim.set()


async def _end_restore(tx: Transaction, comparison: Comparison) -> None:
    lease = comparison.lease
    comparison.failed_calls = await adoption.fail_doubtful_calls(
        tx, lease.subject_id, created_until=lease.rows_until
    )
    comparison.missed_firings = await firing.miss_past_firings(
        tx, lease.subject_id, until=lease.rows_until
    )


async def _list_jobs(
    worker: Worker,
    deployment_id: UUID,
    credential: DecryptedToken,
    namespaces: Mapping[str, bool],
) -> list[tuple[str, RemoteJob]]:
    """List the jobs that this deployment has launched for a subject, wherever they may be.

    Raises:
        HubError: a listing is not complete. One of a namespace in which nothing of theirs can have
            been launched may be refused.
    """
    response = await worker.hub.send(
        "GET", f"{worker.hub.url}/api/whoami-v2", credential.token, timeout=_WHOAMI_TIMEOUT
    )
    account: _Account = parse_response(response, _ACCOUNT_ADAPTER)
    names = {account.name, *(org.name for org in account.orgs), *namespaces}
    listed_jobs = list[tuple[str, RemoteJob]]()
    for namespace in sorted(names):
        try:
            listed = await worker.hub.list_jobs(
                namespace, credential.token, label=f"{APP_LABEL}={APP_NAME}"
            )
        except HubRejected as error:
            if error.status in _INVISIBLE_STATUSES and not namespaces.get(namespace, False):
                continue
            raise
        listed_jobs += [
            (namespace, job)
            for job in listed
            if job.created_by is not None
            and job.created_by.id == account.id
            and (job.labels or {}).get(SERVER_LABEL) == str(deployment_id)
        ]
    return listed_jobs


async def _adopt_unknown_runs(
    tx: Transaction,
    worker: Worker,
    lease: RestoreLease,
    jobs: Sequence[tuple[str, RemoteJob]],
    prices: HardwarePrices | None,
    *,
    cancels: bool,
) -> list[RunFinding]:
    runs = dict[UUID, tuple[UntrackedRun, RemoteJob]]()
    for namespace, job in sorted(jobs, key=lambda entry: created_at_key(entry[1])):
        run = _read_run(lease.subject_id, namespace, job)
        if run is not None:
            runs.setdefault(run.run_id, (run, job))  # polling sees a second one of a run
    known_runs, known_jobs = await adoption.find_known_runs(
        tx, lease.subject_id, list(runs), [run.remote_id for run, _ in runs.values()]
    )
    unknown_runs = defaultdict[UUID, list[tuple[UntrackedRun, RemoteJob]]](list)
    for run, job in runs.values():
        if run.run_id not in known_runs and run.remote_id not in known_jobs:
            unknown_runs[run.job_id].append((run, job))
    known = await adoption.lock_jobs(tx, lease.subject_id, list(unknown_runs))
    findings = list[RunFinding]()
    for job_id in sorted(unknown_runs):
        *earlier, (run, job) = unknown_runs[job_id]
        action = await _adopt_run(tx, worker, lease, run, job, known.get(job_id), prices)
        is_live = job.stage in ACTIVE_STAGES
        if cancels and is_live and action in _ADOPTIONS:
            await lifecycle.cancel_job(tx, job_id, subject_id=lease.subject_id)
            action = RunAction.CANCELLED
        findings.append(RunFinding(run, action))
        for earlier_run, earlier_job in earlier:
            findings.append(await _settle_superseded(tx, lease, earlier_run, earlier_job, action))
    return findings


async def _adopt_run(
    tx: Transaction,
    worker: Worker,
    lease: RestoreLease,
    run: UntrackedRun,
    job: RemoteJob,
    known: JobAtRestore | None,
    prices: HardwarePrices | None,
) -> RunAction:
    if known is None:
        action = await _recreate_job(tx, lease, run, job, prices)
    elif known.kind != JobKind.HUB_JOB:
        action = RunAction.FOREIGN
    elif known.state in _FINAL_STATES:
        return await _settle_orphan(tx, lease, run, job, known)
    else:
        action = RunAction.ADOPTED
        if known.doubtful_run_id is not None:
            await adoption.settle_earlier_run(tx, known.doubtful_run_id)
    if action not in _ADOPTIONS:
        return action
    is_adopted = await adoption.adopt_run(
        tx,
        run,
        earliest=lease.backup_at,
        max_stage_duration=worker.settings.scheduling_deadline,
    )
    return action if is_adopted else RunAction.SUPERSEDED


async def _settle_orphan(
    tx: Transaction, lease: RestoreLease, run: UntrackedRun, job: RemoteJob, known: JobAtRestore
) -> RunAction:
    """Stop a run whose job was cancelled or given up since the restore."""
    ended_since = known.finished_at is not None and known.finished_at >= lease.restored_at
    if not ended_since or job.stage not in ACTIVE_STAGES:
        return RunAction.OVER
    await adoption.record_orphan(tx, run, earliest=lease.backup_at)
    return RunAction.KILLED


async def _settle_superseded(
    tx: Transaction, lease: RestoreLease, run: UntrackedRun, job: RemoteJob, newest: RunAction
) -> RunFinding:
    """Stop an earlier run of a job whose newest one was adopted, if it still runs."""
    if newest not in {*_ADOPTIONS, RunAction.CANCELLED} or job.stage not in ACTIVE_STAGES:
        return RunFinding(run, RunAction.SUPERSEDED)
    await adoption.record_orphan(tx, run, earliest=lease.backup_at)
    return RunFinding(run, RunAction.KILLED)


async def _recreate_job(
    tx: Transaction,
    lease: RestoreLease,
    run: UntrackedRun,
    job: RemoteJob,
    prices: HardwarePrices | None,
) -> RunAction:
    """Make a job again that is younger than the backup; retention has deleted an older one."""
    created_at = _creation_time(run.job_id)
    if created_at < lease.backup_at - _ID_SLACK:
        return RunAction.OLDER
    request = read_request(job)
    is_made = await adoption.recreate_job(
        tx,
        run,
        title=request.title,
        labels=request.labels,
        spec=request.spec.to_stored_json(),
        created_at=created_at,
        has_secrets=request.has_unknown_secrets,
        rate=request.price(prices),
    )
    return RunAction.RECREATED if is_made else RunAction.FOREIGN


def _read_run(subject_id: str, namespace: str, job: RemoteJob) -> UntrackedRun | None:
    """Read which run a job is; None if it is a copy that a person made, or nobody's."""
    labels, environment = job.labels or {}, job.environment or {}
    run_name = environment.get(RUN_VARIABLE)
    if job.is_copy or run_name is None or run_name != labels.get(RUN_LABEL):
        return None
    try:
        return UntrackedRun(
            job_id=ids.parse_handle(HandleKind.JOB, labels[JOB_LABEL]),
            run_id=UUID(run_name),
            subject_id=subject_id,
            namespace=namespace,
            remote_id=job.id,
            stage=job.stage,
            created_at=job.creation_time,
            addresses=job.addresses,
        )
    except (KeyError, ValueError, Invalid):
        return None


def _creation_time(job_id: UUID) -> datetime:
    """Return when a job was made, which its id says (RFC 9562)."""
    return datetime.fromtimestamp(min(job_id.int >> 80, _MAX_MILLISECONDS) / 1000, UTC)
