"""Arguments of a launch, with the defaults of its workspace filled in.

This is the only place that resolves defaults. The request that they complete is the one that is
compared under an idempotency key, stored, and shown: a default that changes later changes no job.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from pydantic import ValidationError

from schema.common import ids
from schema.common.durations import format_duration
from schema.common.ids import HandleKind
from schema.specs import volumes
from schema.specs.hub_job import TOKEN_VARIABLE, HubJobSpec
from schema.specs.validation_errors import to_invalid_error
from schema.workspaces.defaults import WorkspaceDefaults
from schema.workspaces.tables import Workspace
from service.auth.caller import Caller
from service.jobs import operations
from service.runtime.context import App

_SHORT_TIMEOUT: Final = timedelta(minutes=30)
"""A job that runs no longer than this on the smallest flavor may be there for its log only."""
_SMALLEST_FLAVOR: Final = "cpu-basic"


@dataclass(frozen=True, slots=True)
class ResolvedLaunch:
    """The arguments of a launch, and what of them came from its workspace."""

    workspace_id: UUID | None
    arguments: Mapping[str, Any]
    """Arguments that the call or the workspace gives."""
    labels: dict[str, str]
    notes: list[str]
    approval_threshold_micro_usd: int | None
    """The cost above which a person is asked; None: nobody is asked."""

    def select_arguments(self, *names: str) -> dict[str, Any]:
        """Return those of the named arguments that have a value."""
        return {name: self.arguments[name] for name in names if name in self.arguments}


async def resolve_defaults(
    app: App,
    caller: Caller,
    workspace_id: str | None,
    *,
    labels: dict[str, str] | None,
    **arguments: Any,
) -> ResolvedLaunch:
    """Fill in the arguments that are None; labels are merged, and the call's own win.

    Raises:
        NotFound: the caller has no such workspace.
        Invalid: together the labels are too many.
    """
    own = {name: value for name, value in arguments.items() if value is not None}
    if workspace_id is None:
        return ResolvedLaunch(None, own, labels or {}, [], None)
    async with app.transaction(caller) as tx:
        workspace = await operations.find_workspace(tx, caller, workspace_id)
    defaults = WorkspaceDefaults.model_validate(workspace.defaults)
    values = {name: getattr(defaults, name) for name in arguments}
    filled = {
        name: value for name, value in values.items() if value is not None and name not in own
    }
    inherited = {
        name: value for name, value in (defaults.labels or {}).items() if name not in (labels or {})
    }
    return ResolvedLaunch(
        workspace.id,
        own | filled,
        _check_labels(inherited | (labels or {})),
        _describe_defaults(workspace, filled, inherited),
        workspace.confirm_above_micro_usd,
    )


def _check_labels(labels: dict[str, str]) -> dict[str, str]:
    try:
        WorkspaceDefaults(labels=labels)
    except ValidationError as error:
        raise to_invalid_error(error) from None
    return labels


def _describe_defaults(
    workspace: Workspace, filled_arguments: Mapping[str, Any], inherited_labels: Mapping[str, str]
) -> list[str]:
    values = [
        f"{name} {format_duration(value) if name == 'timeout' else value}"
        for name, value in filled_arguments.items()
    ]
    if inherited_labels:
        values.append(
            "labels " + " ".join(f"{name}={text}" for name, text in inherited_labels.items())
        )
    return [f"From the workspace {workspace.name}: {', '.join(values)}."] if values else []


def output_bucket(bucket: str, namespace: str, resolved: ResolvedLaunch) -> str:
    """Return the bucket for outputs; a workspace has a folder of its own in the common one."""
    if (workspace_bucket := resolved.arguments.get("bucket")) is not None:
        return str(workspace_bucket)
    common_bucket = f"{namespace}/{bucket}"
    if resolved.workspace_id is None:
        return common_bucket
    return f"{common_bucket}/{ids.format_handle(HandleKind.WORKSPACE, resolved.workspace_id)}"


def lost_output_notes(spec: HubJobSpec) -> list[str]:
    """Warn if a job costs something, and nothing that it makes can outlive it except its log."""
    is_cheap = spec.flavor == _SMALLEST_FLAVOR and spec.timeout <= _SHORT_TIMEOUT
    has_token = spec.pass_token or spec.token_as or spec.secrets or TOKEN_VARIABLE in spec.env
    writes = any(not volumes.parse_volume(volume).read_only for volume in spec.volumes)
    if is_cheap or has_token or writes or spec.outputs:
        return []
    return ["Nothing it makes is kept but its log: name outputs, or let it have a token to upload."]
