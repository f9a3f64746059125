"""A call to Inference Providers: sent once, and its answer is the result.

It has no id to ask for later. What was lost on the way is therefore said to be unknown, never tried
again behind the caller's back: it may have been carried out, and paid for.
"""

from typing import Any, Final

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from schema.endings import Ending
from schema.job import JobKind, JobState
from schema.spec import InferenceSpec
from workers.context import Executor, Means, Order
from workers.hub import Ambiguous, Answered4xx, Hub, Unreached
from workers.outcome import Answered, Outcome, Unclear
from workers.trouble import outgrown, trouble


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Chat(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    model: str | None = None
    usage: dict[str, Any] | None = None


_CHAT: Final = TypeAdapter(_Chat)


class InferenceExecutor:
    """Makes chat completion calls through the router."""

    kind = JobKind.INFERENCE
    is_call = True
    resumes = False
    slots = 32

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def execute(self, order: Order) -> Outcome:
        """Send the request, once, and wait for its answer."""
        try:
            spec = InferenceSpec.model_validate(order.spec)
        except ValidationError as error:
            return outgrown(error)
        try:
            answer, provider = await self._hub.chat(_body(spec), order.token, within=spec.timeout)
            return Answered(_succeeded(spec, answer, provider))
        except (Unreached, Answered4xx, Ambiguous) as error:
            return trouble(error)
        except ValidationError:
            return Unclear("the answer is not a chat completion")


def executor(means: Means) -> Executor:
    """Make this executor."""
    return InferenceExecutor(means.hub)


def _body(spec: InferenceSpec) -> dict[str, Any]:
    model = f"{spec.model}:{spec.provider}" if spec.provider else spec.model
    messages = [message.stored() for message in spec.messages]
    return {**spec.parameters, "model": model, "messages": messages, "stream": False}


def _succeeded(spec: InferenceSpec, answer: dict[str, Any], provider: str | None) -> Ending:
    read = _CHAT.validate_python(answer)
    choice = read.choices[0]
    result = {
        "task": spec.task,
        "model": read.model or spec.model,
        "provider": provider,
        "text": choice.message.content,
        "finish_reason": choice.finish_reason,
        "usage": read.usage,
    }
    return Ending(JobState.SUCCEEDED, "ANSWERED", result=result)
