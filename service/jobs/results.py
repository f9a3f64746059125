"""What did a finished job leave behind, by the kind of work it was?"""

from typing import Any, Self

from schema.artifacts.log_store import Line
from schema.jobs.queries import JobStatus
from schema.jobs.tables import JobState, Reason
from service.jobs import batches
from service.jobs.batches import ItemsView
from service.views import job_summary
from service.views.base import View
from service.views.diagnosis.diagnose import Diagnosis, diagnose
from service.views.files import FileView
from service.views.jobs import TAIL, tail


class ResultView(View):
    """What a finished job left behind: `result`, `log_tail` and `files`, by its kind."""

    job_id: str
    kind: str
    state: JobState
    reason: Reason | None
    summary: str
    next_step: str
    evidence: list[str]
    """What a failure was told by."""
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
    def of(
        cls,
        status: JobStatus,
        *,
        result: dict[str, Any] | None,
        files: list[FileView],
        lines: list[Line] | None,
        items: ItemsView | None,
    ) -> Self:
        """Show what is left of a job."""
        found = diagnose(status, lines or []) if status.state is JobState.FAILED else None
        return cls(
            job_id=job_summary.handle_of(status),
            kind=status.kind,
            state=status.state,
            reason=status.reason,
            summary=job_summary.summary(status, found),
            next_step=_on(status, items, result) or _after(status, result, lines, found),
            evidence=found.evidence if found else [],
            result=result,
            files=files,
            exit_code=status.exit_code,
            log_tail=None if lines is None else tail(lines),
            items=items,
        )


def _on(status: JobStatus, items: ItemsView | None, result: dict[str, Any] | None) -> str | None:
    return None if items is None else batches.after(status, items, result)


def _after(
    status: JobStatus,
    answer: dict[str, Any] | None,
    lines: list[Line] | None,
    found: Diagnosis | None,
) -> str:
    if status.state is not JobState.SUCCEEDED:
        return job_summary.next_step(status, found)
    if lines and lines[-1].number >= TAIL:
        return f'Call job_logs(job_id="{job_summary.handle_of(status)}") for all that it printed.'
    if answer is not None and answer.get("finish_reason") == "length":
        return (
            "The answer was cut off at max_tokens; launch it again with more, if it is incomplete."
        )
    return "Nothing is left to do."
