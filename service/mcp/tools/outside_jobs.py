"""Jobs that the caller has at the Hub without a handle: list them, and adopt one.

An adoption is made with the caller's own authority: their token has to show the job. A job that it
does not show is unknown, whoever has it. Each person has one handle of a job, whose id follows from
the job; so the same adoption twice, or twice at once, gives the same handle, and nobody learns that
somebody else has one too. Nothing at the Hub is changed.

What we have launched ourselves has its handle already, also while its run is in doubt: the label of
the run leads to it.
"""

import re
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Final
from uuid import UUID

import structlog

from schema.accounts import restored_subjects
from schema.common import ids
from schema.common.errors import HoldfastError, Invalid, NotFound, Unauthenticated, Unavailable
from schema.common.ids import HandleKind
from schema.common.text import quote_value
from schema.db.database import Transaction
from schema.db.storable import refuse_oversized_spec
from schema.hub import job_reads
from schema.hub.client import HubError, HubRejected
from schema.hub.job import RemoteJob
from schema.hub.job_request import read_request
from schema.hub.labels import RUN_LABEL, RUN_VARIABLE
from schema.jobs import adoption
from schema.jobs.adoption import UntrackedRun
from service.auth.caller import Caller, NamespaceDenied
from service.auth.client_info import CURRENT_CLIENT
from service.jobs import operations
from service.runtime.context import App
from service.runtime.request_ids import CURRENT_REQUEST_ID
from service.views.jobs import JobView
from service.views.outside_jobs import OutsideJobEntry
from service.views.pages import take_page

_JOB_ID: Final = re.compile(r"[0-9a-f]{24}")
"""The form of every id of the Hub."""
_CURSOR: Final = re.compile(r"([0-9a-f]{24})\.([!-~]{0,400})")
_NO_JOB_ID: Final = "0" * 24
DEFAULT_LIMIT: Final = 10
_TIMEOUT: Final = timedelta(seconds=10)
_RETRY_AFTER: Final = timedelta(seconds=5)
_MAX_RETRY_AFTER: Final = timedelta(minutes=5)
_COMPARISON_PAUSE: Final = timedelta(minutes=1)
_MAX_PAGES: Final = 5
"""Pages of the Hub that one call reads."""
_INVISIBLE: Final = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_SPEC_SIZE_CONSTRAINT: Final = "ck_job_payload_spec_size"

log = structlog.stdlib.get_logger()


class NoSuchOutsideJob(NotFound):
    """The caller's token shows no such job."""

    def __init__(self, hub_job_id: str, namespace: str) -> None:
        super().__init__("job", f"{hub_job_id} at Hugging Face that you can see as {namespace}")

    @property
    def code(self) -> str:
        """The code of anything that is unknown."""
        return NotFound.__name__


@dataclass(frozen=True, slots=True)
class AdoptedJob:
    """The handle of a job at the Hub."""

    view: JobView
    is_new: bool
    """False: it had a handle before."""
    withholds_log: bool = False
    """Whether it has secrets that are not known here."""

    @property
    def sentence(self) -> str:
        """What happened, and what is different for such a job."""
        if not self.is_new:
            return f"It has the handle {self.view.job_id} already."
        log_note = ""
        if self.withholds_log:
            log_note = (
                " It has secrets that Holdfast does not know, so its log is withheld here; "
                f"{self.view.url} has it."
            )
        return f"It is {self.view.job_id} from now on, and is being looked at.{log_note}"


@dataclass(frozen=True, slots=True)
class OutsidePage:
    """A part of the jobs without a handle, newest first."""

    entries: list[OutsideJobEntry]
    next_cursor: str | None


async def adopt_job(app: App, caller: Caller, hub_job_id: str, namespace: str | None) -> AdoptedJob:
    """Give a job of the caller's at the Hub a handle; if it has one, return that.

    Raises:
        Invalid: it is no id of a job there.
        NotFound: the caller's token shows no such job.
        LimitReached: the caller has as many unfinished jobs as they may have.
        Unavailable: the Hub or the database does not answer, or a restore is not over.
    """
    remote_id = _parse_job_id(hub_job_id)
    place = caller.resolve_namespace(namespace)
    job = await _inspect(app, caller, place, remote_id)
    prices = None
    try:
        prices = await app.price_cache.current()
    except Unavailable:
        log.warning("adoption.unpriced")
    async with app.transaction(caller) as tx:
        await _expect_compared(tx, caller)
        job_id = await _find_handle(tx, caller, place, job)
        is_new = job_id is None
        request = read_request(job)
        if job_id is None:
            job_id = _derive_job_id(caller, place, job)
            run = UntrackedRun(
                job_id=job_id,
                run_id=ids.new_id(),
                subject_id=caller.subject_id,
                namespace=place,
                remote_id=job.id,
                stage=job.stage,
                created_at=job.creation_time,
                addresses=job.addresses,
            )
            with refuse_oversized_spec(_SPEC_SIZE_CONSTRAINT, consequence="nothing was adopted"):
                is_new = await adoption.recreate_job(
                    tx,
                    run,
                    title=request.title,
                    labels=request.labels,
                    spec=request.spec.to_stored_json(),
                    created_at=job.creation_time or datetime.now(UTC),
                    has_secrets=request.has_unknown_secrets,
                    rate=request.price(prices),
                    adoption={"missing": request.missing},
                    actor=caller.subject_id,
                    client=CURRENT_CLIENT.get(),
                    request_id=CURRENT_REQUEST_ID.get(),
                )
            if is_new:  # else the same adoption has just been made beside this one
                await adoption.adopt_run(
                    tx, run, earliest=_EPOCH, max_stage_duration=None, actor=caller.subject_id
                )
                await adoption.expect_open_jobs_within(
                    tx, caller.subject_id, max_open_jobs=app.max_open_jobs
                )
        handle = ids.format_handle(HandleKind.JOB, job_id)
        view = await operations.read_job_view(tx, app, caller, handle)
    if is_new:
        app.wake_worker(handle)
        log.info("job.adopted", job=handle, remote=job.id)
    return AdoptedJob(view, is_new, request.has_unknown_secrets)


async def list_outside_jobs(
    app: App, caller: Caller, namespace: str | None, *, cursor: str | None, limit: int
) -> OutsidePage:
    """List the jobs in a namespace at the Hub that the caller has no handle of.

    Raises:
        Invalid: the cursor is not one of this list.
        Unavailable: the Hub or the database does not answer, or a restore is not over.
    """
    place = caller.resolve_namespace(namespace)
    last_id, hub_cursor = _parse_cursor(cursor)
    async with app.transaction(caller) as tx:
        await _expect_compared(tx, caller)
    entries = list[OutsideJobEntry]()
    cursors = list[str]()
    following: str | None = None
    for _ in range(_MAX_PAGES):
        jobs, following = await _list_page(app, caller, place, hub_cursor)
        listed_ids = [job.id for job in jobs]
        if last_id in listed_ids:  # if it is gone, some are shown twice, and none is left out
            jobs = jobs[listed_ids.index(last_id) + 1 :]
        last_id = None
        for job in await _select_without_handle(app, caller, place, jobs):
            entries.append(OutsideJobEntry.from_job(job, place, app.hub_url))
            cursors.append(f"{job.id}.{hub_cursor or ''}")
        if following is None or len(entries) > limit:
            break
        hub_cursor = following
    page, has_more = take_page(entries, limit=limit, default_limit=DEFAULT_LIMIT)
    if has_more:
        return OutsidePage(page, cursors[len(page) - 1])
    return OutsidePage(page, None if following is None else f"{_NO_JOB_ID}.{following}")


async def _expect_compared(tx: Transaction, caller: Caller) -> None:
    """Refuse while it is not known which jobs at the Hub are those of restored rows.

    A job that was queued in the backup may have been launched since. Under another handle it would
    be taken for a job from elsewhere, and the queued one would be launched once more.

    Raises:
        Unavailable: the jobs of the caller have not been compared with the Hub since a restore.
    """
    if await restored_subjects.is_uncompared(tx, caller.subject_id):
        raise Unavailable(
            "The list of your jobs",
            effect="none is adopted until it has been compared with the Hub after a restore",
            retry_after=_COMPARISON_PAUSE,
        )


async def _inspect(app: App, caller: Caller, namespace: str, remote_id: str) -> RemoteJob:
    no_such_job = NoSuchOutsideJob(remote_id, namespace)
    with _as_refusals(no_such_job):
        job = await job_reads.inspect_job(
            app.hub, namespace, remote_id, caller.token, timeout=_TIMEOUT
        )
    if job is None or job.id != remote_id:
        raise no_such_job
    return job


async def _list_page(
    app: App, caller: Caller, namespace: str, cursor: str | None
) -> tuple[list[RemoteJob], str | None]:
    with _as_refusals(NamespaceDenied(namespace, caller.name, caller.token_kind)):
        return await job_reads.list_job_page(
            app.hub, namespace, caller.token, cursor=cursor, timeout=_TIMEOUT
        )


async def _select_without_handle(
    app: App, caller: Caller, namespace: str, jobs: list[RemoteJob]
) -> list[RemoteJob]:
    run_ids = {job.id: run_id for job in jobs if (run_id := _read_run_id(job)) is not None}
    async with app.transaction(caller) as tx:
        handles = await adoption.find_handles(
            tx,
            caller.subject_id,
            namespace,
            remote_ids=[job.id for job in jobs],
            run_ids=list(run_ids.values()),
        )
    return [
        job
        for job in jobs
        if job.id not in handles
        and run_ids.get(job.id) not in handles
        and _JOB_ID.fullmatch(job.id)  # else it could not be adopted
    ]


async def _find_handle(
    tx: Transaction, caller: Caller, namespace: str, job: RemoteJob
) -> UUID | None:
    """Return the caller's job behind a job of the Hub, also while our own launch is in doubt."""
    run_id = _read_run_id(job)
    handles = await adoption.find_handles(
        tx,
        caller.subject_id,
        namespace,
        remote_ids=[job.id],
        run_ids=[] if run_id is None else [run_id],
    )
    return next(iter(handles.values()), None)


def _read_run_id(job: RemoteJob) -> UUID | None:
    """Return the run that a job is of; None of a copy, and of a job that is not ours.

    Its label names the run, and so does its environment, which nobody can edit.
    """
    names = {(job.labels or {}).get(RUN_LABEL), (job.environment or {}).get(RUN_VARIABLE)} - {None}
    if job.is_copy or len(names) != 1:
        return None
    with suppress(ValueError):
        return UUID(names.pop())
    return None


def _derive_job_id(caller: Caller, namespace: str, job: RemoteJob) -> UUID:
    return ids.derive_id(job.creation_time or _EPOCH, caller.subject_id, namespace, job.id)


def _parse_job_id(text: str) -> str:
    remote_id = text.strip().lower()
    if not _JOB_ID.fullmatch(remote_id):
        raise Invalid(
            f"hub_job_id: {quote_value(text)} is not the id of a job at Hugging Face, which has 24 "
            f"digits and letters from a to f. It stands at the end of the URL of its page, behind "
            f"its namespace."
        )
    return remote_id


def _parse_cursor(cursor: str | None) -> tuple[str | None, str | None]:
    """Return the last job that was shown, and the Hub's own cursor of its page."""
    if cursor is None:
        return None, None
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise Invalid("cursor: with outside=true it is next_cursor of the page before, as it was.")
    return match[1], match[2] or None


@contextmanager
def _as_refusals(invisible: HoldfastError) -> Generator[None]:
    """Turn the Hub's errors into our own.

    Args:
        invisible: what to raise if the token does not show what was asked for.
    """
    try:
        yield
    except HubRejected as error:
        if error.status == HTTPStatus.UNAUTHORIZED:
            raise Unauthenticated(
                "Hugging Face no longer accepts this token. Sign in again."
            ) from error
        if error.status in _INVISIBLE:
            raise invisible from error
        raise _unavailable(error) from error
    except HubError as error:
        raise _unavailable(error) from error


def _unavailable(error: HubError) -> Unavailable:
    log.warning("hub.unanswered", error=str(error))
    return Unavailable(
        "Hugging Face", retry_after=min(error.retry_after or _RETRY_AFTER, _MAX_RETRY_AFTER)
    )
