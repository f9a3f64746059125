"""A Hugging Face Job: created by one POST, bound by its id, watched and killed by that id."""

from typing import Any, Final
from uuid import UUID

from pydantic import ValidationError

from schema import handles, images, volumes
from schema.job import JobKind
from schema.spec import HubJobSpec, token_variables
from workers.context import Executor, Means, Order
from workers.hub import Ambiguous, Answered4xx, Hub, Unreached
from workers.outcome import Bound, Outcome
from workers.trouble import outgrown, trouble

APP_LABEL: Final = "holdfast-app"
APP: Final = "holdfast"
JOB_LABEL: Final = "holdfast-job"
RUN_LABEL: Final = "holdfast-run"
RUN_VARIABLE: Final = "HOLDFAST_RUN"
"""Labels can be edited; the environment of a run cannot."""


class HubJobExecutor:
    """Launches Hugging Face Jobs."""

    kind = JobKind.HUB_JOB
    is_call = False
    resumes = False
    slots = 8

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def execute(self, order: Order) -> Outcome:
        """Send the create request, once."""
        try:
            spec = HubJobSpec.model_validate(order.spec)
        except ValidationError as error:
            return outgrown(error)
        try:
            job = await self._hub.create_job(
                order.namespace, _body(order, spec), order.token, within=order.within
            )
            return Bound(job.id, job.stage, job.addresses)
        except (Unreached, Answered4xx, Ambiguous) as error:
            return trouble(error)


def executor(means: Means) -> Executor:
    """Make this executor."""
    return HubJobExecutor(means.hub)


def run_label(run_id: UUID) -> str:
    """Write the label that finds a run in a listing."""
    return f"{RUN_LABEL}={run_id}"


def _body(order: Order, spec: HubJobSpec) -> dict[str, Any]:
    script = spec.packed
    tokens = dict.fromkeys(token_variables(order.spec), order.token)
    asked = {
        "secrets": {name: text.reveal() for name, text in {**order.secrets, **tokens}.items()},
        "volumes": [volumes.parse(each).body() for each in spec.volumes],
        "expose": {"ports": spec.expose, "portsPublic": []} if spec.expose else None,
        "ssh": {"enabled": True} if spec.ssh else None,
        "resourceGroupId": spec.resource_group_id,
    }
    return {
        **images.source(spec.image),
        "command": spec.command if script is None else script.command(),
        "arguments": [],
        "environment": {
            **spec.env,
            **({} if script is None else script.environment()),
            RUN_VARIABLE: str(order.run_id),
        },
        "flavor": spec.flavor,
        "timeoutSeconds": max(1, round(spec.timeout.total_seconds())),
        "attempts": spec.attempts,
        **{name: value for name, value in asked.items() if value},
        "labels": {
            **order.labels,
            APP_LABEL: APP,
            JOB_LABEL: handles.write(handles.Kind.JOB, order.job_id),
            RUN_LABEL: str(order.run_id),
        },
    }
