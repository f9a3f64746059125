"""What a batch asks for: one call to Inference Providers, and the many inputs it is made with.

The request keeps what all items have in common. The items themselves are rows
(`schema.batches.store`),
so of them it keeps only how many there are and what tells them from others, or where they are read.
"""

from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from schema.specs.base import Spec
from schema.specs.inference import CallSpec, InferenceSpec
from schema.specs.inputs.hub_uri import HubPath

MOST_ITEMS: Final = 10_000
MOST_AT_ONCE: Final = 32
MOST_TRIES: Final = 10
INLINE_BYTES: Final = 5_000_000
"""How much inline items may come to, written as JSON; a file may come to more."""
FILE_BYTES: Final = 50_000_000
ITEM: Final = '{"custom_id": "review-1", "inputs": "Great!"}'
_SHOWN: Final = 60
_MAKES_FILES: Final = frozenset(
    {"text-to-image", "image-to-image", "text-to-video", "image-to-video", "text-to-speech"}
)


OnUnknown = Literal["report", "repeat"]


class Given(NamedTuple):
    """An item as it was asked for."""

    custom_id: str
    request: dict[str, Any]


class Item(Spec):
    """One item, as it is written inline or on a line of a file."""

    custom_id: Annotated[str, Field(strict=True, min_length=1, max_length=200)]
    inputs: Any
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Joined with those of all items."""

    def given(self) -> Given:
        """Return what is kept of it."""
        return Given(self.custom_id, {"inputs": self.inputs, "parameters": self.parameters})


class Inline(Spec):
    """Items that were given with the request, or taken over from another batch."""

    count: Annotated[int, Field(ge=1, le=MOST_ITEMS)]
    origin: str
    """The same for the same items: a digest of them, or the batch they come from."""


class BatchSpec(CallSpec):
    """Many calls to Inference Providers."""

    items: Inline | None = None
    items_from: Annotated[str, Field(max_length=1000)] | None = None
    """The address of a JSONL file at the Hub; a worker reads it, once."""
    concurrency: Annotated[int, Field(ge=1, le=MOST_AT_ONCE)] = 8
    on_unknown: OnUnknown = "report"
    """What becomes of an item whose answer was lost, and that may have been carried out."""
    max_tries: Annotated[int, Field(ge=1, le=MOST_TRIES)] = 4
    """How often an item is sent until it is answered."""

    @field_validator("items_from")
    @classmethod
    def _is_a_file_of_the_hub(cls, written: str | None) -> str | None:
        return None if written is None else str(HubPath.read(written))

    @model_validator(mode="after")
    def _has_items(self) -> Self:
        if (self.items is None) == (self.items_from is None):
            message = "give either items or items_from"
            raise ValueError(message)
        return self

    @field_validator("task")
    @classmethod
    def _answers_in_words(cls, task: str) -> str:
        if task in _MAKES_FILES:
            message = f"{task} makes files, and a batch keeps none; launch one call for each"
            raise ValueError(message)
        return task

    def call(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the request of one item, as it is sent if it stood alone."""
        common = self.model_dump(mode="json", include=set(CallSpec.model_fields))
        return {
            **common,
            "inputs": request["inputs"],
            "parameters": {**self.parameters, **request["parameters"]},
        }


class WrongItem(Exception):
    """An item that is none, or one too many: which, and why."""


class Items:
    """The items of a batch, taken one by one and checked before any is sent."""

    def __init__(self, spec: BatchSpec) -> None:
        self._spec = spec
        self._seen: dict[str, str] = {}
        self.given: list[Given] = []

    def take(self, where: str, item: Item) -> None:
        """Take the next one, from `where` it stands.

        Raises:
            WrongItem: it cannot be sent, or its custom_id is that of another.
        """
        if len(self.given) == MOST_ITEMS:
            message = f"{where}: a batch has {MOST_ITEMS:,} items at most; launch several"
            raise WrongItem(message)
        earlier = self._seen.setdefault(item.custom_id, where)
        if earlier != where:
            message = (
                f"{where}: the custom_id {item.custom_id[:_SHOWN]!r} is that of {earlier}; give "
                f"each item one of its own"
            )
            raise WrongItem(message)
        given = item.given()
        try:
            InferenceSpec.model_validate(self._spec.call(given.request))
        except ValidationError as error:
            raise WrongItem(f"{where}: {wrong(error)}") from None
        self.given.append(given)


def wrong(error: ValidationError) -> str:
    """Say the first thing that is wrong with an item."""
    found = error.errors(include_url=False, include_input=False)[0]
    path = ".".join(str(step) for step in found["loc"])
    said = found["msg"].removeprefix("Value error, ")
    return f"{path}: {said[:1].lower()}{said[1:]}" if path else said
