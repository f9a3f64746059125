"""A call to Inference Providers: sent once, and its answer is the result.

It has no id to ask for later. What was lost on the way is therefore said to be unknown, never tried
again behind the caller's back: it may have been carried out, and paid for.
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
    slots = 32

    def __init__(self, caller: InferenceCaller) -> None:
        self._caller = caller

    async def execute(self, request: ExecutionRequest) -> Outcome:
        """Make the call, once, and wait for its answer."""
        try:
            spec = InferenceSpec.model_validate(request.spec)
        except ValidationError as error:
            return reject_outdated_spec(error)
        return await self._caller.call(spec, request.token, report_progress=request.report_progress)


def executor(deps: ExecutorDeps) -> Executor:
    """Make this executor."""
    return InferenceExecutor(InferenceCaller(deps))
