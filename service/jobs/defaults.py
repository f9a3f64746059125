"""What does a launch ask for, once its workspace has filled in what the call left open?

The one place where defaults are resolved. The request they give is the one that is compared under
an idempotency key, kept, and shown: a default that changes later changes no job.
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


@dataclass(frozen=True, slots=True)
class ResolvedLaunch:
    """What a launch asks for, and what of it came from its workspace."""

    workspace_id: UUID | None
    arguments: Mapping[str, Any]
    """Arguments that are said by the call or by the workspace."""
    labels: dict[str, str]
    notes: list[str]
    approval_threshold_micro_usd: int | None
    """Millionths of a dollar from where on a person is asked; none: never."""

    def select_arguments(self, *names: str) -> dict[str, Any]:
        """Return those of the arguments that are said at all."""
        return {name: self.arguments[name] for name in names if name in self.arguments}


async def resolve_defaults(
    app: App,
    caller: Caller,
    workspace_id: str | None,
    *,
    labels: dict[str, str] | None,
    **arguments: Any,
) -> ResolvedLaunch:
    """Fill in what is `None` of the given arguments; labels are joined, and the call's own win.

    Raises:
        NotFound: the caller has no such workspace.
        Invalid: the labels are too many together.
    """
    own = {name: value for name, value in arguments.items() if value is not None}
    if workspace_id is None:
        return ResolvedLaunch(None, own, labels or {}, [], None)
    async with app.transaction(caller) as tx:
        workspace = await operations.find_workspace(tx, caller, workspace_id)
    defaults = WorkspaceDefaults.model_validate(workspace.defaults)
    offered = {name: getattr(defaults, name) for name in arguments}
    taken = {
        name: value for name, value in offered.items() if value is not None and name not in own
    }
    inherited = {
        name: value for name, value in (defaults.labels or {}).items() if name not in (labels or {})
    }
    return ResolvedLaunch(
        workspace.id,
        own | taken,
        _check_labels(inherited | (labels or {})),
        _notes(workspace, taken, inherited),
        workspace.confirm_above_micro_usd,
    )


def _check_labels(labels: dict[str, str]) -> dict[str, str]:
    try:
        WorkspaceDefaults(labels=labels)
    except ValidationError as error:
        raise to_invalid_error(error) from None
    return labels


def _notes(
    workspace: Workspace, filled_arguments: Mapping[str, Any], inherited_labels: Mapping[str, str]
) -> list[str]:
    said = [
        f"{name} {format_duration(value) if name == 'timeout' else value}"
        for name, value in filled_arguments.items()
    ]
    if inherited_labels:
        said.append(
            "labels " + " ".join(f"{name}={text}" for name, text in inherited_labels.items())
        )
    return [f"From the workspace {workspace.name}: {', '.join(said)}."] if said else []


_SHORT_TIMEOUT: Final = timedelta(minutes=30)
"""What runs so long on the smallest machine may well be made for its log."""


_SMALLEST_FLAVOR: Final = "cpu-basic"


def output_bucket(bucket: str, namespace: str, resolved: ResolvedLaunch) -> str:
    """Return the bucket for outputs, and the folder of a workspace in it."""
    if (chosen := resolved.arguments.get("bucket")) is not None:
        return str(chosen)
    common = f"{namespace}/{bucket}"
    if resolved.workspace_id is None:
        return common
    return f"{common}/{ids.format_handle(HandleKind.WORKSPACE, resolved.workspace_id)}"


def lost_output_notes(spec: HubJobSpec) -> list[str]:
    """Say so if a job costs something, and nothing that it makes can outlive it but its log."""
    is_little = spec.flavor == _SMALLEST_FLAVOR and spec.timeout <= _SHORT_TIMEOUT
    has_token = spec.pass_token or spec.token_as or spec.secrets or TOKEN_VARIABLE in spec.env
    writes = any(not volumes.parse_volume(each).read_only for each in spec.volumes)
    if is_little or has_token or writes or spec.outputs:
        return []
    return ["Nothing it makes is kept but its log: name outputs, or let it have a token to upload."]
