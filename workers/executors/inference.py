"""A call to Inference Providers: sent once, and its answer is the result.

It has no id to ask for later. What was lost on the way is therefore said to be unknown, never tried
again behind the caller's back: it may have been carried out, and paid for.
"""

from pydantic import ValidationError

from schema.jobs.tables import JobKind
from schema.specs.inference import InferenceSpec
from workers.attempts.error_outcomes import outgrown
from workers.executor import Executor, Means, Order, Outcome
from workers.inference.call import Inference


class InferenceExecutor:
    """Makes one call for each job."""

    kind = JobKind.INFERENCE
    is_call = True
    resumes = False
    slots = 32

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    async def execute(self, order: Order) -> Outcome:
        """Make the call, once, and wait for its answer."""
        try:
            spec = InferenceSpec.model_validate(order.spec)
        except ValidationError as error:
            return outgrown(error)
        return await self._inference.answer(spec, order.token, report=order.report)


def executor(means: Means) -> Executor:
    """Make this executor."""
    return InferenceExecutor(Inference(means))
