"""A Hugging Face Job: created by one POST, bound by its id, watched and killed by that id."""

from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from schema.common import ids
from schema.jobs.tables import JobKind
from schema.specs import image, volumes
from schema.specs.hub_job import HubJobSpec, token_variables
from schema.specs.outputs import Folder
from workers.artifacts import outputs
from workers.attempts.error_outcomes import outgrown, trouble
from workers.executor import Bound, Executor, Later, Means, Order, Outcome
from workers.hub.client import Ambiguous, Answered4xx, Hub, Unreached
from workers.hub.labels import APP, APP_LABEL, JOB_LABEL, RUN_LABEL, RUN_VARIABLE
from workers.timing import elapsed


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
        within = order.within
        if (folder := _folder(order, spec)) is not None:
            # In one time with the request: after it somebody may be asking about this run.
            began = elapsed()
            refusal = await outputs.make_room(self._hub, order, folder, within=within / 2)
            within -= timedelta(seconds=elapsed() - began)
            if refusal is not None or within <= timedelta(0):
                return refusal or Later("The worker was held up before it could send the request.")
        try:
            job = await self._hub.create_job(
                order.namespace, _body(order, spec), order.token, within=within
            )
            return Bound(job.id, job.stage, job.addresses)
        except (Unreached, Answered4xx, Ambiguous) as error:
            return trouble(error)


def executor(means: Means) -> Executor:
    """Make this executor."""
    return HubJobExecutor(means.hub)


def _folder(order: Order, spec: HubJobSpec) -> Folder | None:
    """Return where the job leaves its outputs, if it is to leave any."""
    if not spec.outputs or spec.outputs_in is None:
        return None
    return Folder.of(spec.outputs_in, order.job_id)


def _body(order: Order, spec: HubJobSpec) -> dict[str, Any]:
    folder = _folder(order, spec)
    script = spec.packed
    tokens = dict.fromkeys(token_variables(order.spec), order.token)
    asked = {
        "secrets": {name: text.reveal() for name, text in {**order.secrets, **tokens}.items()},
        "volumes": [
            *([outputs.mount(folder).body()] if folder else []),
            *(volumes.parse(each).body() for each in spec.volumes),
        ],
        "expose": {"ports": spec.expose, "portsPublic": []} if spec.expose else None,
        "ssh": {"enabled": True} if spec.ssh else None,
        "resourceGroupId": spec.resource_group_id,
    }
    return {
        **image.source(spec.image),
        "command": spec.command if script is None else script.command(),
        "arguments": [],
        "environment": {
            **spec.env,
            **(outputs.told() if folder else {}),
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
            JOB_LABEL: ids.write(ids.Kind.JOB, order.job_id),
            RUN_LABEL: str(order.run_id),
        },
    }
