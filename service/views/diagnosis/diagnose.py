"""Why did a job fail, how is that known, and what should be done about it?

What is said rests on evidence that is shown beside it: the words of Hugging Face, an exit code, a
numbered line of the log. What nobody here recognises is said to be so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, assert_never

from schema.artifacts.log_store import Line
from schema.common import ids
from schema.common.durations import say
from schema.jobs.queries import JobStatus
from schema.jobs.tables import JobKind, Reason
from service.views.diagnosis import matching
from service.views.diagnosis.retry_calls import again, longer
from service.views.diagnosis.symptoms import EXIT_CODES, then
from service.views.job_kinds import known
from service.views.text import shorten

_OURS: Final = frozenset(
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
SAYING: Final = ("Hugging Face said", "Holdfast saw")
"""How evidence in words begins: theirs, and ours."""
_SEEN_HERE: Final = ("It was still ", "Its secrets ", "Not sent: ", "The Space ", "The bucket ")
"""How our own messages begin under other reasons."""
_BY_ITSELF: Final = frozenset({Reason.EXIT_NONZERO, Reason.OOM, Reason.TIMED_OUT, *_OURS})
"""Reasons that a message says nothing more about."""
_TELLING: Final = "The Space "
"""How a message begins that says more than any reason does."""
_SHOWN: Final = 300
_LISTED: Final = 3000
_BEFORE: Final = 5
"""Lines of the log worth reading above the one that tells."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is known of a failure."""

    why: str
    """The end of a sentence that begins with "Failed:"."""
    remedy: str
    evidence: list[str] = field(default_factory=list[str])


def diagnose(status: JobStatus, lines: Sequence[Line] = ()) -> Diagnosis:
    """Say why a job failed, as far as its last words tell; `lines` are the telling ones."""
    facts, evidence = _facts(status), _evidence(status)
    why, remedy = _by_reason(status)
    said = status.message or ""
    telling = status.reason not in _BY_ITSELF or said.startswith(_TELLING)
    if telling and (found := matching.said(said)):
        symptom, parts = found
        facts |= {"url": matching.page_of([said]), **parts}
        why, remedy = symptom.why.format_map(facts), symptom.remedy
    known = Diagnosis(why, remedy.format_map(facts), evidence)
    is_command = status.reason is Reason.EXIT_NONZERO and status.exit_code is not None
    return _of_a_command(status, lines, known) if is_command else known


def _of_a_command(status: JobStatus, lines: Sequence[Line], known: Diagnosis) -> Diagnosis:
    """Say what a command that exited tells by its log, or else by its exit code."""
    exited = f"the command exited with code {status.exit_code}"
    facts = _facts(status)
    if found := matching.last(lines):
        facts |= {"file": "", "path": "", "url": matching.page_of(_around(lines, found.line))}
        facts |= found.parts
        facts |= _install(status, matching.package_of(facts.get("module", "")))
        return Diagnosis(
            f"{exited}: {found.symptom.why.format_map(facts)} (log line {found.line.number}).",
            f"{found.symptom.remedy.format_map(facts)} {_read_on(status, found.line)}",
            [*known.evidence, _line(found.line)],
        )
    if raised := matching.exception(lines):
        begun, named = raised
        return Diagnosis(
            f"{exited}: it raised {shorten(named.text, 120)} (log line {named.number}).",
            f"Correct the {facts['work']}, {then(facts['work'])} {_read_on(status, begun)}",
            [*known.evidence, _line(named)],
        )
    if (meaning := EXIT_CODES.get(status.exit_code or 0)) is not None:
        why, remedy = meaning
        return Diagnosis(
            f"{exited}: {why.format_map(facts)}.",
            f"{remedy.format_map(facts)} {known.remedy}",
            known.evidence,
        )
    return known


def _around(lines: Sequence[Line], told: Line) -> list[str]:
    """Return a line and what is near it, the nearest first."""
    near = [line for line in lines if abs(line.number - told.number) <= _BEFORE]
    return [line.text for line in sorted(near, key=lambda line: abs(line.number - told.number))]


def _line(line: Line) -> str:
    return f"log line {line.number}: {shorten(line.text, _SHOWN)}"


def _read_on(status: JobStatus, line: Line) -> str:
    start = max(0, line.number - _BEFORE)
    return f'The log around it: job_logs(job_id="{_handle(status)}", cursor={start}).'


def _evidence(status: JobStatus) -> list[str]:
    shown = list[str]()
    if status.message:
        ours = status.reason in _OURS or status.message.startswith(_SEEN_HERE)
        # Each output that is missing is named.
        longest = _LISTED if status.reason is Reason.OUTPUTS_MISSING else _SHOWN
        shown.append(f"{SAYING[ours]}: {shorten(status.message, longest)}")
    if status.exit_code is not None:
        shown.append(f"exit code {status.exit_code}")
    return shown


def _handle(status: JobStatus) -> str:
    return ids.write(ids.Kind.JOB, status.id)


def _facts(status: JobStatus) -> dict[str, Any]:
    spec = status.spec
    return {
        "handle": _handle(status),
        "namespace": status.namespace,
        "flavor": spec.get("flavor") or "this hardware",
        "image": spec.get("image") or "",
        "program": next(iter(spec.get("command") or []), "its program"),
        "model": spec.get("model") or "",
        "work": next(iter(_work(status)), ""),
        "again": again(status),
        "more_time": _more_time(status),
    }


def _timeout(status: JobStatus) -> str:
    given = status.spec.get("timeout")
    return "its timeout" if given is None else f"its timeout of {say(timedelta(seconds=given))}"


def _work(status: JobStatus) -> tuple[str, ...]:
    """Name the arguments that say what is done."""
    return ("script",) if status.spec.get("script") else known(status.kind).work


def _install(status: JobStatus, package: str) -> dict[str, str]:
    """Say how a package gets to where it is missed, and by which argument."""
    if status.spec.get("script"):
        return {"install": f'dependencies=["{package}"]', "installs": "dependencies"}
    pip = f'command=["sh", "-c", "pip install {package} && …"]'
    return {"install": pip, "installs": "command"}


def _more_time(status: JobStatus) -> str:
    less = "Give it less work, or faster hardware, " + then(*_work(status))
    timeout = longer(status)
    if timeout is None:
        return less
    return f"Give it a longer timeout: call {again(status, timeout=timeout)}. Or less work."


def _by_reason(status: JobStatus) -> tuple[str, str]:  # noqa: C901, PLR0911, PLR0912  # one case for each reason
    """Say why a job failed and its remedy, by its reason; `{handle}` stands for its handle."""
    match status.reason:
        case Reason.EXIT_NONZERO:
            return (
                f"the command exited with code {status.exit_code}.",
                'Read log_tail or job_logs(job_id="{handle}", tail=200), correct the command, '
                + then("{work}"),
            )
        case Reason.OOM:
            return (
                "it ran out of memory.",
                (
                    "Choose a flavor with more memory (list_hardware), or make the work smaller, "
                    + then("flavor", "{work}")
                    if status.kind == JobKind.HUB_JOB
                    else "Make the work smaller, " + then("inputs", "model")
                ),
            )
        case Reason.TIMED_OUT:
            return f"it was still running at {_timeout(status)}.", "{more_time}"
        case Reason.INSUFFICIENT_CREDITS:
            return (
                f"the account {status.namespace} has no credits left for it.",
                "Add credits at https://huggingface.co/settings/billing, " + then(),
            )
        case Reason.MISSING_PERMISSION:
            return (
                "your token may not do this.",
                "Use a token with the permissions job.write and inference.serverless.write, "
                + then(),
            )
        case Reason.INVALID_REQUEST:
            return (
                "Hugging Face does not accept the request as it is written.",
                "Correct what the message names, " + then(*_work(status)),
            )
        case Reason.LAUNCH_UNCONFIRMED:
            return (
                "its launch was never confirmed, and nothing is there; a late arrival is stopped.",
                "If it is still wanted, call {again}.",
            )
        case Reason.OUTCOME_UNKNOWN:
            return (
                "its answer was lost, so nobody knows whether it was carried out, and charged.",
                "Have the person say whether paying twice is acceptable, " + then(),
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
                + then("flavor"),
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
                "close them before it exits, " + then("command", "outputs"),
            )
        case Reason.DEPENDENCY_FAILED:
            return (
                "a job that had to succeed before it did not, so it was never started.",
                "Mend that one first; then launch this again with after naming the new job.",
            )
        case Reason.CALL_FAILED:
            return (
                "the call was carried out, perhaps charged, and came to nothing that can be used.",
                "Correct what is named, " + then(*_work(status), "parameters", "provider"),
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
