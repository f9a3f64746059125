"""Why did a job fail, how is that known, and what should be done about it?

What is said rests on evidence that is shown beside it: the words of Hugging Face, an exit code, a
numbered line of the log. What nobody here recognises is said to be so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, assert_never

from schema.artifacts.log_store import NumberedLine
from schema.common import ids
from schema.common.durations import format_duration
from schema.common.text import shorten
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
"""Reasons of which the message is what we saw, not what Hugging Face said."""
EVIDENCE_PREFIXES: Final = ("Hugging Face said", "Holdfast saw")
"""How evidence in words begins: theirs, and ours."""
_OWN_MESSAGE_PREFIXES: Final = (
    "It was still ",
    "Its secrets ",
    "Not sent: ",
    "The Space ",
    "The bucket ",
)
"""How our own messages begin under other reasons."""
_SELF_EXPLANATORY_REASONS: Final = frozenset(
    {Reason.EXIT_NONZERO, Reason.OOM, Reason.TIMED_OUT, *_OBSERVED_REASONS}
)
"""Reasons that a message says nothing more about."""
_SPACE_MESSAGE_PREFIX: Final = "The Space "
"""How a message begins that says more than any reason does."""
_MAX_EVIDENCE_CHARACTERS: Final = 300
_MAX_MISSING_OUTPUTS_CHARACTERS: Final = 3000
_CONTEXT_LINES: Final = 5
"""Lines of the log worth reading above the one that tells."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is known of a failure."""

    cause: str
    """The end of a sentence that begins with "Failed:"."""
    remedy: str
    evidence: list[str] = field(default_factory=list[str])


def diagnose(status: JobStatus, lines: Sequence[NumberedLine] = ()) -> Diagnosis:
    """Say why a job failed, as far as its last words tell; `lines` are the telling ones."""
    facts, evidence = _collect_facts(status), _collect_evidence(status)
    why, remedy = _diagnose_reason(status)
    said = status.message or ""
    telling = status.reason not in _SELF_EXPLANATORY_REASONS or said.startswith(
        _SPACE_MESSAGE_PREFIX
    )
    if telling and (found := matching.find_message_symptom(said)):
        symptom, parts = found
        facts |= {"url": matching.repository_url([said]), **parts}
        why, remedy = symptom.cause.format_map(facts), symptom.remedy
    known = Diagnosis(why, remedy.format_map(facts), evidence)
    is_command = status.reason is Reason.EXIT_NONZERO and status.exit_code is not None
    return _diagnose_command(status, lines, known) if is_command else known


def _diagnose_command(
    status: JobStatus, lines: Sequence[NumberedLine], by_reason: Diagnosis
) -> Diagnosis:
    """Say what a command that exited tells by its log, or else by its exit code."""
    exited = f"the command exited with code {status.exit_code}"
    facts = _collect_facts(status)
    if found := matching.find_last_symptom(lines):
        facts |= {
            "file": "",
            "path": "",
            "url": matching.repository_url(_surrounding_texts(lines, found.line)),
        }
        facts |= found.groups
        facts |= _install_facts(status, matching.package_for_module(facts.get("module", "")))
        return Diagnosis(
            f"{exited}: {found.symptom.cause.format_map(facts)} (log line {found.line.number}).",
            f"{found.symptom.remedy.format_map(facts)} {_suggest_log_read(status, found.line)}",
            [*by_reason.evidence, _format_log_line(found.line)],
        )
    if raised := matching.find_exception(lines):
        begun, named = raised
        return Diagnosis(
            f"{exited}: it raised {shorten(named.text, 120)} (log line {named.number}).",
            f"Correct the {facts['work']}, {then_retry(facts['work'])} "
            f"{_suggest_log_read(status, begun)}",
            [*by_reason.evidence, _format_log_line(named)],
        )
    if (meaning := EXIT_CODE_MEANINGS.get(status.exit_code or 0)) is not None:
        why, remedy = meaning
        return Diagnosis(
            f"{exited}: {why.format_map(facts)}.",
            f"{remedy.format_map(facts)} {by_reason.remedy}",
            by_reason.evidence,
        )
    return by_reason


def _surrounding_texts(lines: Sequence[NumberedLine], center: NumberedLine) -> list[str]:
    """Return a line and what is near it, the nearest first."""
    near = [line for line in lines if abs(line.number - center.number) <= _CONTEXT_LINES]
    return [line.text for line in sorted(near, key=lambda line: abs(line.number - center.number))]


def _format_log_line(line: NumberedLine) -> str:
    return f"log line {line.number}: {shorten(line.text, _MAX_EVIDENCE_CHARACTERS)}"


def _suggest_log_read(status: JobStatus, line: NumberedLine) -> str:
    start = max(0, line.number - _CONTEXT_LINES)
    return f'The log around it: job_logs(job_id="{_job_handle(status)}", cursor={start}).'


def _collect_evidence(status: JobStatus) -> list[str]:
    shown = list[str]()
    if status.message:
        ours = status.reason in _OBSERVED_REASONS or status.message.startswith(
            _OWN_MESSAGE_PREFIXES
        )
        # Each output that is missing is named.
        longest = (
            _MAX_MISSING_OUTPUTS_CHARACTERS
            if status.reason is Reason.OUTPUTS_MISSING
            else _MAX_EVIDENCE_CHARACTERS
        )
        shown.append(f"{EVIDENCE_PREFIXES[ours]}: {shorten(status.message, longest)}")
    if status.exit_code is not None:
        shown.append(f"exit code {status.exit_code}")
    return shown


def _job_handle(status: JobStatus) -> str:
    return ids.format_handle(ids.HandleKind.JOB, status.id)


def _collect_facts(status: JobStatus) -> dict[str, Any]:
    spec = status.spec
    return {
        "handle": _job_handle(status),
        "namespace": status.namespace,
        "flavor": spec.get("flavor") or "this hardware",
        "image": spec.get("image") or "",
        "program": next(iter(spec.get("command") or []), "its program"),
        "model": spec.get("model") or "",
        "work": next(iter(_work_arguments(status)), ""),
        "again": format_retry_call(status),
        "more_time": _suggest_more_time(status),
    }


def _describe_timeout(status: JobStatus) -> str:
    given = status.spec.get("timeout")
    return (
        "its timeout"
        if given is None
        else f"its timeout of {format_duration(timedelta(seconds=given))}"
    )


def _work_arguments(status: JobStatus) -> tuple[str, ...]:
    """Name the arguments that say what is done."""
    return ("script",) if status.spec.get("script") else describe_kind(status.kind).work_arguments


def _install_facts(status: JobStatus, package: str) -> dict[str, str]:
    """Say how a package gets to where it is missed, and by which argument."""
    if status.spec.get("script"):
        return {"install": f'dependencies=["{package}"]', "installs": "dependencies"}
    pip = f'command=["sh", "-c", "pip install {package} && …"]'
    return {"install": pip, "installs": "command"}


def _suggest_more_time(status: JobStatus) -> str:
    less = "Give it less work, or faster hardware, " + then_retry(*_work_arguments(status))
    timeout = longer_timeout(status)
    if timeout is None:
        return less
    return (
        f"Give it a longer timeout: call {format_retry_call(status, timeout=timeout)}. Or less "
        "work."
    )


def _diagnose_reason(status: JobStatus) -> tuple[str, str]:  # noqa: C901, PLR0911, PLR0912  # one case for each reason
    """Say why a job failed and its remedy, by its reason; `{handle}` stands for its handle."""
    match status.reason:
        case Reason.EXIT_NONZERO:
            return (
                f"the command exited with code {status.exit_code}.",
                'Read log_tail or job_logs(job_id="{handle}", tail=200), correct the command, '
                + then_retry("{work}"),
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
                "its launch was never confirmed, and nothing is there; a late arrival is stopped.",
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
                "it waited too long to be started, so it was given up and nothing of it goes on.",
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
                "a job that had to succeed before it did not, so it was never started.",
                "Mend that one first; then launch this again with after naming the new job.",
            )
        case Reason.CALL_FAILED:
            return (
                "the call was carried out, perhaps charged, and came to nothing that can be used.",
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
