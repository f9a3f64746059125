"""What does a job's situation mean for the one who asked for it, and what should they do next?"""

from datetime import timedelta
from typing import Final, assert_never

from schema import handles
from schema.durations import say
from schema.errors import HoldfastError, NotFound
from schema.job import JobKind, JobState, Reason
from schema.queries import JobStatus, Upstream
from schema.subject import Hold

_SOON: Final = timedelta(seconds=2)
_SLOW: Final = timedelta(seconds=30)
_TITLE: Final = 80
_PATIENCE: Final = 10
"""A job is asked about again after a tenth of the time it has been in its situation."""


def handle_of(status: JobStatus) -> str:
    """Write the handle of a job."""
    return handles.write(handles.Kind.JOB, status.id)


def shorten(text: str, length: int) -> str:
    """Write a text on one line, cut off where it gets long."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def title(status: JobStatus) -> str:
    """Say in a few words what a job does; a call that has no name is known by what it was asked."""
    if status.kind is not JobKind.INFERENCE or status.title != status.spec.get("model"):
        return status.title
    asked = status.spec.get("messages") or [{"content": ""}]
    return shorten(f"{status.title}: {asked[-1]['content']}", _TITLE)


def poll_after(status: JobStatus) -> timedelta | None:
    """Say when a job is worth asking about again; never, once nothing can change any more."""
    if status.settled:
        return None
    if status.hold is not None:
        return _SLOW
    since = status.finished_at or status.created_at
    return max(_SOON, min(_SLOW, (status.read_at - since) / _PATIENCE))


def summary(status: JobStatus) -> str:
    """Say in a sentence or two how a job stands."""
    match status.state:
        case JobState.QUEUED:
            return _queued(status)
        case JobState.LAUNCHING:
            return "Being launched: the request may have reached Hugging Face; its answer is due."
        case JobState.RUNNING:
            return f"{_running(status)}{_unseen(status)}"
        case JobState.SUCCEEDED:
            return _succeeded(status)
        case JobState.FAILED:
            said = f" Hugging Face said: {shorten(status.message, 300)}" if status.message else ""
            return f"Failed: {_failure(status)[0]}{said}"
        case JobState.CANCELLED:
            return _cancelled(status)
        case _:
            assert_never(status.state)


def next_step(status: JobStatus) -> str:
    """Name the next call to make, word for word where there is one."""
    handle = handle_of(status)
    if status.state is JobState.SUCCEEDED:
        return f'Call job_result(job_id="{handle}").'
    if status.state is JobState.FAILED:
        return _failure(status)[1].format(handle=handle)
    wait = poll_after(status)
    if wait is None:
        return "Nothing is left to do."
    poll = f'Call job_status(job_ids="{handle}") again in {say(wait)}.'
    if status.hold is Hold.CREDENTIALS:
        return f"Sign in again, or give your client a fresh token; it then goes on. {poll}"
    return poll


def advice(failure: HoldfastError) -> str:
    """Say what to do about a refusal that does not say so itself."""
    if isinstance(failure, NotFound):
        return f"list_{failure.kind}s shows yours."
    return ""


def _queued(status: JobStatus) -> str:
    match status.hold:
        case Hold.CREDENTIALS:
            return "Queued, but held: Hugging Face no longer accepts the token it was lent."
        case Hold.OPERATOR:
            return "Queued, but held: whoever runs this Holdfast has paused your jobs."
        case None if status.tries:
            return (
                f"Queued again: {status.tries} launches in a row were turned away, and nothing was "
                f"started. It is tried again by itself."
            )
        case None if status.attempt:
            return (
                "Queued again: its first launch was never confirmed, so it is launched once more."
            )
        case None:
            return "Queued; it is launched as soon as a worker is free."
        case _:
            assert_never(status.hold)


def _running(status: JobStatus) -> str:
    if status.kind is JobKind.INFERENCE:
        return f"The call to {status.spec.get('model')} is under way."
    flavor = status.spec.get("flavor")
    match status.stage:
        case "SCHEDULING" | None:
            return f"Created at Hugging Face; it waits for {flavor} hardware, at no cost so far."
        case "RUNNING":
            return f"Running on {flavor}."
        case stage:
            return f"At Hugging Face, which calls its stage {stage}."


def _unseen(status: JobStatus) -> str:
    if status.hold is not Hold.CREDENTIALS:
        return ""
    return (
        " It goes on, but cannot be watched: Hugging Face no longer accepts the token it was lent, "
        "so this is how it stood at the time of status_as_of."
    )


def _succeeded(status: JobStatus) -> str:
    match status.kind:
        case JobKind.HUB_JOB:
            return "Succeeded: the command exited with code 0."
        case JobKind.INFERENCE:
            return f"Succeeded: {status.spec.get('model')} has answered."
        case _:
            assert_never(status.kind)


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
        case Upstream.STOPPED if status.kind is JobKind.INFERENCE:
            return "Cancelled, and its call dropped; what had been computed by then may be charged."
        case Upstream.STOPPED:
            return "Cancelled, and seen to be over at Hugging Face."
        case _:
            assert_never(status.upstream)


def _timeout(status: JobStatus) -> str:
    return say(timedelta(seconds=float(status.spec["timeout"])))


_RELAUNCH: Final = "then launch a new job."


def _failure(status: JobStatus) -> tuple[str, str]:  # noqa: C901, PLR0911, PLR0912  # one case for each reason
    """Say why a job failed, and its remedy; `{handle}` stands for the job's handle in it."""
    match status.reason:
        case Reason.EXIT_NONZERO:
            return (
                f"the command exited with code {status.exit_code}.",
                'Read log_tail or job_logs(job_id="{handle}", tail=200), correct the command, '
                + _RELAUNCH,
            )
        case Reason.OOM:
            return (
                "it ran out of memory.",
                f"Choose a flavor with more memory, or make the work smaller, {_RELAUNCH}",
            )
        case Reason.TIMED_OUT:
            return (
                f"it was still running at its timeout of {_timeout(status)}.",
                f"Give a longer timeout, or less work, {_RELAUNCH}",
            )
        case Reason.INSUFFICIENT_CREDITS:
            return (
                f"the account {status.namespace} has no credits left for it.",
                f"Add credits at https://huggingface.co/settings/billing, {_RELAUNCH}",
            )
        case Reason.MISSING_PERMISSION:
            return (
                "your token may not do this.",
                "Use a token with the permissions job.write and inference.serverless.write, "
                + _RELAUNCH,
            )
        case Reason.INVALID_REQUEST:
            return (
                "Hugging Face does not accept the request as it is written.",
                f"Correct what the message names, {_RELAUNCH}",
            )
        case Reason.LAUNCH_UNCONFIRMED:
            return (
                "its launch was never confirmed, and nothing is there; a late arrival is stopped.",
                "Launch a new job if it is still wanted.",
            )
        case Reason.OUTCOME_UNKNOWN:
            return (
                "its answer was lost, so nobody knows whether it was carried out, and charged.",
                "Launch a new job if paying twice is acceptable.",
            )
        case Reason.UPSTREAM_DELETED:
            return (
                "it was deleted at Hugging Face, so how it went is not known.",
                "Launch a new job if it is still wanted.",
            )
        case Reason.STUCK_SCHEDULING:
            return (
                "it waited too long to be started, so it was given up and nothing of it goes on.",
                f"Choose a flavor that is easier to get, or bring a valid token, {_RELAUNCH}",
            )
        case Reason.CANCELLED_UPSTREAM:
            return (
                "it was cancelled at Hugging Face itself, not through Holdfast.",
                "Launch a new job if it is still wanted.",
            )
        case Reason.HUB_UNAVAILABLE:
            return (
                "Hugging Face could not be reached for too long; nothing was started.",
                "Launch a new job later.",
            )
        case Reason.INTERNAL | None:
            return (
                "something went wrong that is not your doing.",
                "Launch a new job; if that fails too, tell the operator of Holdfast of {handle}.",
            )
        case _:
            assert_never(status.reason)
