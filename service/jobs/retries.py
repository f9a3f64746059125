"""Rules of a retry: whether a job may run again, and with which request.

`docs/retry.md` shows these rules to people. A retry that can only end in the same way is refused
before it costs anything, with what to change. A retry that may end differently is allowed, with
what to know about it. Nothing here asks the database or the Hub.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final, cast

from pydantic import BeforeValidator, ValidationInfo

from schema.common.durations import format_duration
from schema.common.errors import Conflict, Invalid
from schema.jobs.queries import JobStatus, UpstreamState
from schema.jobs.tables import Reason
from schema.specs.base import Spec
from schema.specs.command import parse_command
from schema.specs.hub_job import HubJobSpec, list_token_variables
from schema.specs.image import DEFAULT_IMAGE
from schema.specs.inference import InferenceSpec
from schema.specs.uv.script_header import describe_unread_header
from schema.specs.validation_errors import validate_spec
from service.jobs.secrets import split_secrets
from service.views import job_summary
from service.views.diagnosis.retry_calls import format_retry_call, longer_timeout
from service.views.job_kinds import describe_kind

_MERGED_FIELDS: Final = ("env", "parameters")
"""Overridden name by name, because nobody can read back the other values; null removes a name."""
_SCRIPT_FIELDS: Final = ("script", "script_args", "dependencies", "python")
_COMMAND_FIELDS: Final = frozenset({"image", "command", "env", "volumes", *_SCRIPT_FIELDS})
"""Fields that say what a job does."""
_SPACE_FIELDS: Final = frozenset({"space", "api_name", "arguments"})
_CALL_FIELDS: Final = frozenset({"model", "inputs", "parameters", "provider"}) | _SPACE_FIELDS
HELPFUL_OVERRIDES: Final[Mapping[Reason, frozenset[str]]] = {
    Reason.OOM: frozenset({"flavor"}) | _COMMAND_FIELDS | _CALL_FIELDS,
    Reason.TIMED_OUT: frozenset({"timeout", "flavor"}) | _COMMAND_FIELDS | _CALL_FIELDS,
    Reason.INVALID_REQUEST: frozenset({*HubJobSpec.model_fields, *InferenceSpec.model_fields})
    | _SPACE_FIELDS,
}
"""Failures that would only happen again, unless one of these fields changes."""
POSSIBLY_EXECUTED: Final = frozenset({Reason.LAUNCH_UNCONFIRMED, Reason.OUTCOME_UNKNOWN})
"""Failures after which the work may have been carried out all the same."""


class RetryRefused(Conflict):
    """The job cannot be run again as it is, or not yet."""


def _parse_override(command: object, validation: ValidationInfo) -> object:
    return parse_command(command, has_image=validation.data.get("image") != DEFAULT_IMAGE)


class _Override(Spec):
    """A command as a caller writes it, which is checked more than one that is stored."""

    image: str
    """Of the retry, whoever named it."""
    command: Annotated[list[str] | None, BeforeValidator(_parse_override)]


@dataclass(frozen=True, slots=True)
class RetryPlan:
    """The request of a retry."""

    spec: Spec
    title: str
    changed_fields: frozenset[str]
    """Fields that differ, or may differ, from the earlier request."""


def plan_retry(
    status: JobStatus, overrides: Mapping[str, Any], secrets: Mapping[str, str]
) -> RetryPlan:
    """Build the request of a retry: fields that are not overridden stay as they were.

    Raises:
        Invalid: an override is unknown or wrong, or the value of a secret is missing.
    """
    _expect_overridable(status.kind, overrides)
    spec_class = describe_kind(status.kind).spec_type
    before = validate_spec(spec_class, **status.spec)
    if "command" in overrides:
        image = overrides.get("image") or status.spec["image"]
        command = validate_spec(_Override, command=overrides["command"], image=image).command
        overrides = {**overrides, "command": command}
    fields = before.to_stored_json() | {
        name: _merge_mapping(status.spec.get(name), value) if name in _MERGED_FIELDS else value
        for name, value in overrides.items()
    }
    if isinstance(before, HubJobSpec):
        _expect_secrets(before.secrets, secrets)
        tokens = frozenset(list_token_variables(before.to_stored_json()))
        fields |= split_secrets(secrets, token_names=tokens).spec_fields()
        for name in _replaced_fields(overrides):
            fields.pop(name, None)
    spec = validate_spec(spec_class, **fields)
    old, new = before.to_stored_json(), spec.to_stored_json()
    changed = {name for name in {*old, *new} if new.get(name) != old.get(name)}
    if secrets:
        changed.add("secrets")  # their values may differ
    has_own_name = status.title != job_summary.shorten_title(before.title)
    title = status.title if has_own_name else job_summary.shorten_title(spec.title)
    return RetryPlan(spec, title, frozenset(changed))


def expect_useful_retry(status: JobStatus, plan: RetryPlan) -> None:
    """Refuse a retry that would run beside the earlier job, or could only fail again.

    Raises:
        RetryRefused: with what to do or to change.
    """
    handle = job_summary.job_handle(status)
    if missing := (status.adoption or {}).get("missing"):
        raise RetryRefused(
            f"{handle} was started outside of Holdfast with {', '.join(missing)}, which a launch "
            f"here cannot repeat, so nothing was launched. Call launch_job with what is needed."
        )
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
    # A job runs a command or a script, so fields of the other one are no help.
    unsuitable = {"command"} if "script" in status.spec else set(_SCRIPT_FIELDS)
    choices = [
        name
        for name in describe_kind(status.kind).retry_overrides
        if name in helpful and name not in unsuitable
    ]
    example = format_retry_call(status, **_example_overrides(status))
    raise RetryRefused(
        f"It would only fail again as {status.reason}, so nothing was launched. Override one of "
        f"{', '.join(choices)}, such as {example}.{_describe_short_timeout(status, plan)}"
    )


def describe_caveats(status: JobStatus, plan: RetryPlan) -> list[str]:
    """Say what to know about a retry that is allowed."""
    notes = _describe_likely_end(status, plan)
    if isinstance(plan.spec, HubJobSpec) and "script" in plan.changed_fields:
        notes += describe_unread_header(plan.spec.script)
    return notes


def _describe_likely_end(status: JobStatus, plan: RetryPlan) -> list[str]:
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
    if (alternatives := describe_kind(status.kind).alternatives) is None:
        return {}
    name, choices = alternatives
    return {name: next(choice for choice in choices if choice != status.spec.get(name))}


def _is_helpful(status: JobStatus, plan: RetryPlan, helpful_fields: frozenset[str]) -> bool:
    changed = plan.changed_fields & helpful_fields
    if status.reason is Reason.TIMED_OUT and set(changed) == {"timeout"}:
        return not _describe_short_timeout(status, plan)
    return bool(changed)


def _describe_short_timeout(status: JobStatus, plan: RetryPlan) -> str:
    """Say so if a new timeout is shorter than the one that the job exceeded."""
    old_seconds = float(status.spec.get("timeout") or 0)
    timeout = timedelta(seconds=float(plan.spec.to_stored_json().get("timeout") or 0))
    if "timeout" not in plan.changed_fields or timeout.total_seconds() >= old_seconds:
        return ""
    return f" A timeout of {format_duration(timeout)} is shorter than the one it outran."


def _expect_overridable(kind: str, overrides: Mapping[str, Any]) -> None:
    choices = describe_kind(kind).retry_overrides
    unknown = sorted(overrides.keys() - set(choices))
    if not unknown:
        return
    hint = " Secrets go into the argument secrets." if "secrets" in unknown else ""
    raise Invalid(
        f"overrides: {unknown[0]!r} cannot be overridden; what can be is "
        f"{', '.join(choices) or 'nothing of this job'}.{hint}"
    )


def _expect_secrets(names: list[str], secrets: Mapping[str, str]) -> None:
    missing = [name for name in names if name not in secrets]
    if missing:
        example = ", ".join(f'"{name}": "…"' for name in names)
        raise Invalid(
            f"secrets: {', '.join(missing)} must be given again, for what they stood for was wiped "
            f"when the job was launched: secrets={{{example}}}."
        )


def _replaced_fields(overrides: Mapping[str, Any]) -> list[str]:
    """Return the fields that an override replaces: a job runs a command or a script."""
    if "command" in overrides:
        return [name for name in _SCRIPT_FIELDS if name not in overrides]
    return ["command"] if "script" in overrides else []


def _merge_mapping(earlier: dict[str, Any] | None, override: Any) -> Any:
    if not isinstance(override, dict):
        return override  # the check of the whole request refuses it
    merged: dict[str, Any] = (earlier or {}) | cast("dict[str, Any]", override)
    return {name: value for name, value in merged.items() if value is not None}
