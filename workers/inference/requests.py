"""What is sent for a task: to the router itself for a chat, else to one of its providers."""

from collections.abc import Mapping
from typing import Final

from schema.specs.inference import InferenceSpec
from schema.specs.inference_inputs import MediaInput
from workers.inference import provider_requests
from workers.inference.provider_requests import InvalidProviderRequest, MediaBytes
from workers.inference.providers import ProviderMapping, UnsupportedByProviders
from workers.inference.router import RouterRequest

_PROVIDER_HEADERS: Final[Mapping[str, Mapping[str, str]]] = {
    "replicate": {"prefer": "wait"},
    "zai-org": {"accept-language": "en-US,en", "x-source-channel": "hugging_face"},
}


def build_chat_request(spec: InferenceSpec) -> RouterRequest:
    """Write the request of a chat, which the router itself hands to a provider."""
    model = f"{spec.model}:{spec.provider}" if spec.provider else spec.model
    messages = spec.to_stored_json()["inputs"]
    body = {**spec.parameters, "model": model, "messages": messages, "stream": False}
    return RouterRequest("/v1/chat/completions", json=body, headers=billing_headers(spec))


def build_task_request(
    spec: InferenceSpec, mapping: ProviderMapping, media: MediaBytes | None
) -> RouterRequest:
    """Write the request of any other task; `given` is what its inputs stand for, if for bytes.

    Raises:
        NotOffered: it cannot be written for this provider.
    """
    parameters = dict(spec.parameters)
    if isinstance(spec.inputs, MediaInput) and spec.inputs.prompt is not None:
        parameters["prompt"] = spec.inputs.prompt
    try:
        written = provider_requests.build_provider_request(
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
    if (body := written.content) is None:
        return RouterRequest(written.path, json=written.json, headers=headers)
    headers["content-type"] = body.media_type
    return RouterRequest(written.path, content=body.content, headers=headers)


def billing_headers(spec: InferenceSpec) -> dict[str, str]:
    """Write who pays, if not the caller."""
    return {} if spec.bill_to is None else {"x-hf-bill-to": spec.bill_to}
