"""Views of jobs, logs and the account: the JSON that clients see.

Rows never leave the process; views do.
"""

from datetime import datetime
from typing import Final, Self

from schema.accounts.tables import Hold
from schema.artifacts.log_store import LogExtent, NumberedLine
from schema.common import ids
from schema.common.ids import HandleKind
from schema.common.text import shorten
from schema.jobs.queries import JobStatus, UpstreamState
from schema.jobs.tables import JobState, Reason
from service.views import job_summary, job_warnings
from service.views.base import Detail, View
from service.views.diagnosis.diagnose import diagnose
from service.views.job_cost import summarize_cost
from service.views.job_kinds import describe_kind
from service.views.money import CostView, MonthView

LOG_TAIL_LINES: Final = 20
_DIGEST_CHARS: Final = 12
"""So many characters of a digest tell the requests of one subject apart."""


class ProgressView(View):
    """How far a job is: `done` of `total`."""

    done: int | None = None
    total: int | None = None
    message: str | None = None


class JobView(View):
    """A job."""

    job_id: str
    kind: Detail[str]
    state: JobState
    reason: Reason | None
    hold: Detail[Hold | None]
    """Why it does not go on for now."""
    version: int
    """Grows with every change."""
    title: Detail[str]
    summary: str
    next_step: str
    poll_after_seconds: int | None
    """None: nothing more will change."""
    namespace: Detail[str]
    """The account that runs it, and pays."""
    workspace_id: Detail[str | None]
    flavor: Detail[str | None]
    timeout: Detail[str | None]
    labels: Detail[dict[str, str]]
    rerun_of: Detail[str | None]
    """The job it repeats."""
    schedule_id: Detail[str | None]
    """The schedule that launched it."""
    after: Detail[list[str]]
    """The jobs that had to end before it began."""
    digest: Detail[str | None]
    """The same for the same request, whoever launched it and when."""
    attempt: Detail[int]
    upstream: Detail[UpstreamState]
    """What exists at Hugging Face."""
    stage: Detail[str | None]
    """What Hugging Face calls its state."""
    exit_code: Detail[int | None]
    message: Detail[str | None]
    """What Hugging Face said about it."""
    evidence: Detail[list[str]]
    """What shows the cause of a failure."""
    warnings: Detail[list[str]]
    """What may go wrong before it has finished."""
    log_tail: Detail[list[str] | None]
    """Last lines of a failed command."""
    created_at: Detail[datetime]
    progress: Detail[ProgressView | None]
    """How far it is, if that is known."""
    started_at: Detail[datetime | None]
    finished_at: Detail[datetime | None]
    cost: CostView
    status_as_of: Detail[datetime]
    url: Detail[str | None]
    """Its page at Hugging Face."""
    exposed_urls: Detail[list[str]]
    """While it runs, with your token as bearer."""
    ssh_url: Detail[str | None]

    @classmethod
    def from_status(
        cls, status: JobStatus, hub_url: str, lines: list[NumberedLine] | None = None
    ) -> Self:
        """Show a job.

        `lines` are the last lines of its log and those that show why it failed; None if the log was
        not read.
        """
        wait = job_summary.poll_interval(status)
        diagnosis = diagnose(status, lines or []) if status.state is JobState.FAILED else None
        warnings = job_warnings.list_warnings(status)
        workspace_id = status.workspace_id
        addresses = status.addresses if status.upstream is UpstreamState.LIVE else None
        return cls(
            job_id=job_summary.job_handle(status),
            kind=status.kind,
            state=status.state,
            reason=status.reason,
            hold=None if wait is None else job_summary.effective_hold(status),
            version=status.version,
            title=job_summary.job_title(status),
            summary=" ".join([job_summary.summarize_job(status, diagnosis), *warnings]),
            next_step=job_summary.suggest_next_step(status, diagnosis),
            poll_after_seconds=None if wait is None else round(wait.total_seconds()),
            namespace=status.namespace,
            workspace_id=workspace_id and ids.format_handle(HandleKind.WORKSPACE, workspace_id),
            flavor=status.flavor,
            timeout=job_summary.format_timeout(status),
            labels=status.labels,
            rerun_of=status.rerun_of and ids.format_handle(HandleKind.JOB, status.rerun_of),
            schedule_id=status.schedule_id
            and ids.format_handle(HandleKind.SCHEDULE, status.schedule_id),
            after=[
                ids.format_handle(HandleKind.JOB, parent.job_id) for parent in status.after or []
            ],
            digest=None if status.digest is None else status.digest.hex()[:_DIGEST_CHARS],
            attempt=status.attempt,
            upstream=status.upstream,
            stage=status.stage,
            exit_code=status.exit_code,
            message=status.message,
            evidence=diagnosis.evidence if diagnosis else [],
            warnings=warnings,
            log_tail=None if lines is None else shorten_log_tail(lines),
            created_at=status.created_at,
            progress=None if status.progress is None else ProgressView(**status.progress),
            started_at=status.started_at,
            finished_at=status.finished_at,
            cost=CostView.from_cost(summarize_cost(status)),
            status_as_of=_status_as_of(status),
            url=_job_url(status, hub_url),
            exposed_urls=addresses["exposed"] if addresses else [],
            ssh_url=addresses["ssh"] if addresses else None,
        )


class LaunchedView(JobView):
    """The answer to a launch."""

    possible_duplicate_of: str | None
    """A job of the same request, launched minutes ago without an idempotency_key."""
    notes: list[str]
    """What came from its workspace, and what to know before relying on it."""


class HandleError(View):
    """Why one of several jobs cannot be shown."""

    job_id: str
    code: str
    message: str


class JobsView(View):
    """The jobs of a request, and an error for each handle that names none."""

    jobs: list[JobView]
    errors: list[HandleError]


class WaitView(JobsView):
    """The jobs of a wait, as they are at its end."""

    changed: list[str]
    """Those that have changed since since_version, or since the call began."""
    done: bool
    """None of them will change any more."""
    timed_out: bool
    """The wait ended before its condition was true."""
    next_step: str
    notes: Detail[list[str]] = []
    """What was done in another way than was asked for."""


class JobPage(View):
    """Jobs, the newest first."""

    jobs: list[JobView]
    next_cursor: str | None
    """Pass as cursor for older ones."""


class LogLine(View):
    """One line of a log; numbers start at 0."""

    number: int
    text: str


class LogView(View):
    """A part of a job's log."""

    job_id: str
    state: JobState
    lines: list[LogLine]
    length: int
    """Lines printed so far."""
    not_kept: int
    """How many lines were dropped from the middle of a log that is too large."""
    next_cursor: int
    """The number of the next line to be read."""
    complete: bool
    """Nothing follows, now or later."""
    next_step: str

    @classmethod
    def from_lines(
        cls, status: JobStatus, lines: list[NumberedLine], *, next_line: int, extent: LogExtent
    ) -> Self:
        """Show lines of a log; all lines before number `next_line` have been read or searched."""
        job_id, length = job_summary.job_handle(status), extent.length
        wait = job_summary.poll_interval(status)
        next_call = f'Call job_logs(job_id="{job_id}", cursor={next_line})'
        if next_line < length:
            next_step = f"{next_call} for the lines that follow."
        elif wait is not None:
            next_step = f"{next_call} in {wait.total_seconds():.0f}s for what is written by then."
        elif status.state is JobState.SUCCEEDED and not describe_kind(status.kind).is_call:
            next_step = "Nothing is left to do."
        else:
            next_step = job_summary.suggest_next_step(status)
        return cls(
            job_id=job_id,
            state=status.state,
            lines=[LogLine(number=line.number, text=line.text) for line in lines],
            length=length,
            not_kept=extent.dropped_lines,
            next_cursor=next_line,
            complete=next_line >= length and wait is None,
            next_step=next_step,
        )


class AccountView(View):
    """The caller, and what they may do."""

    subject_id: str
    """The immutable id of the account; all their rows have it."""
    name: str
    token_kind: str
    token_expires_at: datetime | None
    scopes: list[str]
    missing_scopes: list[str]
    namespaces: list[str]
    """Accounts that jobs can be launched as, their own first."""
    hold: str | None
    """Why none of their jobs goes on for now."""
    open_jobs: int
    month: MonthView


def shorten_log_tail(lines: list[NumberedLine]) -> list[str]:
    """Return the last lines of a log, each shortened to its beginning and its end."""
    return [shorten(line.text, 500, keeps_end=True) for line in lines[-LOG_TAIL_LINES:]]


def _status_as_of(status: JobStatus) -> datetime:
    watched = status.upstream in (UpstreamState.LIVE, UpstreamState.STOPPING)
    return status.seen_at if watched and status.seen_at is not None else status.read_at


def _job_url(status: JobStatus, hub_url: str) -> str | None:
    if status.remote_id is None:
        return None
    return f"{hub_url}/jobs/{status.namespace}/{status.remote_id}"
