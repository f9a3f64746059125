"""Specification of a call to Inference Providers: validated once, stored, and read by a worker.

Each task takes its inputs in one form (`schema.specs.inputs.inference_inputs`). What cannot be
carried out is refused here, before a handle is created, with a correct example.
"""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_serializer,
    field_validator,
)
from pydantic_core import to_jsonable_python

from schema.common.durations import SERIALIZE_AS_SECONDS, bounded_duration_parser
from schema.common.name_matching import normalize_name
from schema.common.text import quote_value
from schema.specs.base import Spec
from schema.specs.inputs import inference_inputs, media_types
from schema.specs.inputs.inference_inputs import Inputs

CHAT: Final = "chat-completion"
EMBEDDINGS: Final = "feature-extraction"
_ALIASES: Final = {"embeddings": EMBEDDINGS}
_MODEL: Final = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(:[a-z0-9-]+)?", re.ASCII)
_PROVIDER: Final = re.compile(r"[a-z0-9][a-z0-9-]*")
_ACCOUNT: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_RESERVED_PARAMETERS: Final = frozenset({"model", "messages", "stream", "input", "inputs"})
_ROUTING_POLICIES: Final = frozenset({"fastest", "cheapest", "preferred"})
"""Values of `provider` by which the router chooses one; it does so for chats only."""
MAX_CALL_TIMEOUT: Final = timedelta(hours=1)
parse_call_timeout = bounded_duration_parser(timedelta(seconds=1), MAX_CALL_TIMEOUT)


def _resolve_task_alias(task: object) -> object:
    return _ALIASES.get(normalize_name(task), task) if isinstance(task, str) else task


def _check_model(model: str) -> str:
    if not _MODEL.fullmatch(model):
        message = (
            f'{quote_value(model)} is not the id of a model; write one such as "Qwen/Qwen3-32B"'
        )
        raise ValueError(message)
    return model


def _normalize_provider(provider: str) -> str:
    name = normalize_name(provider)
    if not _PROVIDER.fullmatch(name):
        message = (
            f'{quote_value(provider)} is not a provider; write one such as "groq", or leave it out'
        )
        raise ValueError(message)
    return name


def _check_account(account: str) -> str:
    if not _ACCOUNT.fullmatch(account):
        message = f"{quote_value(account)} is not the name of an organisation"
        raise ValueError(message)
    return account


Task = Annotated[
    Literal[
        "chat-completion",
        "text-generation",
        "feature-extraction",
        "text-to-image",
        "image-to-image",
        "text-to-video",
        "image-to-video",
        "text-to-speech",
        "automatic-speech-recognition",
        "text-classification",
        "zero-shot-classification",
        "summarization",
        "translation",
        "image-to-text",
        "image-classification",
    ],
    BeforeValidator(_resolve_task_alias),
]
ModelId = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_check_model)]
Provider = Annotated[str, Field(max_length=64), AfterValidator(_normalize_provider)]
BillingAccount = Annotated[str, AfterValidator(_check_account)]
TaskParameters = dict[str, Any]
CallTimeout = Annotated[timedelta, BeforeValidator(parse_call_timeout), SERIALIZE_AS_SECONDS]

_INPUT_PARSERS: Final[Mapping[str, Callable[[object], Inputs]]] = {
    CHAT: inference_inputs.parse_chat,
    EMBEDDINGS: inference_inputs.parse_texts,
}
"""Parsers of the inputs of tasks that take no bytes; the inputs of all others are one text."""
_ACCEPTED_MEDIA_TYPES: Final = {
    "automatic-speech-recognition": media_types.AUDIO | media_types.VIDEO,
    "image-to-text": media_types.IMAGES,
    "image-classification": media_types.IMAGES,
    "image-to-image": media_types.IMAGES,
    "image-to-video": media_types.IMAGES,
}
_TASKS_WITH_PROMPT: Final = frozenset({"image-to-image", "image-to-video"})


def accepted_media_types(task: str) -> frozenset[str]:
    """Return the media types that a task works on; empty if it does not work on bytes."""
    return _ACCEPTED_MEDIA_TYPES.get(task, frozenset())


def _parse_inputs(task: str, value: object) -> Inputs:
    if media := accepted_media_types(task):
        return inference_inputs.parse_media(value, media, allows_prompt=task in _TASKS_WITH_PROMPT)
    return _INPUT_PARSERS.get(task, inference_inputs.parse_text)(value)


class InferenceCallSpec(Spec):
    """A call to Inference Providers, without its inputs."""

    task: Task = CHAT
    model: ModelId
    parameters: TaskParameters = Field(default_factory=dict, validate_default=True)
    provider: Provider | None = None
    bill_to: BillingAccount | None = None
    """The organisation that pays; None: the caller."""
    timeout: CallTimeout = timedelta(minutes=10)
    """Of the whole job: fetching the input, the call, and fetching the result."""

    @field_validator("parameters")
    @classmethod
    def _check_parameters(
        cls, parameters: TaskParameters, validation: ValidationInfo
    ) -> TaskParameters:
        task = validation.data.get("task")
        # A prompt is a parameter of a transcription; for other tasks it is the input itself.
        reserved = (
            _RESERVED_PARAMETERS
            if task == "automatic-speech-recognition"
            else _RESERVED_PARAMETERS | {"prompt"}
        )
        if conflicts := sorted(reserved & parameters.keys()):
            message = (
                f"{conflicts[0]!r} is not a parameter here: model and inputs are arguments of "
                f"their own, and the answer comes in one piece; leave it out"
            )
            raise ValueError(message)
        if task == "zero-shot-classification" and not parameters.get("candidate_labels"):
            message = (
                'zero-shot-classification needs {"candidate_labels": ["a topic", "another topic"]}'
            )
            raise ValueError(message)
        return parameters

    @field_validator("provider")
    @classmethod
    def _check_provider(cls, provider: str | None, validation: ValidationInfo) -> str | None:
        if provider == "auto":
            return None
        if provider in _ROUTING_POLICIES and validation.data.get("task") != CHAT:
            message = f"{provider!r} chooses a provider for chats only; name one, or leave it out"
            raise ValueError(message)
        return provider

    @property
    def title(self) -> str:
        """The title of a job without a name: not the prompt, because jobs are grouped by title."""
        return self.model


class InferenceSpec(InferenceCallSpec):
    """One call to Inference Providers."""

    inputs: Inputs

    @field_validator("inputs", mode="plain")
    @classmethod
    def _parse_inputs_of_task(cls, value: object, validation: ValidationInfo) -> Inputs:
        if (task := validation.data.get("task")) is None:
            return ""  # the task has been refused already
        try:
            return _parse_inputs(task, value)
        except ValueError as error:
            message = f"for {task}, {error}"
            raise ValueError(message) from None

    @field_serializer("inputs")
    def _serialize_inputs(self, inputs: Inputs) -> Any:
        return to_jsonable_python(inputs, exclude_none=True)
