"""Who offers a model at Inference Providers, and for which task, as one subject sees it.

Asked with the caller's token, for a model may be private, and providers come in the order the
caller prefers. What the Hub said is remembered for a while, for so many models.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, cast

import anyio
from pydantic import BaseModel, Field, TypeAdapter, field_validator

from schema.accounts.vault import Secret
from schema.specs.inference import CHAT
from workers.hub.client import Answered4xx, Hub, read
from workers.inference import provider_requests

_FRESH: Final = 300.0
_MOST: Final = 1_000
_WITHIN: Final = timedelta(seconds=15)
_NOT_FOUND: Final = 404
_HF: Final = "hf-inference"
_VECTORS: Final = frozenset({"feature-extraction", "sentence-similarity"})
_DEAD: Final = "error"


class NotOffered(Exception):
    """Nobody we know how to ask offers the model for the task; the text says what is offered."""


class Offer(BaseModel):
    """One provider's offer of a model."""

    provider: str
    provider_id: str = Field(alias="providerId")
    """What the model is called there."""
    task: str
    status: str = "live"
    adapter_weights_path: str | None = Field(default=None, alias="adapterWeightsPath")


class Offered(BaseModel):
    """A model at the Hub, and who offers it."""

    id: str
    pipeline_tag: str | None = None
    tags: list[str] = Field(default_factory=list)
    offers: list[Offer] = Field(default_factory=list, alias="inferenceProviderMapping")

    @field_validator("offers", mode="before")
    @classmethod
    def _in_order(cls, offers: Any) -> Any:
        if isinstance(offers, dict):
            named = cast("dict[str, dict[str, Any]]", offers)
            return [{**offer, "provider": provider} for provider, offer in named.items()]
        return offers or []


_OFFERED: Final = TypeAdapter(Offered)


@dataclass(frozen=True, slots=True)
class _Remembered:
    offered: Offered
    until: float


class Models:
    """The models of the Hub, each as the one who asks sees it."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._seen = OrderedDict[tuple[bytes, str], _Remembered]()

    async def find(self, model: str, token: Secret, *, within: timedelta) -> Offered:
        """Look a model up.

        Raises:
            NotOffered: there is none that this token may see.
            HubError: the Hub did not say.
        """
        key = (hashlib.sha256(token.reveal().encode()).digest(), model)
        if (known := self._seen.get(key)) is not None and known.until > anyio.current_time():
            return known.offered
        offered = await self._ask(model, token, min(within, _WITHIN))
        self._seen[key] = _Remembered(offered, anyio.current_time() + _FRESH)
        self._seen.move_to_end(key)
        if len(self._seen) > _MOST:
            self._seen.popitem(last=False)
        return offered

    async def _ask(self, model: str, token: Secret, within: timedelta) -> Offered:
        url = f"{self._hub.url}/api/models/{model}"
        wanted = ["inferenceProviderMapping", "pipeline_tag", "tags"]
        try:
            answer = await self._hub.send(
                "GET", url, token, within=within, params={"expand": wanted}
            )
        except Answered4xx as no:
            if no.status == _NOT_FOUND:
                raise NotOffered(
                    f"the Hub has no model {model}, or none that your token may see"
                ) from None
            raise
        return read(answer, _OFFERED)


def choose(model: Offered, task: str, provider: str | None) -> Offer:
    """Choose the provider that was named, or the first that does the task.

    Raises:
        NotOffered: there is none.
    """
    wanted = _at_providers(task)
    if provider is not None:
        _expect_known(provider, wanted, task)
    offers = model.offers if provider != _HF else [*model.offers, *_unlisted(model, wanted)]
    mine = [offer for offer in offers if provider in (None, offer.provider)]
    fitting = [
        offer
        for offer in mine
        if offer.task == wanted and provider_requests.knows(offer.provider, wanted)
    ]
    if fitting:
        return next((offer for offer in fitting if offer.status != _DEAD), fitting[0])
    raise NotOffered(_instead(model, mine or offers, task, provider))


def _instead(model: Offered, offers: list[Offer], task: str, provider: str | None) -> str:
    by = "any Inference Provider" if provider is None else provider
    others = sorted({_ours(offer.task) for offer in offers if _ours(offer.task) != task})
    able = sorted({offer.provider for offer in offers if _ours(offer.task) == task})
    if able:
        return f"{model.id} is not offered for {task} by {by}, but by {', '.join(able)}"
    if others:
        return f"{model.id} is not offered for {task} by {by}, but for {', '.join(others)}"
    # As the Hub's own page of models is filtered.
    page = f"https://huggingface.co/models?pipeline_tag={task}&inference_provider=all"
    return f"{model.id} is not offered by {by}; those that are: {page}"


def _expect_known(provider: str, wanted: str, task: str) -> None:
    if not provider_requests.knows(provider, wanted):
        able = ", ".join(provider_requests.able(wanted))
        raise NotOffered(f"{provider} cannot be asked for {task}; what can is {able}")


def _unlisted(model: Offered, wanted: str) -> list[Offer]:
    """Return what hf-inference does beside its list, by the rules of the Hub's own client."""
    if any(offer.provider == _HF for offer in model.offers) or not provider_requests.knows(
        _HF, wanted
    ):
        return []
    if wanted in _VECTORS:
        does = model.pipeline_tag in _VECTORS and wanted in model.tags
    else:
        does = model.pipeline_tag == wanted
    if not does:
        return []
    return [Offer(provider=_HF, providerId=model.id, task=wanted, status="unlisted")]


def _at_providers(task: str) -> str:
    return "conversational" if task == CHAT else task


def _ours(task: str) -> str:
    return CHAT if task == "conversational" else task
