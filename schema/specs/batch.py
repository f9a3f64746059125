"""Specification of a batch: one call to Inference Providers, with many inputs.

The specification stores what all items have in common. The items are rows (`schema.batches.store`),
so it only stores how many there are and a digest of them, or the URI they are read from.
"""

from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema

from schema.common.text import quote_value
from schema.specs.base import Spec
from schema.specs.inference import InferenceCallSpec, InferenceSpec, Task
from schema.specs.inputs.hub_tokens import find_token
from schema.specs.inputs.hub_uri import HubUri
from schema.specs.inputs.item_lines import read_openai_line
from schema.specs.validation_errors import describe_problem

MAX_ITEMS: Final = 10_000
MAX_CONCURRENCY: Final = 32
MAX_TRIES: Final = 10
MAX_INLINE_BYTES: Final = 5_000_000
"""How large all inline items may be, written as JSON; a file may be larger."""
MAX_FILE_BYTES: Final = 50_000_000
ITEM_EXAMPLE: Final = '{"custom_id": "review-1", "inputs": "Great!"}'
_FILE_PRODUCING_TASKS: Final = frozenset(
    {"text-to-image", "image-to-image", "text-to-video", "image-to-video", "text-to-speech"}
)


OnUnknown = Literal["report", "repeat"]


class ItemRequest(NamedTuple):
    """The request of one item, as it is stored."""

    custom_id: str
    request: dict[str, Any]


def _admit_openai_lines(schema: dict[str, Any]) -> None:
    """Publish what both forms of an item have in common."""
    schema.pop("additionalProperties", None)
    schema["required"] = ["custom_id"]


class Item(Spec):
    """One item, as a caller writes it inline or on a line of a file; or a line for OpenAI."""

    model_config = ConfigDict(json_schema_extra=_admit_openai_lines)

    custom_id: Annotated[str, Field(strict=True, min_length=1, max_length=200)]
    inputs: Any
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Merged over the parameters of the batch."""
    model: SkipJsonSchema[str | None] = None
    """The model of the line; not stored, because a batch asks one model."""
    task: SkipJsonSchema[Task | None] = None
    """The task of the line; not stored, because a batch has one task."""

    @model_validator(mode="before")
    @classmethod
    def _read_openai_line(cls, fields: object) -> object:
        return read_openai_line(fields)

    def to_request(self) -> ItemRequest:
        """Return what is stored of it."""
        return ItemRequest(self.custom_id, {"inputs": self.inputs, "parameters": self.parameters})


class InlineItems(Spec):
    """Items that came with the request, or that another batch left over."""

    count: Annotated[int, Field(ge=1, le=MAX_ITEMS)]
    origin: str
    """A digest of the items, or the batch they come from: the same for the same items."""


class BatchSpec(InferenceCallSpec):
    """Many calls to Inference Providers."""

    items: InlineItems | None = None
    items_from: Annotated[str, Field(max_length=1000)] | None = None
    """The URI of a JSONL file at the Hub; a worker reads it once."""
    concurrency: Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)] = 8
    on_unknown: OnUnknown = "report"
    """What happens to an item whose answer was lost and that may have been carried out."""
    max_tries: Annotated[int, Field(ge=1, le=MAX_TRIES)] = 4
    """How often an item is sent at most."""

    @field_validator("items_from")
    @classmethod
    def _check_items_from(cls, uri: str | None) -> str | None:
        return None if uri is None else str(HubUri.parse(uri))

    @model_validator(mode="after")
    def _check_has_items(self) -> Self:
        if (self.items is None) == (self.items_from is None):
            message = "give either items or items_from"
            raise ValueError(message)
        return self

    @field_validator("task")
    @classmethod
    def _check_task_returns_text(cls, task: str) -> str:
        if task in _FILE_PRODUCING_TASKS:
            message = f"{task} makes files, and a batch keeps none; launch one call for each"
            raise ValueError(message)
        return task

    def build_call(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the inference call of one item."""
        common = self.model_dump(mode="json", include=set(InferenceCallSpec.model_fields))
        return {
            **common,
            "inputs": request["inputs"],
            "parameters": {**self.parameters, **request["parameters"]},
        }


class InvalidItem(Exception):
    """An item that cannot be sent, or one item too many; the text says which, and why."""


class ItemCollector:
    """Collects the items of a batch, and checks each before any is sent."""

    def __init__(self, spec: BatchSpec) -> None:
        self._spec = spec
        self._location_by_id: dict[str, str] = {}
        self.requests: list[ItemRequest] = []

    def add(self, location: str, item: Item) -> None:
        """Check an item and add it.

        Args:
            location: where the item stands, for an error.
            item: the next one.

        Raises:
            InvalidItem: it cannot be sent, or its custom_id is that of another.
        """
        if len(self.requests) == MAX_ITEMS:
            message = f"{location}: a batch has {MAX_ITEMS:,} items at most; launch several"
            raise InvalidItem(message)
        earlier = self._location_by_id.setdefault(item.custom_id, location)
        if earlier != location:
            message = (
                f"{location}: the custom_id {quote_value(item.custom_id)} is already used by "
                f"{earlier}; give each item one of its own"
            )
            raise InvalidItem(message)
        if (conflict := self._find_conflict(item)) is not None:
            raise InvalidItem(f"{location}: {conflict}")
        request = item.to_request()
        if find_token(request.request) is not None:
            message = f"{location}: it contains a token of Hugging Face; leave that out"
            raise InvalidItem(message)
        try:
            InferenceSpec.model_validate(self._spec.build_call(request.request))
        except ValidationError as error:
            raise InvalidItem(f"{location}: {describe_first_error(error)}") from None
        self.requests.append(request)

    def _find_conflict(self, item: Item) -> str | None:
        """Say in what an item asks for something else than its batch; None if it does not."""
        spec = self._spec
        if item.model not in {None, spec.model}:
            return (
                f"it asks {quote_value(item.model)}, and the batch asks {quote_value(spec.model)}; "
                f"launch a batch for each model"
            )
        if item.task not in {None, spec.task}:
            return (
                f"it is for {item.task}, and the batch for {spec.task}; give task="
                f'"{item.task}", or launch a batch for each'
            )
        return None


def describe_first_error(error: ValidationError) -> str:
    """Describe the first problem of an item."""
    entry = error.errors(include_url=False, include_input=False)[0]
    path = ".".join(str(step) for step in entry["loc"])
    problem = describe_problem(entry)
    return f"{path}: {problem}" if path else problem
