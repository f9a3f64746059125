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
from schema.hub.client import HubClient, HubRejected, parse_response
from schema.specs.inference import CHAT
from workers.inference import provider_requests

_CACHE_TTL_SECONDS: Final = 300.0
_MAX_CACHED_MODELS: Final = 1_000
_REQUEST_TIMEOUT: Final = timedelta(seconds=15)
_NOT_FOUND: Final = 404
_HF_INFERENCE: Final = "hf-inference"
_EMBEDDING_TASKS: Final = frozenset({"feature-extraction", "sentence-similarity"})
_ERROR_STATUS: Final = "error"


class UnsupportedByProviders(Exception):
    """Nobody we know how to ask offers the model for the task; the text says what is offered."""


class ProviderMapping(BaseModel):
    """One provider's offer of a model."""

    provider: str
    provider_id: str = Field(alias="providerId")
    """What the model is called there."""
    task: str
    status: str = "live"
    adapter_weights_path: str | None = Field(default=None, alias="adapterWeightsPath")


class HubModel(BaseModel):
    """A model at the Hub, and who offers it."""

    id: str
    pipeline_tag: str | None = None
    tags: list[str] = Field(default_factory=list)
    offers: list[ProviderMapping] = Field(default_factory=list, alias="inferenceProviderMapping")

    @field_validator("offers", mode="before")
    @classmethod
    def _flatten_mapping(cls, offers: Any) -> Any:
        if isinstance(offers, dict):
            named = cast("dict[str, dict[str, Any]]", offers)
            return [{**offer, "provider": provider} for provider, offer in named.items()]
        return offers or []


_HUB_MODEL_ADAPTER: Final = TypeAdapter(HubModel)


@dataclass(frozen=True, slots=True)
class _CachedModel:
    model: HubModel
    expires_at: float


class ModelCatalog:
    """The models of the Hub, each as the one who asks sees it."""

    def __init__(self, hub: HubClient) -> None:
        self._hub = hub
        self._cache = OrderedDict[tuple[bytes, str], _CachedModel]()

    async def find_model(self, model: str, token: Secret, *, timeout: timedelta) -> HubModel:
        """Look a model up.

        Raises:
            NotOffered: there is none that this token may see.
            HubError: the Hub did not say.
        """
        key = (hashlib.sha256(token.reveal().encode()).digest(), model)
        if (known := self._cache.get(key)) is not None and known.expires_at > anyio.current_time():
            return known.model
        offered = await self._fetch_model(model, token, min(timeout, _REQUEST_TIMEOUT))
        self._cache[key] = _CachedModel(offered, anyio.current_time() + _CACHE_TTL_SECONDS)
        self._cache.move_to_end(key)
        if len(self._cache) > _MAX_CACHED_MODELS:
            self._cache.popitem(last=False)
        return offered

    async def _fetch_model(self, model: str, token: Secret, timeout: timedelta) -> HubModel:
        url = f"{self._hub.url}/api/models/{model}"
        wanted = ["inferenceProviderMapping", "pipeline_tag", "tags"]
        try:
            answer = await self._hub.send(
                "GET", url, token, timeout=timeout, params={"expand": wanted}
            )
        except HubRejected as no:
            if no.status == _NOT_FOUND:
                raise UnsupportedByProviders(
                    f"the Hub has no model {model}, or none that your token may see"
                ) from None
            raise
        return parse_response(answer, _HUB_MODEL_ADAPTER)


def choose_provider(model: HubModel, task: str, provider: str | None) -> ProviderMapping:
    """Choose the provider that was named, or the first that does the task.

    Raises:
        NotOffered: there is none.
    """
    wanted = _to_provider_task(task)
    if provider is not None:
        _expect_supported(provider, wanted, task)
    offers = (
        model.offers
        if provider != _HF_INFERENCE
        else [*model.offers, *_unlisted_hf_inference(model, wanted)]
    )
    mine = [offer for offer in offers if provider in (None, offer.provider)]
    fitting = [
        offer
        for offer in mine
        if offer.task == wanted and provider_requests.supports_task(offer.provider, wanted)
    ]
    if fitting:
        return next((offer for offer in fitting if offer.status != _ERROR_STATUS), fitting[0])
    raise UnsupportedByProviders(_describe_alternatives(model, mine or offers, task, provider))


def _describe_alternatives(
    model: HubModel, mappings: list[ProviderMapping], task: str, provider: str | None
) -> str:
    by = "any Inference Provider" if provider is None else provider
    others = sorted(
        {
            _from_provider_task(offer.task)
            for offer in mappings
            if _from_provider_task(offer.task) != task
        }
    )
    able = sorted({offer.provider for offer in mappings if _from_provider_task(offer.task) == task})
    if able:
        return f"{model.id} is not offered for {task} by {by}, but by {', '.join(able)}"
    if others:
        return f"{model.id} is not offered for {task} by {by}, but for {', '.join(others)}"
    # As the Hub's own page of models is filtered.
    page = f"https://huggingface.co/models?pipeline_tag={task}&inference_provider=all"
    return f"{model.id} is not offered by {by}; those that are: {page}"


def _expect_supported(provider: str, provider_task: str, task: str) -> None:
    if not provider_requests.supports_task(provider, provider_task):
        able = ", ".join(provider_requests.providers_for_task(provider_task))
        raise UnsupportedByProviders(f"{provider} cannot be asked for {task}; what can is {able}")


def _unlisted_hf_inference(model: HubModel, provider_task: str) -> list[ProviderMapping]:
    """Return what hf-inference does beside its list, by the rules of the Hub's own client."""
    if any(
        offer.provider == _HF_INFERENCE for offer in model.offers
    ) or not provider_requests.supports_task(_HF_INFERENCE, provider_task):
        return []
    if provider_task in _EMBEDDING_TASKS:
        does = model.pipeline_tag in _EMBEDDING_TASKS and provider_task in model.tags
    else:
        does = model.pipeline_tag == provider_task
    if not does:
        return []
    return [
        ProviderMapping(
            provider=_HF_INFERENCE, providerId=model.id, task=provider_task, status="unlisted"
        )
    ]


def _to_provider_task(task: str) -> str:
    return "conversational" if task == CHAT else task


def _from_provider_task(task: str) -> str:
    return CHAT if task == "conversational" else task
