"""Diagnosis of a failed job: its cause, the evidence for it, and the remedy.

A cause is always shown with its evidence: the words of Hugging Face, an exit code, or a numbered
line of the log. If no known symptom fits, the diagnosis says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, assert_never

from schema.artifacts.log_store import NumberedLine
from schema.common import ids
from schema.common.durations import format_duration
from schema.common.text import shorten, truncate
from schema.jobs.queries import JobStatus
from schema.jobs.tables import JobKind, Reason
from service.views.diagnosis import matching
from service.views.diagnosis.retry_calls import format_retry_call, longer_timeout
from service.views.diagnosis.symptoms import EXIT_CODE_MEANINGS, then_retry
from service.views.job_kinds import describe_kind

_OBSERVED_REASONS: Final = frozenset(
    {
        Reason.STUCK_SCHEDULING,
        Reason.OUTCOME_UNKNOWN,
        Reason.LAUNCH_UNCONFIRMED,
        Reason.UPSTREAM_DELETED,
        Reason.HUB_UNAVAILABLE,
        Reason.OUTPUTS_MISSING,
        Reason.DEPENDENCY_FAILED,
        Reason.CALL_FAILED,
    }
)
"""With these reasons the message is what Holdfast saw, not what Hugging Face said."""
EVIDENCE_PREFIXES: Final = ("Hugging Face said", "Holdfast saw")
"""How evidence in words begins: that of Hugging Face, and our own."""
_OWN_MESSAGE_PREFIXES: Final = (
    "It was still ",
    "Its secrets ",
    "Not sent: ",
    "The Space ",
    "The bucket ",
)
"""How our own messages begin with any other reason."""
_SELF_EXPLANATORY_REASONS: Final = frozenset(
    {Reason.EXIT_NONZERO, Reason.OOM, Reason.TIMED_OUT, *_OBSERVED_REASONS}
)
"""A message adds nothing to these reasons, unless it is about a Space."""
_SPACE_MESSAGE_PREFIX: Final = "The Space "
"""How a message about a Space begins; it says more than any reason."""
_MAX_EVIDENCE_CHARS: Final = 300
_MAX_MISSING_OUTPUTS_CHARS: Final = 3000
_MAX_NAME_CHARS: Final = 300
"""How much of an image, a program or a model is repeated."""
_CONTEXT_LINES: Final = 5
"""How many lines of the log above the telling line are worth reading."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is known about a failure."""

    cause: str
    """The end of a sentence that begins with "Failed:"."""
    remedy: str
    remedy_after_log: str
    """The remedy for a caller who has just read the log."""
    evidence: list[str] = field(default_factory=list[str])


def diagnose(status: JobStatus, lines: Sequence[NumberedLine] = ()) -> Diagnosis:
    """Diagnose a failed job from its reason, its message, its exit code and its log.

    `lines` are the last lines of its log and those that match `matching.RELEVANT_LINE_PATTERN`.
    """
    facts, evidence = _collect_facts(status), _collect_evidence(status)
    cause, remedy = _diagnose_reason(status)
    message = status.message or ""
    is_message_relevant = status.reason not in _SELF_EXPLANATORY_REASONS or message.startswith(
        _SPACE_MESSAGE_PREFIX
    )
    if is_message_relevant and (symptom_match := matching.find_message_symptom(message)):
        symptom, groups = symptom_match
        facts |= {"url": matching.repository_url([message]), **groups}
        cause, remedy = symptom.cause.format_map(facts), symptom.remedy
    remedy_after_log = remedy = remedy.format_map(facts)
    if status.reason is Reason.EXIT_NONZERO:
        remedy = f'Read log_tail or job_logs(job_id="{_job_handle(status)}", tail=200). {remedy}'
    by_reason = Diagnosis(cause, remedy, remedy_after_log, evidence)
    is_command = status.reason is Reason.EXIT_NONZERO and status.exit_code is not None
    return _diagnose_command(status, lines, by_reason) if is_command else by_reason


def _diagnose_command(
    status: JobStatus, lines: Sequence[NumberedLine], by_reason: Diagnosis
) -> Diagnosis:
    """Diagnose a command that exited from its log, or else from its exit code."""
    exit_text = f"the command exited with code {status.exit_code}"
    facts = _collect_facts(status)
    if symptom_match := matching.find_last_symptom(lines):
        facts |= {
            "file": "",
            "path": "",
            "url": matching.repository_url(_surrounding_texts(lines, symptom_match.line)),
        }
        facts |= symptom_match.groups
        symptom, line = symptom_match.symptom, symptom_match.line
        facts |= _install_facts(status, matching.package_for_module(facts.get("module", "")))
        remedy = symptom.remedy.format_map(facts)
        return Diagnosis(
            f"{exit_text}: {symptom.cause.format_map(facts)} (log line {line.number}).",
            f"{remedy} {_suggest_log_read(status, line)}",
            remedy,
            [*by_reason.evidence, _format_log_line(line)],
        )
    if exception_lines := matching.find_exception(lines):
        traceback_start, exception_line = exception_lines
        remedy = f"Correct the {facts['work']}, {then_retry(facts['work'])}"
        return Diagnosis(
            f"{exit_text}: it raised {shorten(exception_line.text, 120, keeps_end=True)} "
            f"(log line {exception_line.number}).",
            f"{remedy} {_suggest_log_read(status, traceback_start)}",
            remedy,
            [*by_reason.evidence, _format_log_line(exception_line)],
        )
    if (meaning := EXIT_CODE_MEANINGS.get(status.exit_code or 0)) is not None:
        cause, remedy = meaning
        remedy = remedy.format_map(facts)
        return Diagnosis(
            f"{exit_text}: {cause.format_map(facts)}.",
            f"{remedy} {by_reason.remedy}",
            f"{remedy} {by_reason.remedy_after_log}",
            by_reason.evidence,
        )
    return by_reason


def _surrounding_texts(lines: Sequence[NumberedLine], center: NumberedLine) -> list[str]:
    """Return the texts of a line and of the lines around it, the nearest first."""
    nearby = [line for line in lines if abs(line.number - center.number) <= _CONTEXT_LINES]
    return [line.text for line in sorted(nearby, key=lambda line: abs(line.number - center.number))]


def _format_log_line(line: NumberedLine) -> str:
    return f"log line {line.number}: {shorten(line.text, _MAX_EVIDENCE_CHARS, keeps_end=True)}"


def _suggest_log_read(status: JobStatus, line: NumberedLine) -> str:
    start = max(0, line.number - _CONTEXT_LINES)
    return f'The log around it: job_logs(job_id="{_job_handle(status)}", cursor={start}).'


def _collect_evidence(status: JobStatus) -> list[str]:
    evidence = list[str]()
    if status.message:
        is_own_message = status.reason in _OBSERVED_REASONS or status.message.startswith(
            _OWN_MESSAGE_PREFIXES
        )
        # A message about missing outputs names each of them.
        max_chars = (
            _MAX_MISSING_OUTPUTS_CHARS
            if status.reason is Reason.OUTPUTS_MISSING
            else _MAX_EVIDENCE_CHARS
        )
        evidence.append(
            f"{EVIDENCE_PREFIXES[is_own_message]}: "
            f"{shorten(status.message, max_chars, keeps_end=True)}"
        )
    if status.exit_code is not None:
        evidence.append(f"exit code {status.exit_code}")
    return evidence


def _job_handle(status: JobStatus) -> str:
    return ids.format_handle(ids.HandleKind.JOB, status.id)


def _collect_facts(status: JobStatus) -> dict[str, Any]:
    spec = status.spec
    return {
        "handle": _job_handle(status),
        "namespace": status.namespace,
        "flavor": spec.get("flavor") or "this hardware",
        "image": truncate(spec.get("image") or "", _MAX_NAME_CHARS),
        "program": truncate(next(iter(spec.get("command") or []), "its program"), _MAX_NAME_CHARS),
        "model": truncate(spec.get("model") or "", _MAX_NAME_CHARS),
        "work": next(iter(_work_arguments(status)), ""),
        "again": format_retry_call(status),
        "more_time": _suggest_more_time(status),
    }


def _describe_timeout(status: JobStatus) -> str:
    seconds = status.spec.get("timeout")
    return (
        "its timeout"
        if seconds is None
        else f"its timeout of {format_duration(timedelta(seconds=seconds))}"
    )


def _work_arguments(status: JobStatus) -> tuple[str, ...]:
    """Return the names of the arguments that say what the job does."""
    return ("script",) if status.spec.get("script") else describe_kind(status.kind).work_arguments


def _install_facts(status: JobStatus, package: str) -> dict[str, str]:
    """Return how to install a package that is missing, and in which argument."""
    if status.spec.get("script"):
        return {"install": f'dependencies=["{package}"]', "install_argument": "dependencies"}
    pip = f'command=["sh", "-c", "pip install {package} && …"]'
    return {"install": pip, "install_argument": "command"}


def _suggest_more_time(status: JobStatus) -> str:
    less_work = "Give it less work, or faster hardware, " + then_retry(*_work_arguments(status))
    timeout = longer_timeout(status)
    if timeout is None:
        return less_work
    return (
        f"Give it a longer timeout: call {format_retry_call(status, timeout=timeout)}. Or less "
        "work."
    )


def _diagnose_reason(status: JobStatus) -> tuple[str, str]:  # noqa: C901, PLR0911, PLR0912  # one case for each reason
    """Return the cause and the remedy of a failure by its reason; the remedy may name facts."""
    match status.reason:
        case Reason.EXIT_NONZERO:
            return (
                f"the command exited with code {status.exit_code}.",
                "Correct the {work}, " + then_retry("{work}"),
            )
        case Reason.OOM:
            return (
                "it ran out of memory.",
                (
                    "Choose a flavor with more memory (list_hardware), or make the work smaller, "
                    + then_retry("flavor", "{work}")
                    if status.kind == JobKind.HUB_JOB
                    else "Make the work smaller, " + then_retry("inputs", "model")
                ),
            )
        case Reason.TIMED_OUT:
            return f"it was still running at {_describe_timeout(status)}.", "{more_time}"
        case Reason.INSUFFICIENT_CREDITS:
            return (
                f"the account {status.namespace} has no credits left for it.",
                "Add credits at https://huggingface.co/settings/billing, " + then_retry(),
            )
        case Reason.MISSING_PERMISSION:
            return (
                "your token may not do this.",
                "Use a token with the permissions job.write and inference.serverless.write, "
                + then_retry(),
            )
        case Reason.INVALID_REQUEST:
            return (
                "Hugging Face does not accept the request as it is written.",
                "Correct what the message names, " + then_retry(*_work_arguments(status)),
            )
        case Reason.LAUNCH_UNCONFIRMED:
            return (
                (
                    "its launch was never confirmed, and Hugging Face has nothing of it; if it "
                    "appears later, it is stopped."
                ),
                "If it is still wanted, call {again}.",
            )
        case Reason.OUTCOME_UNKNOWN:
            return (
                "its answer was lost, so nobody knows whether it was carried out, and charged.",
                "Have the person say whether paying twice is acceptable, " + then_retry(),
            )
        case Reason.UPSTREAM_DELETED:
            return (
                "it was deleted at Hugging Face, so how it went is not known.",
                "If it is still wanted, call {again}.",
            )
        case Reason.STUCK_SCHEDULING:
            return (
                "it waited too long to be started, so it was given up; nothing of it is running.",
                "Choose a flavor that is easier to get (list_hardware), or bring a valid token, "
                + then_retry("flavor"),
            )
        case Reason.CANCELLED_UPSTREAM:
            return (
                "it was cancelled at Hugging Face itself, not through Holdfast.",
                "If it is still wanted, call {again}.",
            )
        case Reason.HUB_UNAVAILABLE:
            return (
                "Hugging Face could not be reached for too long; nothing was started.",
                "Later, call {again}.",
            )
        case Reason.OUTPUTS_MISSING:
            return (
                "the command exited with code 0, but did not leave all the outputs it declared.",
                "Have it write them to the folder in HOLDFAST_OUTPUTS, under those very names, and "
                "close them before it exits, " + then_retry("command", "outputs"),
            )
        case Reason.DEPENDENCY_FAILED:
            return (
                "a job that it depends on did not succeed, so it was never started.",
                "Correct that job first; then launch this one again, with the new job in after.",
            )
        case Reason.CALL_FAILED:
            return (
                "the call was carried out and perhaps charged, but gave nothing that can be used.",
                "Correct what is named, "
                + then_retry(*_work_arguments(status), "parameters", "provider"),
            )
        case Reason.INTERNAL | None if status.message:
            return (
                "the cause was not recognised.",
                (
                    "Read what Hugging Face said. If it does not help, call {again}; if that "
                    "fails too, tell the operator of Holdfast of {handle}."
                ),
            )
        case Reason.INTERNAL | None:
            return (
                "the cause was not recognised, and Hugging Face gave none.",
                "Call {again}; if that fails too, tell the operator of Holdfast of {handle}.",
            )
        case _:
            assert_never(status.reason)
