"""The executor of single calls to Inference Providers: sent once, and the response is the result.

A call has no id to ask for later. If its response is lost, the outcome is unknown, and the call is
never repeated without the caller: it may have been carried out, and paid for.
"""

from pydantic import ValidationError

from schema.jobs.tables import JobKind
from schema.specs.inference import InferenceSpec
from workers.attempts.error_outcomes import reject_outdated_spec
from workers.executor import ExecutionRequest, Executor, ExecutorDeps, Outcome
from workers.inference.call import InferenceCaller


class InferenceExecutor:
    """Makes one call for each job."""

    kind = JobKind.INFERENCE
    is_call = True
    resumes = False
    slots = 48

    def __init__(self, caller: InferenceCaller) -> None:
        self._caller = caller

    async def execute(self, request: ExecutionRequest) -> Outcome:
        """Make the call, once, and wait for its response."""
        try:
            spec = InferenceSpec.model_validate(request.spec)
        except ValidationError as error:
            return reject_outdated_spec(error)
        return await self._caller.call(
            spec,
            request.token,
            job_id=request.job_id,
            report_progress=request.report_progress,
        )


def create_executor(deps: ExecutorDeps) -> Executor:
    """Create the executor; `discover_executors` finds this function by its name."""
    return InferenceExecutor(InferenceCaller(deps))
