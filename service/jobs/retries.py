"""May a job be run again, and as what? `docs/retry.md` shows these rules to people.

A retry that cannot end otherwise is refused before it costs anything, with what to change; one that
may is allowed, with what there is to know. Nothing here asks the database or the Hub.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, cast

from schema.common.durations import format_duration
from schema.common.errors import Conflict, Invalid
from schema.jobs.queries import JobStatus, UpstreamState
from schema.jobs.tables import Reason
from schema.specs.base import Spec
from schema.specs.hub_job import HubJobSpec, list_token_variables
from schema.specs.inference import InferenceSpec
from schema.specs.validation_errors import validate_spec
from service.jobs.secrets import split_secrets
from service.views import job_summary
from service.views.diagnosis.retry_calls import format_retry_call, longer_timeout
from service.views.job_kinds import describe_kind

_MERGED_FIELDS: Final = ("env", "parameters")
"""Given by name, for nobody can read back what the others are; a null takes one away."""
_SCRIPT_FIELDS: Final = ("script", "script_args", "dependencies", "python")
_COMMAND_FIELDS: Final = frozenset({"image", "command", "env", "volumes", *_SCRIPT_FIELDS})
"""What of a job says what it does."""
_SPACE_FIELDS: Final = frozenset({"space", "api_name", "arguments"})
_CALL_FIELDS: Final = frozenset({"model", "inputs", "parameters", "provider"}) | _SPACE_FIELDS
HELPFUL_OVERRIDES: Final[Mapping[Reason, frozenset[str]]] = {
    Reason.OOM: frozenset({"flavor"}) | _COMMAND_FIELDS | _CALL_FIELDS,
    Reason.TIMED_OUT: frozenset({"timeout", "flavor"}) | _COMMAND_FIELDS | _CALL_FIELDS,
    Reason.INVALID_REQUEST: frozenset({*HubJobSpec.model_fields, *InferenceSpec.model_fields})
    | _SPACE_FIELDS,
}
"""Failures that would only be repeated, unless one of these is different."""
POSSIBLY_EXECUTED: Final = frozenset({Reason.LAUNCH_UNCONFIRMED, Reason.OUTCOME_UNKNOWN})
"""Failures of which nobody knows that nothing was carried out."""


class RetryRefused(Conflict):
    """The job cannot be run again as it is, or not yet."""


@dataclass(frozen=True, slots=True)
class RetryPlan:
    """A job as it is to be launched again."""

    spec: Spec
    title: str
    changed_fields: frozenset[str]
    """Parts of the request that differ, or may."""


def plan_retry(
    status: JobStatus, overrides: Mapping[str, Any], secrets: Mapping[str, str]
) -> RetryPlan:
    """Write the request of a job anew: what is not overridden stays as it was.

    Raises:
        Invalid: an override is unknown or wrong, or a secret is not given again.
    """
    _expect_overridable(status.kind, overrides)
    shape = describe_kind(status.kind).spec_type
    before = validate_spec(shape, **status.spec)
    given = before.to_stored_json() | {
        name: _merge_mapping(status.spec.get(name), value) if name in _MERGED_FIELDS else value
        for name, value in overrides.items()
    }
    if isinstance(before, HubJobSpec):
        _expect_secrets(before.secrets, secrets)
        tokens = frozenset(list_token_variables(before.to_stored_json()))
        given |= split_secrets(secrets, token_names=tokens).spec_fields()
        for name in _replaced_fields(overrides):
            given.pop(name, None)
    spec = validate_spec(shape, **given)
    old, new = before.to_stored_json(), spec.to_stored_json()
    changed = {name for name in {*old, *new} if new.get(name) != old.get(name)}
    if secrets:
        changed.add("secrets")  # what they stood for may differ
    named = status.title != job_summary.shorten_title(before.title)
    title = status.title if named else job_summary.shorten_title(spec.title)
    return RetryPlan(spec, title, frozenset(changed))


def expect_useful_retry(status: JobStatus, plan: RetryPlan) -> None:
    """Refuse what would run twice at a time, or only fail again.

    Raises:
        RetryRefused: with what to do, or to change.
    """
    handle = job_summary.job_handle(status)
    if status.finished_at is None:
        raise RetryRefused(
            f"{handle} is still {status.state}, so nothing was launched. Wait until it has "
            f'finished, or call cancel_job(job_id="{handle}") first.'
        )
    if status.upstream in {UpstreamState.STOPPING, UpstreamState.LIVE}:
        raise RetryRefused(
            f"What {handle} started at Hugging Face has not been seen to be over, and two would be "
            f"paid for, so nothing was launched. Retry it once job_status says upstream "
            f'"stopped".'
        )
    helpful = HELPFUL_OVERRIDES.get(status.reason) if status.reason is not None else None
    if helpful is None or _is_helpful(status, plan, helpful):
        return
    other = {"command"} if "script" in status.spec else set(_SCRIPT_FIELDS)
    choices = [
        name
        for name in describe_kind(status.kind).retry_overrides
        if name in helpful and name not in other
    ]
    example = format_retry_call(status, **_example_overrides(status))
    raise RetryRefused(
        f"It would only fail again as {status.reason}, so nothing was launched. Override one of "
        f"{', '.join(choices)}, such as {example}.{_describe_short_timeout(status, plan)}"
    )


def describe_caveats(status: JobStatus, plan: RetryPlan) -> list[str]:
    """Say what there is to know about a retry that is allowed."""
    if status.reason in POSSIBLY_EXECUTED:
        return ["The first one may have been carried out, and charged."]
    if status.reason is Reason.INSUFFICIENT_CREDITS:
        return [f"The account {status.namespace} pays again; without new credits it fails alike."]
    if status.reason is Reason.MISSING_PERMISSION:
        return ["Unless your token has been given the permission since, it fails alike."]
    if status.reason is Reason.EXIT_NONZERO and not plan.changed_fields:
        if status.exit_code is None:
            return ["Unchanged, it may end with the same error."]
        return [f"Unchanged, it may exit with code {status.exit_code} again."]
    return []


def _example_overrides(status: JobStatus) -> dict[str, str]:
    if status.reason is Reason.TIMED_OUT and (timeout := longer_timeout(status)) is not None:
        return {"timeout": timeout}
    if (other := describe_kind(status.kind).alternatives) is None:
        return {}
    name, choices = other
    return {name: next(choice for choice in choices if choice != status.spec.get(name))}


def _is_helpful(status: JobStatus, plan: RetryPlan, helpful_fields: frozenset[str]) -> bool:
    changed = plan.changed_fields & helpful_fields
    if status.reason is Reason.TIMED_OUT and set(changed) == {"timeout"}:
        return not _describe_short_timeout(status, plan)
    return bool(changed)


def _describe_short_timeout(status: JobStatus, plan: RetryPlan) -> str:
    """Say so if a new timeout is too short for what has already outrun the old one."""
    seconds = float(status.spec.get("timeout") or 0)
    new = timedelta(seconds=float(plan.spec.to_stored_json().get("timeout") or 0))
    if "timeout" not in plan.changed_fields or new.total_seconds() >= seconds:
        return ""
    return f" A timeout of {format_duration(new)} is shorter than the one it outran."


def _expect_overridable(kind: str, overrides: Mapping[str, Any]) -> None:
    choices = describe_kind(kind).retry_overrides
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


def _replaced_fields(overrides: Mapping[str, Any]) -> list[str]:
    """Name what an override puts an end to: a job runs a command, or a script."""
    if "command" in overrides:
        return [name for name in _SCRIPT_FIELDS if name not in overrides]
    return ["command"] if "script" in overrides else []


def _merge_mapping(earlier: dict[str, Any] | None, override: Any) -> Any:
    if not isinstance(override, dict):
        return override  # which the check of the whole request refuses
    joined: dict[str, Any] = (earlier or {}) | cast("dict[str, Any]", override)
    return {name: value for name, value in joined.items() if value is not None}
