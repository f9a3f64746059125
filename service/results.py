"""What did a finished job leave behind, by the kind of work it was?"""

from typing import Any, Self

from pydantic import ConfigDict

from schema.job import JobKind, JobState, Reason
from schema.logbook import Line
from schema.queries import JobStatus
from service import wording
from service.diagnosis import diagnose
from service.view import Detail, View
from service.views import TAIL, tail


class Usage(View):
    """The tokens a call was charged for; some providers count more."""

    model_config = ConfigDict(frozen=True, extra="allow")

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None


class Answer(View):
    """What a model answered."""

    text: str | None
    """None: it answered with something else, such as the call of a tool."""
    finish_reason: str | None = None
    """`length`: it was cut off at max_tokens."""
    model: str | None = None
    provider: str | None = None
    usage: Detail[Usage | None] = None


class ResultView(View):
    """What a finished job left behind: one of `answer` and `log_tail`, by its kind."""

    job_id: str
    kind: JobKind
    state: JobState
    reason: Reason | None
    summary: str
    next_step: str
    evidence: list[str]
    """What a failure was told by."""
    result: Answer | None
    """An inference call's."""
    exit_code: int | None
    """A command's."""
    log_tail: list[str] | None
    """The last lines a command printed."""

    @classmethod
    def of(
        cls, status: JobStatus, *, result: dict[str, Any] | None, lines: list[Line] | None
    ) -> Self:
        """Show what is left of a job."""
        found = diagnose(status, lines or []) if status.state is JobState.FAILED else None
        answer = None if result is None else Answer.model_validate(result)
        return cls(
            job_id=wording.handle_of(status),
            kind=status.kind,
            state=status.state,
            reason=status.reason,
            summary=wording.summary(status, found),
            next_step=wording.next_step(status, found) if found else _after(status, answer, lines),
            evidence=found.evidence if found else [],
            result=answer,
            exit_code=status.exit_code,
            log_tail=None if lines is None else tail(lines),
        )


def _after(status: JobStatus, answer: Answer | None, lines: list[Line] | None) -> str:
    if status.state is not JobState.SUCCEEDED:
        return wording.next_step(status)
    if lines and lines[-1].number >= TAIL:
        return f'Call job_logs(job_id="{wording.handle_of(status)}") for all that it printed.'
    if answer is not None and answer.finish_reason == "length":
        return (
            "The answer was cut off at max_tokens; launch it again with more, if it is incomplete."
        )
    return "Nothing is left to do."
