"""Views of jobs, logs and the account: the JSON that clients see.

Rows never leave the process; views do.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Self

from typing_extensions import override

from schema.accounts.tables import Hold
from schema.artifacts.log_store import LogExtent, NumberedLine
from schema.common import ids
from schema.common.ids import HandleKind
from schema.common.money import format_usd, to_micro_usd
from schema.common.text import shorten
from schema.jobs.queries import JobStatus, UpstreamState, WebhookStatus
from schema.jobs.tables import JobState, Reason
from service.views import job_summary, job_warnings
from service.views.answers import shorten_json
from service.views.base import Detail, View
from service.views.diagnosis.diagnose import Diagnosis, diagnose
from service.views.job_cost import summarize_cost
from service.views.job_kinds import describe_kind
from service.views.money import CostView, MonthView
from service.views.pages import EntryView
from service.views.text import fit_text, take_fitting_end, take_fitting_texts

LOG_TAIL_LINES: Final = 20
_MAX_LOG_TAIL_BYTES: Final = 6000
_MAX_BRIEF_TITLE_BYTES: Final = 120
_MAX_BRIEF_LINE_BYTES: Final = 120
BRIEF_SUMMARY_BYTES: Final = 400
_MAX_SUMMARIES_BYTES: Final = 6000
"""Bytes of the summaries of jobs that were asked for by their handles; they share them."""
_MIN_SUMMARY_BYTES: Final = 100
MAX_SUMMARY_BYTES: Final = 3500
MAX_EVIDENCE_BYTES: Final = 4000
_MAX_MESSAGE_BYTES: Final = 2000
_MAX_PARTIAL_BYTES: Final = 2500
_MAX_LABELS_BYTES: Final = 5000
_MAX_ADDRESSES_BYTES: Final = 1500
_MAX_WORDS_BYTES: Final = 500
"""Of a title, a stage or an address, which are a few words."""
_DIGEST_CHARS: Final = 12
"""So many characters of a digest tell the requests of one subject apart."""


class ProgressView(View):
    """How far a job is: `done` of `total`."""

    done: int | None = None
    total: int | None = None
    message: str | None = None
    partial: Detail[str | None] = None
    """What it has yielded so far, shortened."""

    @classmethod
    def from_stored(cls, progress: Mapping[str, Any]) -> Self:
        """Show what an executor has reported."""
        partial = progress.get("partial")
        return cls(
            done=progress.get("done"),
            total=progress.get("total"),
            message=_fit_words(progress.get("message")),
            partial=partial and fit_text(partial, _MAX_PARTIAL_BYTES, keeps_end=True),
        )


class WebhookView(View):
    """Where the end of a job is announced, and how far that is."""

    host: str
    state: str
    """`waiting` for the end, `pending`, `delivered`, `expired`, or `disabled` by its receiver."""
    attempts: int
    last_status: int | None
    """The HTTP status of the last answer."""
    last_error: str | None
    """Why the last attempt failed."""
    delivered_at: datetime | None
    next_attempt_at: datetime | None

    @classmethod
    def from_stored(cls, webhook: WebhookStatus) -> Self:
        """Show a delivery."""
        return cls(**webhook.model_dump())


class JobEntry(EntryView):
    """A job among several: one line, and what a program needs."""

    job_id: str
    kind: Detail[str]
    state: JobState
    reason: Detail[Reason | None]
    hold: Detail[Hold | None]
    """Why it does not go on for now."""
    version: Detail[int]
    """Grows with every change."""
    title: Detail[str]
    summary: Detail[str]
    next_step: str
    poll_after_seconds: int | None
    """None: nothing more will change."""
    workspace_id: Detail[str | None]
    upstream: Detail[UpstreamState]
    """What exists at Hugging Face."""
    exit_code: Detail[int | None]
    log_tail: list[str] | None
    """Last lines of a failed command; in brief, the last of them."""
    created_at: Detail[datetime]
    started_at: Detail[datetime | None]
    finished_at: Detail[datetime | None]
    cost: Detail[CostView]
    url: Detail[str | None]
    """Its page at Hugging Face."""

    @property
    @override
    def line(self) -> str:
        return f"{self.job_id} {self.brief_facts}: {self.title}"

    @property
    def brief_facts(self) -> str:
        """Its state, its cost and its workspace in a few words."""
        facts = [str(self.state), self.reason, None if self.hold is None else f"hold {self.hold}"]
        facts.append(None if self.exit_code is None else f"exit_code {self.exit_code}")
        if self.cost.so_far_usd:
            so_far = format_usd(to_micro_usd(self.cost.so_far_usd))
            facts.append(f"it cost {so_far}" if self.cost.final else f"{so_far} so far")
        if self.cost.ceiling_usd and not self.cost.final:
            ceiling = format_usd(to_micro_usd(self.cost.ceiling_usd), is_bound=True)
            facts.append(f"{ceiling} at most")
        facts.append(self.workspace_id)
        return ", ".join(filter(None, facts))

    @classmethod
    def summarize(
        cls,
        status: JobStatus,
        hub_url: str,
        lines: list[NumberedLine] | None,
        *,
        max_summary_bytes: int,
    ) -> "JobEntry":
        """Show a job in few words; `lines` are those that `JobView.from_status` takes."""
        fields = _entry_fields(status, hub_url, _diagnose(status, lines))
        fields["title"] = fit_text(fields["title"], _MAX_BRIEF_TITLE_BYTES)
        fields["summary"] = fit_text(fields["summary"], max_summary_bytes)
        if status.state is JobState.FAILED:
            handle = fields["job_id"]
            fields["next_step"] = f'Call job_status(job_ids="{handle}") for what to change.'
        last_lines = None if lines is None else [line.text for line in lines[-1:]]
        return JobEntry(
            **fields,
            log_tail=last_lines and [fit_text(last_lines[0], _MAX_BRIEF_LINE_BYTES)],
        )


class JobView(JobEntry):
    """A job."""

    namespace: Detail[str]
    """The account that runs it, and pays."""
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
    stage: Detail[str | None]
    """What Hugging Face calls its state."""
    message: Detail[str | None]
    """What Hugging Face said about it."""
    evidence: Detail[list[str]]
    """What shows the cause of a failure."""
    warnings: Detail[list[str]]
    """What may go wrong before it has finished."""
    progress: Detail[ProgressView | None]
    """How far it is, if that is known."""
    status_as_of: Detail[datetime]
    exposed_urls: Detail[list[str]]
    """While it runs, with your token as bearer."""
    ssh_url: Detail[str | None]
    webhook: Detail[WebhookView | None]
    """None: its end is announced nowhere."""

    @classmethod
    def from_status(
        cls, status: JobStatus, hub_url: str, lines: list[NumberedLine] | None = None
    ) -> Self:
        """Show a job.

        `lines` are the last lines of its log and those that show why it failed; None if the log was
        not read.
        """
        diagnosis = _diagnose(status, lines)
        addresses = status.addresses if status.upstream is UpstreamState.LIVE else None
        return cls(
            **_entry_fields(status, hub_url, diagnosis),
            log_tail=None if lines is None else shorten_log_tail(lines),
            namespace=status.namespace,
            flavor=status.flavor,
            timeout=job_summary.format_timeout(status),
            labels=shorten_json(status.labels, _MAX_LABELS_BYTES),
            rerun_of=status.rerun_of and ids.format_handle(HandleKind.JOB, status.rerun_of),
            schedule_id=status.schedule_id
            and ids.format_handle(HandleKind.SCHEDULE, status.schedule_id),
            after=[
                ids.format_handle(HandleKind.JOB, parent.job_id) for parent in status.after or []
            ],
            digest=None if status.digest is None else status.digest.hex()[:_DIGEST_CHARS],
            attempt=status.attempt,
            stage=_fit_words(status.stage),
            message=status.message and fit_text(status.message, _MAX_MESSAGE_BYTES, keeps_end=True),
            evidence=show_evidence(diagnosis),
            warnings=job_warnings.list_warnings(status),
            progress=None if status.progress is None else ProgressView.from_stored(status.progress),
            status_as_of=_status_as_of(status),
            exposed_urls=take_fitting_texts(addresses["exposed"], _MAX_ADDRESSES_BYTES)
            if addresses
            else [],
            ssh_url=_fit_words(addresses["ssh"]) if addresses else None,
            webhook=status.webhook and WebhookView.from_stored(status.webhook),
        )


class LaunchedView(JobView):
    """The answer to a launch."""

    poll_after_seconds: Detail[int | None]
    possible_duplicate_of: str | None
    """A job of the same request, launched minutes ago without an idempotency_key."""
    notes: Detail[list[str]]
    """What came from its workspace, and what to know before relying on it."""
    webhook_secret: Detail[str | None] = None
    """What signs its webhook, if the URL is new. It is shown this once."""


class HandleError(View):
    """Why one of several jobs cannot be shown."""

    job_id: Detail[str]
    code: Detail[str]
    message: Detail[str]


class JobsView(View):
    """The jobs of a request, and an error for each handle that names none."""

    jobs: list[JobView | JobEntry]
    """One job with all that is known of it; several in few words."""
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

    jobs: list[JobEntry]
    next_cursor: str | None
    """Pass as cursor for older ones."""
    searched_until: Detail[datetime | None] = None
    """The search for text stopped at a job of then; older ones may match too."""


class LogLine(View):
    """One line of a log; numbers start at 0."""

    number: int
    text: str


class LogView(View):
    """A part of a job's log."""

    job_id: Detail[str]
    state: Detail[JobState]
    lines: list[LogLine]
    length: Detail[int]
    """Lines printed so far."""
    not_kept: Detail[int]
    """How many lines were dropped from the middle of a log that is too large."""
    next_cursor: int
    """The number of the next line to be read."""
    complete: bool
    """Nothing follows, now or later."""
    next_step: str

    @classmethod
    def from_lines(
        cls,
        status: JobStatus,
        lines: list[NumberedLine],
        *,
        start: int | None,
        next_line: int,
        grep: str | None,
        extent: LogExtent,
    ) -> Self:
        """Show lines of a log.

        Args:
            start: The number of the first line that was asked for; None for the end of the log.
            next_line: All lines before this one have been read or searched.
            grep: The text that was searched; None if every line is shown.
        """
        job_id, length = job_summary.job_handle(status), extent.length
        wait = job_summary.poll_interval(status)
        search = "" if grep is None else f", grep={json.dumps(grep, ensure_ascii=False)}"
        next_call = f'Call job_logs(job_id="{job_id}", cursor={next_line}{search})'
        if next_line < length:
            next_step = f"{next_call} for the lines that follow."
        elif wait is not None and next_line != start:
            next_step = f"{next_call} in {wait.total_seconds():.0f}s for what is written by then."
        elif status.state is JobState.SUCCEEDED and not describe_kind(status.kind).is_call:
            next_step = "Nothing is left to do."
        elif wait is None and status.state is JobState.FAILED:
            next_step = diagnose(status, lines).remedy_after_log
        else:  # the same call again would show nothing
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


class SignInView(View):
    """Who signed in at the operator's authorization server."""

    issuer: Detail[str]
    subject: Detail[str]
    audience: Detail[str]
    name: Detail[str | None]
    email: Detail[str | None]
    is_connected: Detail[bool]
    """Whether the call acts with the connected account, and brought no token of the Hub."""


class ZeroGpuView(View):
    """What Spaces on ZeroGPU may still use of a person, in seconds of a GPU."""

    limit_seconds: Detail[float]
    used_seconds: Detail[float]
    left_seconds: Detail[float]
    resets_at: Detail[datetime | None]
    """None: nothing of it has been used."""
    paid_seconds: Detail[float | None]
    """Used beyond it, and paid for."""


class LinkView(View):
    """A link to an export of a job that still works."""

    job_id: Detail[str]
    download: Detail[str]
    expires_at: Detail[datetime]


class AccountView(View):
    """The caller, and what they may do."""

    subject_id: Detail[str]
    """The immutable id of the account; all their rows have it."""
    name: str
    token_kind: Detail[str]
    token_expires_at: Detail[datetime | None]
    scopes: Detail[list[str]]
    missing_scopes: list[str]
    sign_in: Detail[SignInView | None]
    """None if Hugging Face itself signed them in."""
    namespaces: list[str]
    """Accounts that jobs can be launched as, their own first."""
    more_namespaces: Detail[int]
    """How many more there are, for which a reply has no room."""
    hold: Detail[str | None]
    """Why none of their jobs goes on for now."""
    open_jobs: Detail[int]
    month: Detail[MonthView]
    plan: Detail[str | None]
    """`pro` or `free`, at Hugging Face."""
    can_pay: Detail[bool | None]
    """Whether Hugging Face can bill them; None: the token does not show it."""
    unpaid_namespaces: Detail[list[str]]
    """Those of `namespaces` that cannot pay, or have reached their spend limit."""
    zero_gpu: Detail[ZeroGpuView | None]
    billing_note: Detail[str | None]
    """Why `can_pay` or `zero_gpu` is None."""
    links: Detail[list[LinkView]]
    """Links of `download` that work, the oldest first."""


def show_evidence(diagnosis: Diagnosis | None) -> list[str]:
    """Return what the cause of a failure was recognised by, as far as a reply has room."""
    evidence: list[str] = shorten_json(diagnosis.evidence if diagnosis else [], MAX_EVIDENCE_BYTES)
    return evidence


def share_summary_bytes(count: int) -> int:
    """Return how long the summary of each of so many jobs may be, in bytes of a reply."""
    return max(_MAX_SUMMARIES_BYTES // max(count, 1), _MIN_SUMMARY_BYTES)


def _fit_words(text: str | None) -> str | None:
    return None if text is None else fit_text(text, _MAX_WORDS_BYTES)


def _diagnose(status: JobStatus, lines: list[NumberedLine] | None) -> Diagnosis | None:
    return diagnose(status, lines or []) if status.state is JobState.FAILED else None


def _entry_fields(status: JobStatus, hub_url: str, diagnosis: Diagnosis | None) -> dict[str, Any]:
    wait = job_summary.poll_interval(status)
    workspace_id = status.workspace_id
    warnings = job_warnings.list_warnings(status)
    return {
        "job_id": job_summary.job_handle(status),
        "kind": status.kind,
        "state": status.state,
        "reason": status.reason,
        "hold": None if wait is None else job_summary.effective_hold(status),
        "version": status.version,
        "title": fit_text(job_summary.job_title(status), _MAX_WORDS_BYTES),
        "summary": fit_text(
            " ".join([job_summary.summarize_job(status, diagnosis), *warnings]),
            MAX_SUMMARY_BYTES,
            keeps_end=True,
        ),
        "next_step": job_summary.suggest_next_step(status, diagnosis),
        "poll_after_seconds": None if wait is None else round(wait.total_seconds()),
        "workspace_id": workspace_id and ids.format_handle(HandleKind.WORKSPACE, workspace_id),
        "upstream": status.upstream,
        "exit_code": status.exit_code,
        "created_at": status.created_at,
        "started_at": status.started_at,
        "finished_at": status.finished_at,
        "cost": CostView.from_cost(summarize_cost(status)),
        "url": _fit_words(_job_url(status, hub_url)),
    }


def shorten_log_tail(lines: list[NumberedLine]) -> list[str]:
    """Return the last lines of a log, each shortened to its beginning and its end."""
    tail = [shorten(line.text, 500, keeps_end=True) for line in lines[-LOG_TAIL_LINES:]]
    return take_fitting_end(tail, _MAX_LOG_TAIL_BYTES)


def _status_as_of(status: JobStatus) -> datetime:
    watched = status.upstream in (UpstreamState.LIVE, UpstreamState.STOPPING)
    return status.seen_at if watched and status.seen_at is not None else status.read_at


def _job_url(status: JobStatus, hub_url: str) -> str | None:
    if status.remote_id is None:
        return None
    return f"{hub_url}/jobs/{status.namespace}/{status.remote_id}"
