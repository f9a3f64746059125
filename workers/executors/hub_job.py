"""The executor of Hugging Face Jobs: one POST creates a job, which is then polled by its id."""

from datetime import timedelta
from typing import Any, Final

from pydantic import ValidationError

from schema.common import ids
from schema.hub.client import HubAmbiguous, HubRejected, HubUnreachable
from schema.hub.labels import APP_LABEL, APP_NAME, JOB_LABEL, RUN_LABEL, RUN_VARIABLE
from schema.jobs.tables import JobKind
from schema.specs import image, volumes
from schema.specs.hub_job import HubJobSpec, list_token_variables
from schema.specs.outputs import OutputFolder
from workers.artifacts import outputs
from workers.attempts.error_outcomes import outcome_from_error, reject_outdated_spec
from workers.executor import Created, ExecutionRequest, Executor, ExecutorDeps, Outcome, RetryLater
from workers.hub.client import HubJobsClient
from workers.timing import boottime_seconds

_DEFAULT_ENVIRONMENT: Final = {"PYTHONUNBUFFERED": "1"}
"""Python holds back what it prints into a pipe: the log of a running job would stay empty."""


class HubJobExecutor:
    """Launches Hugging Face Jobs."""

    kind = JobKind.HUB_JOB
    is_call = False
    resumes = False
    slots = 12

    def __init__(self, hub: HubJobsClient) -> None:
        self._hub = hub

    async def execute(self, request: ExecutionRequest) -> Outcome:
        """Send the create request, once."""
        try:
            spec = HubJobSpec.model_validate(request.spec)
        except ValidationError as error:
            return reject_outdated_spec(error)
        timeout = request.request_timeout
        if (folder := _output_folder(request, spec)) is not None:
            # This takes from the time of the request: after that time another worker may ask the
            # Hub about this run, and the request must not be sent any more.
            started_at = boottime_seconds()
            obstacle = await outputs.ensure_bucket(self._hub, request, folder, timeout=timeout / 2)
            timeout -= timedelta(seconds=boottime_seconds() - started_at)
            if obstacle is not None or timeout <= timedelta(0):
                return obstacle or RetryLater(
                    "The worker was held up before it could send the request."
                )
        try:
            job = await self._hub.create_job(
                request.namespace, _build_body(request, spec), request.token, timeout=timeout
            )
            return Created.from_job(job)
        except (HubUnreachable, HubRejected, HubAmbiguous) as error:
            return outcome_from_error(error)


def create_executor(deps: ExecutorDeps) -> Executor:
    """Create the executor; `discover_executors` finds this function by its name."""
    return HubJobExecutor(deps.hub)


def _output_folder(request: ExecutionRequest, spec: HubJobSpec) -> OutputFolder | None:
    """Return the folder for the outputs of the job; none if it declares no outputs."""
    if not spec.outputs or spec.outputs_in is None:
        return None
    return OutputFolder.for_job(spec.outputs_in, request.job_id)


def _build_body(request: ExecutionRequest, spec: HubJobSpec) -> dict[str, Any]:
    folder = _output_folder(request, spec)
    script = spec.uv_script
    tokens = dict.fromkeys(list_token_variables(request.spec), request.token)
    optional_fields = {
        "secrets": {name: text.reveal() for name, text in {**request.secrets, **tokens}.items()},
        "volumes": [
            *([outputs.output_volume(folder).to_hub_json()] if folder else []),
            *(volumes.parse_volume(volume).to_hub_json() for volume in spec.volumes),
            *([script.volume.to_hub_json()] if script and script.volume else []),
        ],
        "expose": {"ports": spec.expose, "portsPublic": []} if spec.expose else None,
        "ssh": {"enabled": True} if spec.ssh else None,
        "resourceGroupId": spec.resource_group_id,
    }
    return {
        **image.image_source(spec.image),
        "command": spec.command if script is None else script.build_command(),
        "arguments": [],
        "environment": {
            **_DEFAULT_ENVIRONMENT,
            **spec.env,
            **(outputs.output_environment() if folder else {}),
            **({} if script is None else script.build_environment()),
            RUN_VARIABLE: str(request.run_id),
        },
        "flavor": spec.flavor,
        "timeoutSeconds": max(1, round(spec.timeout.total_seconds())),
        "attempts": spec.attempts,
        **{name: value for name, value in optional_fields.items() if value},
        "labels": {
            **request.labels,
            APP_LABEL: APP_NAME,
            JOB_LABEL: ids.format_handle(ids.HandleKind.JOB, request.job_id),
            RUN_LABEL: str(request.run_id),
        },
    }
