"""The providers that offer a model, for which tasks, as one subject sees them.

The Hub is asked with the caller's token, because a model may be private and because the Hub orders
providers by the caller's preference. Its answers are cached for some minutes.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
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
_HF_INFERENCE: Final = "hf-inference"
_EMBEDDING_TASKS: Final = frozenset({"feature-extraction", "sentence-similarity"})
_ERROR_STATUS: Final = "error"


class UnsupportedByProviders(Exception):
    """No supported provider offers the model for the task; the text says what is offered."""


class ProviderMapping(BaseModel):
    """One provider that offers a model."""

    provider: str
    provider_id: str = Field(alias="providerId")
    """The name of the model at that provider."""
    task: str
    status: str = "live"
    adapter_weights_path: str | None = Field(default=None, alias="adapterWeightsPath")


class HubModel(BaseModel):
    """A model at the Hub with the providers that offer it."""

    id: str
    pipeline_tag: str | None = None
    tags: list[str] = Field(default_factory=list)
    mappings: list[ProviderMapping] = Field(default_factory=list, alias="inferenceProviderMapping")

    @field_validator("mappings", mode="before")
    @classmethod
    def _flatten_mappings(cls, value: Any) -> Any:
        if isinstance(value, dict):
            by_provider = cast("dict[str, dict[str, Any]]", value)
            return [{**mapping, "provider": name} for name, mapping in by_provider.items()]
        return value or []


_HUB_MODEL_ADAPTER: Final = TypeAdapter(HubModel)


@dataclass(frozen=True, slots=True)
class _CachedModel:
    model: HubModel
    expires_at: float


class ModelCatalog:
    """The models of the Hub, as each caller sees them."""

    def __init__(self, hub: HubClient) -> None:
        self._hub = hub
        self._cache = OrderedDict[tuple[bytes, str], _CachedModel]()

    async def find_model(self, model: str, token: Secret, *, timeout: timedelta) -> HubModel:
        """Look a model up.

        Raises:
            UnsupportedByProviders: this token can see no such model.
            HubError: the Hub did not answer.
        """
        key = (hashlib.sha256(token.reveal().encode()).digest(), model)
        if (entry := self._cache.get(key)) is not None and entry.expires_at > anyio.current_time():
            return entry.model
        hub_model = await self._fetch_model(model, token, min(timeout, _REQUEST_TIMEOUT))
        self._cache[key] = _CachedModel(hub_model, anyio.current_time() + _CACHE_TTL_SECONDS)
        self._cache.move_to_end(key)
        if len(self._cache) > _MAX_CACHED_MODELS:
            self._cache.popitem(last=False)
        return hub_model

    async def _fetch_model(self, model: str, token: Secret, timeout: timedelta) -> HubModel:
        url = f"{self._hub.url}/api/models/{model}"
        fields = ["inferenceProviderMapping", "pipeline_tag", "tags"]
        try:
            response = await self._hub.send(
                "GET", url, token, timeout=timeout, params={"expand": fields}
            )
        except HubRejected as error:
            if error.status == HTTPStatus.NOT_FOUND:
                raise UnsupportedByProviders(
                    f"the Hub has no model {model}, or none that your token may see"
                ) from None
            raise
        return parse_response(response, _HUB_MODEL_ADAPTER)


def choose_provider(model: HubModel, task: str, provider: str | None) -> ProviderMapping:
    """Choose the named provider, or without a name the first that supports the task.

    Raises:
        UnsupportedByProviders: there is none.
    """
    provider_task = _to_provider_task(task)
    if provider is not None:
        _expect_supported(provider, provider_task, task)
    mappings = (
        model.mappings
        if provider != _HF_INFERENCE
        else [*model.mappings, *_unlisted_hf_inference(model, provider_task)]
    )
    candidates = [mapping for mapping in mappings if provider in (None, mapping.provider)]
    fitting = [
        mapping
        for mapping in candidates
        if mapping.task == provider_task
        and provider_requests.supports_task(mapping.provider, provider_task)
    ]
    if fitting:
        return next((mapping for mapping in fitting if mapping.status != _ERROR_STATUS), fitting[0])
    raise UnsupportedByProviders(
        _describe_alternatives(model, candidates or mappings, task, provider)
    )


def _describe_alternatives(
    model: HubModel, mappings: list[ProviderMapping], task: str, provider: str | None
) -> str:
    chosen = "any Inference Provider" if provider is None else provider
    tasks_by_provider = [
        (mapping.provider, _from_provider_task(mapping.task)) for mapping in mappings
    ]
    providers = sorted({name for name, offered in tasks_by_provider if offered == task})
    tasks = sorted({offered for _, offered in tasks_by_provider if offered != task})
    if providers:
        return f"{model.id} is not offered for {task} by {chosen}, but by {', '.join(providers)}"
    if tasks:
        return f"{model.id} is not offered for {task} by {chosen}, but for {', '.join(tasks)}"
    # The filter of the Hub's own page of models.
    page = f"https://huggingface.co/models?pipeline_tag={task}&inference_provider=all"
    return f"{model.id} is not offered by {chosen}; those that are: {page}"


def _expect_supported(provider: str, provider_task: str, task: str) -> None:
    if not provider_requests.supports_task(provider, provider_task):
        supporting = ", ".join(provider_requests.providers_for_task(provider_task))
        raise UnsupportedByProviders(
            f"{provider} does not support {task}; these providers do: {supporting}"
        )


def _unlisted_hf_inference(model: HubModel, provider_task: str) -> list[ProviderMapping]:
    """Return what hf-inference supports without a listing, by the rules of the Hub's own client."""
    if any(
        mapping.provider == _HF_INFERENCE for mapping in model.mappings
    ) or not provider_requests.supports_task(_HF_INFERENCE, provider_task):
        return []
    if provider_task in _EMBEDDING_TASKS:
        is_supported = model.pipeline_tag in _EMBEDDING_TASKS and provider_task in model.tags
    else:
        is_supported = model.pipeline_tag == provider_task
    if not is_supported:
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
