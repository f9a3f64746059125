"""The result of a finished job, as its kind of work has it: an answer, files, the end of a log."""

from typing import Any, Self

from schema.artifacts.log_store import NumberedLine
from schema.jobs.queries import JobStatus
from schema.jobs.tables import JobState, Reason
from service.jobs import batches
from service.jobs.batches import ItemsView
from service.views import job_summary
from service.views.base import View
from service.views.diagnosis.diagnose import Diagnosis, diagnose
from service.views.files import FileView
from service.views.jobs import LOG_TAIL_LINES, shorten_log_tail


class ResultView(View):
    """What a finished job left behind: `result`, `log_tail` and `files`, by its kind."""

    job_id: str
    kind: str
    state: JobState
    reason: Reason | None
    summary: str
    next_step: str
    evidence: list[str]
    """What the cause of a failure was recognised by."""
    result: dict[str, Any] | None
    """What a call answered: `text` of a model, with finish_reason, model, provider, usage."""
    files: list[FileView]
    """What it left in files."""
    exit_code: int | None
    """A command's."""
    log_tail: list[str] | None
    """The last lines a command printed."""
    items: ItemsView | None
    """A batch's, by page, also while it runs; `result` counts them."""

    @classmethod
    def from_status(
        cls,
        status: JobStatus,
        *,
        result: dict[str, Any] | None,
        files: list[FileView],
        log_lines: list[NumberedLine] | None,
        items: ItemsView | None,
    ) -> Self:
        """Show the result of a job."""
        is_failure = status.state is JobState.FAILED
        diagnosis = diagnose(status, log_lines or []) if is_failure else None
        return cls(
            job_id=job_summary.job_handle(status),
            kind=status.kind,
            state=status.state,
            reason=status.reason,
            summary=job_summary.summarize_job(status, diagnosis),
            next_step=_batch_next_step(status, items, result)
            or _next_step(status, result, log_lines, diagnosis),
            evidence=diagnosis.evidence if diagnosis else [],
            result=result,
            files=files,
            exit_code=status.exit_code,
            log_tail=None if log_lines is None else shorten_log_tail(log_lines),
            items=items,
        )


def _batch_next_step(
    status: JobStatus, items: ItemsView | None, result: dict[str, Any] | None
) -> str | None:
    return None if items is None else batches.describe_next_call(status, items, result)


def _next_step(
    status: JobStatus,
    result: dict[str, Any] | None,
    log_lines: list[NumberedLine] | None,
    diagnosis: Diagnosis | None,
) -> str:
    if status.state is not JobState.SUCCEEDED:
        return job_summary.suggest_next_step(status, diagnosis)
    if log_lines and log_lines[-1].number >= LOG_TAIL_LINES:
        return f'Call job_logs(job_id="{job_summary.job_handle(status)}") for all that it printed.'
    if result is not None and result.get("finish_reason") == "length":
        return (
            "The answer was cut off at max_tokens; launch it again with more, if it is incomplete."
        )
    return "Nothing is left to do."
