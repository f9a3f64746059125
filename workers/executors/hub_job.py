"""A Hugging Face Job: created by one POST, bound by its id, watched and killed by that id."""

from typing import Any, Final
from uuid import UUID

from pydantic import ValidationError

from schema import handles
from schema.job import JobKind
from schema.spec import TOKEN_VARIABLE, HubJobSpec
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
            return Bound(job.id, job.stage)
        except (Unreached, Answered4xx, Ambiguous) as error:
            return trouble(error)


def executor(means: Means) -> Executor:
    """Make this executor."""
    return HubJobExecutor(means.hub)


def run_label(run_id: UUID) -> str:
    """Write the label that finds a run in a listing."""
    return f"{RUN_LABEL}={run_id}"


def _body(order: Order, spec: HubJobSpec) -> dict[str, Any]:
    secrets = {name: secret.reveal() for name, secret in order.secrets.items()}
    if spec.pass_token:
        secrets[TOKEN_VARIABLE] = order.token.reveal()
    return {
        "dockerImage": spec.image,
        "command": spec.command,
        "arguments": [],
        "environment": {**spec.env, RUN_VARIABLE: str(order.run_id)},
        **({"secrets": secrets} if secrets else {}),
        "flavor": spec.flavor,
        "timeoutSeconds": max(1, round(spec.timeout.total_seconds())),
        "labels": {
            **order.labels,
            APP_LABEL: APP,
            JOB_LABEL: handles.write(handles.Kind.JOB, order.job_id),
            RUN_LABEL: str(order.run_id),
        },
    }
