"""What does a job's situation mean for the one who asked for it, and what should they do next?"""

from datetime import timedelta
from typing import Final, assert_never

from schema.accounts.tables import Hold
from schema.common import ids
from schema.common.durations import say
from schema.jobs.dependencies import open_ones
from schema.jobs.queries import JobStatus, Upstream
from schema.jobs.tables import JobKind, JobState, Reason
from schema.specs.inference_inputs import gist
from service.views import job_kinds, job_warnings
from service.views.diagnosis.diagnose import SAYING, Diagnosis, diagnose
from service.views.job_cost import mention
from service.views.job_kinds import known
from service.views.text import sentence, shorten

_SOON: Final = timedelta(seconds=2)
_SLOW: Final = timedelta(seconds=30)
_TITLE: Final = 80
_PATIENCE: Final = 10
"""A job is asked about again after a tenth of the time it has been in its situation."""


def handle_of(status: JobStatus) -> str:
    """Write the handle of a job."""
    return ids.write(ids.Kind.JOB, status.id)


def entitled(text: str) -> str:
    """Write what a job is called."""
    return shorten(text, _TITLE)


def title(status: JobStatus) -> str:
    """Say in a few words what a job does; a call that has no name is known by what it was asked."""
    if status.kind != JobKind.INFERENCE or status.title != status.spec.get("model"):
        return status.title
    return shorten(f"{status.title}: {gist(status.spec.get('inputs'))}", _TITLE)


def poll_after(status: JobStatus) -> timedelta | None:
    """Say when a job is worth asking about again; never, once nothing can change any more."""
    if status.settled:
        return None
    if status.hold is not None:
        return _SLOW
    since = status.finished_at or status.created_at
    return max(_SOON, min(_SLOW, (status.read_at - since) / _PATIENCE))


def hold_of(status: JobStatus) -> Hold | None:
    """Say why a job does not move for now."""
    return status.hold or (Hold.DEPENDENCY if open_ones(status.after) else None)


def summary(status: JobStatus, found: Diagnosis | None = None) -> str:
    """Say in a sentence or two how a job stands."""
    match status.state:
        case JobState.QUEUED:
            return job_warnings.queued(status)
        case JobState.LAUNCHING:
            return "Being launched: the request may have reached Hugging Face; its answer is due."
        case JobState.RUNNING:
            return f"{_running(status)}{mention(status)}{_unseen(status)}"
        case JobState.SUCCEEDED:
            return f"{_succeeded(status)}{_came_to(status)}{mention(status)}"
        case JobState.FAILED:
            found = found or diagnose(status)
            said = [sentence(text) for text in found.evidence if text.startswith(SAYING)]
            failed = " ".join([f"Failed: {found.why}", *said])
            return f"{failed}{_came_to(status)}{mention(status)}"
        case JobState.CANCELLED:
            return f"{_cancelled(status)}{_came_to(status)}{mention(status)}"
        case _:
            assert_never(status.state)


def next_step(status: JobStatus, found: Diagnosis | None = None) -> str:
    """Name the next call to make, word for word where there is one."""
    handle = handle_of(status)
    if status.state is JobState.SUCCEEDED:
        return f'Call job_result(job_id="{handle}").'
    if status.state is JobState.FAILED:
        return (found or diagnose(status)).remedy
    wait = poll_after(status)
    if wait is None:
        return "Nothing is left to do."
    if status.hold is Hold.CREDENTIALS:
        return (
            f"Sign in again, or give your client a fresh token; it then goes on. "
            f'Call job_status(job_ids="{handle}") in {say(wait)}.'
        )
    return f'Call wait_for_jobs(job_ids="{handle}", until="terminal").'


def _running(status: JobStatus) -> str:
    kind = known(status.kind)
    if kind.is_call:
        return job_kinds.say(kind.running, status) + _so_far(status)
    flavor = status.spec.get("flavor")
    match status.stage:
        case "SCHEDULING" | None:
            return job_warnings.scheduling(status)
        case "RUNNING":
            return f"Running on {flavor}."
        case "COMPLETED":
            return "Completed at Hugging Face; its outputs are being looked for."
        case stage:
            return f"At Hugging Face, which calls its stage {stage}."


def _so_far(status: JobStatus) -> str:
    """Say how far its executor says it is, if it does."""
    said = status.progress or {}
    message = said.get("message")
    if said.get("total") is None:
        return f" {sentence(message)}" if message else ""
    beside = f" ({message})" if message else ""
    return f" {said.get('done') or 0:,} of {said['total']:,} finished{beside}."


def _came_to(status: JobStatus) -> str:
    return _so_far(status) if known(status.kind).counted else ""


def _unseen(status: JobStatus) -> str:
    if status.hold is not Hold.CREDENTIALS:
        return ""
    return (
        " It goes on, but cannot be watched: Hugging Face no longer accepts the token it was lent, "
        "so this is how it stood at the time of status_as_of."
    )


def _succeeded(status: JobStatus) -> str:
    return job_kinds.say(known(status.kind).succeeded, status)


def _cancelled(status: JobStatus) -> str:
    if status.reason is Reason.CANCELLED_UPSTREAM:
        return "Cancelled at Hugging Face itself, not through Holdfast."
    match status.upstream:
        case Upstream.NONE:
            return "Cancelled before anything was started; it cost nothing."
        case Upstream.STOPPING | Upstream.LIVE if status.hold is Hold.CREDENTIALS:
            return (
                "Cancelled, but it cannot be stopped yet: Hugging Face no longer accepts the token "
                "it was lent, so it may go on and cost money until there is a fresh one."
            )
        case Upstream.STOPPING | Upstream.LIVE:
            return (
                "Cancelled. What was started is being stopped, and may still cost money until it "
                "is seen to be over."
            )
        case Upstream.STOPPED if known(status.kind).is_call:
            return "Cancelled, and its call dropped; what had been computed by then may be charged."
        case Upstream.STOPPED:
            return "Cancelled, and seen to be over at Hugging Face."
        case _:
            assert_never(status.upstream)


def timeout_of(status: JobStatus) -> str | None:
    """Say how long a job may run."""
    seconds = status.spec.get("timeout")
    return None if seconds is None else say(timedelta(seconds=float(seconds)))
