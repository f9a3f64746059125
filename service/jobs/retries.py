"""May a job be run again, and as what? `docs/retry.md` shows these rules to people.

A retry that cannot end otherwise is refused before it costs anything, with what to change; one that
may is allowed, with what there is to know. Nothing here asks the database or the Hub.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, cast

from schema.common.durations import say
from schema.common.errors import Conflict, Invalid
from schema.jobs.queries import JobStatus, Upstream
from schema.jobs.tables import Reason
from schema.specs.base import Spec
from schema.specs.hub_job import HubJobSpec, token_variables
from schema.specs.inference import InferenceSpec
from schema.specs.validation_errors import checked
from service.jobs.secrets import entrust
from service.views import job_summary
from service.views.diagnosis.retry_calls import again, longer
from service.views.job_kinds import known

_JOINED: Final = ("env", "parameters")
"""Given by name, for nobody can read back what the others are; a null takes one away."""
_SCRIPT: Final = ("script", "script_args", "dependencies", "python")
_RUN: Final = frozenset({"image", "command", "env", "volumes", *_SCRIPT})
"""What of a job says what it does."""
_SPACE: Final = frozenset({"space", "api_name", "arguments"})
_CALL: Final = frozenset({"model", "inputs", "parameters", "provider"}) | _SPACE
HELPS: Final[Mapping[Reason, frozenset[str]]] = {
    Reason.OOM: frozenset({"flavor"}) | _RUN | _CALL,
    Reason.TIMED_OUT: frozenset({"timeout", "flavor"}) | _RUN | _CALL,
    Reason.INVALID_REQUEST: frozenset({*HubJobSpec.model_fields, *InferenceSpec.model_fields})
    | _SPACE,
}
"""Failures that would only be repeated, unless one of these is different."""
MAY_HAVE_RUN: Final = frozenset({Reason.LAUNCH_UNCONFIRMED, Reason.OUTCOME_UNKNOWN})
"""Failures of which nobody knows that nothing was carried out."""


class RetryRefused(Conflict):
    """The job cannot be run again as it is, or not yet."""


@dataclass(frozen=True, slots=True)
class Rerun:
    """A job as it is to be launched again."""

    spec: Spec
    title: str
    changed: frozenset[str]
    """Parts of the request that differ, or may."""


def rewrite(status: JobStatus, overrides: Mapping[str, Any], secrets: Mapping[str, str]) -> Rerun:
    """Write the request of a job anew: what is not overridden stays as it was.

    Raises:
        Invalid: an override is unknown or wrong, or a secret is not given again.
    """
    _expect_known(status.kind, overrides)
    shape = known(status.kind).shape
    before = checked(shape, **status.spec)
    given = before.stored() | {
        name: _joined(status.spec.get(name), value) if name in _JOINED else value
        for name, value in overrides.items()
    }
    if isinstance(before, HubJobSpec):
        _expect_secrets(before.secrets, secrets)
        tokens = frozenset(token_variables(before.stored()))
        given |= entrust(secrets, tokens=tokens).asked()
        for name in _replaced(overrides):
            given.pop(name, None)
    spec = checked(shape, **given)
    old, new = before.stored(), spec.stored()
    changed = {name for name in {*old, *new} if new.get(name) != old.get(name)}
    if secrets:
        changed.add("secrets")  # what they stood for may differ
    named = status.title != job_summary.entitled(before.title)
    title = status.title if named else job_summary.entitled(spec.title)
    return Rerun(spec, title, frozenset(changed))


def expect_of_use(status: JobStatus, rerun: Rerun) -> None:
    """Refuse what would run twice at a time, or only fail again.

    Raises:
        RetryRefused: with what to do, or to change.
    """
    handle = job_summary.handle_of(status)
    if status.finished_at is None:
        raise RetryRefused(
            f"{handle} is still {status.state}, so nothing was launched. Wait until it has "
            f'finished, or call cancel_job(job_id="{handle}") first.'
        )
    if status.upstream in {Upstream.STOPPING, Upstream.LIVE}:
        raise RetryRefused(
            f"What {handle} started at Hugging Face has not been seen to be over, and two would be "
            f"paid for, so nothing was launched. Retry it once job_status says upstream "
            f'"stopped".'
        )
    helpful = HELPS.get(status.reason) if status.reason is not None else None
    if helpful is None or _helps(status, rerun, helpful):
        return
    other = {"command"} if "script" in status.spec else set(_SCRIPT)
    choices = [
        name for name in known(status.kind).overrides if name in helpful and name not in other
    ]
    example = again(status, **_example(status))
    raise RetryRefused(
        f"It would only fail again as {status.reason}, so nothing was launched. Override one of "
        f"{', '.join(choices)}, such as {example}.{_not_longer(status, rerun)}"
    )


def caveats(status: JobStatus, rerun: Rerun) -> list[str]:
    """Say what there is to know about a retry that is allowed."""
    if status.reason in MAY_HAVE_RUN:
        return ["The first one may have been carried out, and charged."]
    if status.reason is Reason.INSUFFICIENT_CREDITS:
        return [f"The account {status.namespace} pays again; without new credits it fails alike."]
    if status.reason is Reason.MISSING_PERMISSION:
        return ["Unless your token has been given the permission since, it fails alike."]
    if status.reason is Reason.EXIT_NONZERO and not rerun.changed:
        if status.exit_code is None:
            return ["Unchanged, it may end with the same error."]
        return [f"Unchanged, it may exit with code {status.exit_code} again."]
    return []


def _example(status: JobStatus) -> dict[str, str]:
    if status.reason is Reason.TIMED_OUT and (timeout := longer(status)) is not None:
        return {"timeout": timeout}
    if (other := known(status.kind).other) is None:
        return {}
    name, choices = other
    return {name: next(choice for choice in choices if choice != status.spec.get(name))}


def _helps(status: JobStatus, rerun: Rerun, helpful: frozenset[str]) -> bool:
    changed = rerun.changed & helpful
    if status.reason is Reason.TIMED_OUT and set(changed) == {"timeout"}:
        return not _not_longer(status, rerun)
    return bool(changed)


def _not_longer(status: JobStatus, rerun: Rerun) -> str:
    """Say so if a new timeout is too short for what has already outrun the old one."""
    seconds = float(status.spec.get("timeout") or 0)
    new = timedelta(seconds=float(rerun.spec.stored().get("timeout") or 0))
    if "timeout" not in rerun.changed or new.total_seconds() >= seconds:
        return ""
    return f" A timeout of {say(new)} is shorter than the one it outran."


def _expect_known(kind: str, overrides: Mapping[str, Any]) -> None:
    choices = known(kind).overrides
    unknown = sorted(overrides.keys() - set(choices))
    if not unknown:
        return
    beside = " Secrets go into the argument secrets." if "secrets" in unknown else ""
    raise Invalid(
        f"overrides: {unknown[0]!r} cannot be overridden; what can be is "
        f"{', '.join(choices) or 'nothing of this job'}.{beside}"
    )


def _expect_secrets(names: list[str], secrets: Mapping[str, str]) -> None:
    missing = [name for name in names if name not in secrets]
    if missing:
        given = ", ".join(f'"{name}": "…"' for name in names)
        raise Invalid(
            f"secrets: {', '.join(missing)} must be given again, for what they stood for was wiped "
            f"when the job was launched: secrets={{{given}}}."
        )


def _replaced(overrides: Mapping[str, Any]) -> list[str]:
    """Name what an override puts an end to: a job runs a command, or a script."""
    if "command" in overrides:
        return [name for name in _SCRIPT if name not in overrides]
    return ["command"] if "script" in overrides else []


def _joined(before: dict[str, Any] | None, given: Any) -> Any:
    if not isinstance(given, dict):
        return given  # which the check of the whole request refuses
    joined: dict[str, Any] = (before or {}) | cast("dict[str, Any]", given)
    return {name: value for name, value in joined.items() if value is not None}
