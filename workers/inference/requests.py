"""Requests of tasks: for a chat to the router itself, for other tasks to one of its providers."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Final

from schema.specs.inference import InferenceSpec
from schema.specs.inputs.inference_inputs import MediaInput, replace_picture_urls
from workers.inference import provider_requests
from workers.inference.provider_requests import InvalidProviderRequest, MediaBytes
from workers.inference.providers import ProviderMapping, UnsupportedByProviders
from workers.inference.router import RouterRequest

_PROVIDER_HEADERS: Final[Mapping[str, Mapping[str, str]]] = {
    "replicate": {"prefer": "wait"},
    "zai-org": {"accept-language": "en-US,en", "x-source-channel": "hugging_face"},
}


def build_chat_request(spec: InferenceSpec, pictures: Mapping[str, MediaBytes]) -> RouterRequest:
    """Build the request of a chat, for which the router itself chooses a provider.

    Args:
        spec: the chat.
        pictures: the bytes of those of its pictures that are files of the Hub, by their URI.
    """
    model = f"{spec.model}:{spec.provider}" if spec.provider else spec.model
    messages = spec.to_stored_json()["inputs"]
    if pictures:
        urls = {uri: _write_data_url(picture) for uri, picture in pictures.items()}
        replace_picture_urls(messages, urls)
    body = {**spec.parameters, "model": model, "messages": messages, "stream": False}
    return RouterRequest("/v1/chat/completions", json=body, headers=billing_headers(spec))


def build_task_request(
    spec: InferenceSpec, mapping: ProviderMapping, media: MediaBytes | None
) -> RouterRequest:
    """Build the request of any other task; `media` are the bytes of its inputs, if it takes bytes.

    Raises:
        UnsupportedByProviders: it cannot be built for this provider.
    """
    parameters = dict(spec.parameters)
    if isinstance(spec.inputs, MediaInput) and spec.inputs.prompt is not None:
        parameters["prompt"] = spec.inputs.prompt
    try:
        provider_request = provider_requests.build_provider_request(
            mapping.provider,
            mapping.task,
            media or spec.to_stored_json()["inputs"],
            parameters,
            hf_model_id=spec.model,
            providerId=mapping.provider_id,
            status=mapping.status,
            adapterWeightsPath=mapping.adapter_weights_path,
        )
    except InvalidProviderRequest as error:
        raise UnsupportedByProviders(
            f"parameters do not fit what {mapping.provider} takes ({error})"
        ) from None
    headers = {**billing_headers(spec), **_PROVIDER_HEADERS.get(mapping.provider, {})}
    if (body := provider_request.content) is None:
        return RouterRequest(provider_request.path, json=provider_request.json, headers=headers)
    headers["content-type"] = body.media_type
    return RouterRequest(provider_request.path, content=body.content, headers=headers)


def _write_data_url(media: MediaBytes) -> str:
    return f"data:{media.media_type};base64,{b64encode(media.content).decode()}"


def billing_headers(spec: InferenceSpec) -> dict[str, str]:
    """Name the organisation that pays, if it is not the caller."""
    return {} if spec.bill_to is None else {"x-hf-bill-to": spec.bill_to}
