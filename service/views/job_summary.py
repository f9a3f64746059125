"""Sentences about a job: its title, its state, and the next step for its owner."""

from datetime import timedelta
from typing import Final, assert_never

from schema.accounts.tables import Hold
from schema.common import ids
from schema.common.durations import format_duration
from schema.common.text import shorten, truncate
from schema.jobs.dependencies import filter_waiting_parents
from schema.jobs.queries import JobStatus, UpstreamState
from schema.jobs.tables import JobKind, JobState, Reason
from schema.specs.inputs.inference_inputs import summarize_inputs
from service.views import job_kinds, job_warnings
from service.views.diagnosis.diagnose import EVIDENCE_PREFIXES, Diagnosis, diagnose
from service.views.job_cost import describe_cost
from service.views.job_kinds import describe_kind
from service.views.text import end_sentence

_MIN_POLL_INTERVAL: Final = timedelta(seconds=2)
_MAX_POLL_INTERVAL: Final = timedelta(seconds=30)
_MAX_TITLE_CHARS: Final = 80
_POLL_DIVISOR: Final = 10
"""The next poll comes after a tenth of the age of the job, or of the time since its end."""


def job_handle(status: JobStatus) -> str:
    """Format the handle of a job."""
    return ids.format_handle(ids.HandleKind.JOB, status.id)


def shorten_title(text: str) -> str:
    """Shorten a text to the length of a job title."""
    return shorten(text, _MAX_TITLE_CHARS)


def job_title(status: JobStatus) -> str:
    """Return the title of a job, and for a model call without a title the model and its inputs."""
    if status.kind != JobKind.INFERENCE or status.title != status.spec.get("model"):
        return status.title
    return shorten(
        f"{status.title}: {summarize_inputs(status.spec.get('inputs'))}", _MAX_TITLE_CHARS
    )


def poll_interval(status: JobStatus) -> timedelta | None:
    """Return how long to wait before the next poll; None if nothing can change any more."""
    if status.is_settled:
        return None
    if effective_hold(status) in {Hold.CREDENTIALS, Hold.OPERATOR, Hold.RESTORE}:
        return _MAX_POLL_INTERVAL
    since = status.finished_at or status.created_at
    return max(
        _MIN_POLL_INTERVAL, min(_MAX_POLL_INTERVAL, (status.read_at - since) / _POLL_DIVISOR)
    )


def effective_hold(status: JobStatus) -> Hold | None:
    """Return why a job does not go on for now; None if nothing holds it.

    The operator and a restore hold launches: a job that runs goes on.
    """
    if status.hold in {Hold.OPERATOR, Hold.RESTORE} and status.state is not JobState.QUEUED:
        return None
    return status.hold or (Hold.DEPENDENCY if filter_waiting_parents(status.after) else None)


def summarize_job(status: JobStatus, diagnosis: Diagnosis | None = None) -> str:
    """Write one or two sentences about the state of a job.

    Without a `diagnosis`, a failed job is diagnosed from its status only.
    """
    match status.state:
        case JobState.QUEUED:
            return job_warnings.describe_queued(status)
        case JobState.LAUNCHING:
            return "Being launched: the request may have reached Hugging Face; its answer is due."
        case JobState.RUNNING:
            return (
                f"{_describe_running(status)}{describe_cost(status)}{_describe_unwatched(status)}"
            )
        case JobState.SUCCEEDED:
            end = _describe_succeeded(status)
            return f"{end}{_describe_final_progress(status)}{describe_cost(status)}"
        case JobState.FAILED:
            diagnosis = diagnosis or diagnose(status)
            sentences = [
                end_sentence(text)
                for text in diagnosis.evidence
                if text.startswith(EVIDENCE_PREFIXES)
            ]
            failed = " ".join([f"Failed: {diagnosis.cause}", *sentences])
            return f"{failed}{_describe_final_progress(status)}{describe_cost(status)}"
        case JobState.CANCELLED:
            end = _describe_cancelled(status)
            return f"{end}{_describe_final_progress(status)}{describe_cost(status)}"
        case _:
            assert_never(status.state)


def suggest_next_step(status: JobStatus, diagnosis: Diagnosis | None = None) -> str:
    """Name the next call to make; if there is one, as it can be made."""
    handle = job_handle(status)
    if status.state is JobState.SUCCEEDED:
        return f'Call job_result(job_id="{handle}").'
    if status.state is JobState.FAILED:
        return (diagnosis or diagnose(status)).remedy
    wait = poll_interval(status)
    if wait is None:
        return "Nothing is left to do."
    if status.hold is Hold.CREDENTIALS:
        return (
            f"Sign in again, or give your client a fresh token; it then goes on. "
            f'Call job_status(job_ids="{handle}") in {format_duration(wait)}.'
        )
    return f'Call wait_for_jobs(job_ids="{handle}", until="terminal").'


def _describe_running(status: JobStatus) -> str:
    kind = describe_kind(status.kind)
    if kind.is_call:
        return job_kinds.fill_sentence(kind.running_text, status) + _describe_progress(status)
    flavor = status.spec.get("flavor")
    match status.stage:
        case "SCHEDULING" | None:
            return job_warnings.describe_scheduling(status)
        case "RUNNING":
            return f"Running on {flavor}."
        case "COMPLETED":
            return "Completed at Hugging Face; its outputs are being looked for."
        case stage:
            return f"At Hugging Face, which calls its stage {truncate(stage)}."


def _describe_progress(status: JobStatus) -> str:
    """Write how far the job is; empty if its executor has not reported progress."""
    progress = status.progress or {}
    message = progress.get("message")
    if progress.get("total") is None:
        return f" {end_sentence(message)}" if message else ""
    suffix = f" ({message})" if message else ""
    return f" {progress.get('done') or 0:,} of {progress['total']:,} finished{suffix}."


def _describe_final_progress(status: JobStatus) -> str:
    return _describe_progress(status) if describe_kind(status.kind).shows_final_progress else ""


def _describe_unwatched(status: JobStatus) -> str:
    if status.hold is not Hold.CREDENTIALS:
        return ""
    return (
        " It goes on, but cannot be watched: Hugging Face no longer accepts the token it was lent, "
        "so this is how it stood at the time of status_as_of."
    )


def _describe_succeeded(status: JobStatus) -> str:
    return job_kinds.fill_sentence(describe_kind(status.kind).succeeded_text, status)


def _describe_cancelled(status: JobStatus) -> str:
    if status.reason is Reason.CANCELLED_UPSTREAM:
        return "Cancelled at Hugging Face itself, not through Holdfast."
    match status.upstream:
        case UpstreamState.NONE:
            return "Cancelled before anything was started; it cost nothing."
        case UpstreamState.STOPPING | UpstreamState.LIVE if status.hold is Hold.CREDENTIALS:
            return (
                "Cancelled, but it cannot be stopped yet: Hugging Face no longer accepts the token "
                "it was lent, so it may go on and cost money until there is a fresh one."
            )
        case UpstreamState.STOPPING | UpstreamState.LIVE:
            return (
                "Cancelled. What was started is being stopped, and may still cost money until it "
                "is seen to be over."
            )
        case UpstreamState.STOPPED if describe_kind(status.kind).is_call:
            return "Cancelled, and its call dropped; what had been computed by then may be charged."
        case UpstreamState.STOPPED:
            return "Cancelled, and seen to be over at Hugging Face."
        case _:
            assert_never(status.upstream)


def format_timeout(status: JobStatus) -> str | None:
    """Format how long a job may run; None if it has no timeout."""
    seconds = status.spec.get("timeout")
    return None if seconds is None else format_duration(timedelta(seconds=float(seconds)))
