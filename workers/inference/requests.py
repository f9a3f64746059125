"""What is sent for a task: to the router itself for a chat, else to one of its providers."""

from collections.abc import Mapping
from typing import Final

from schema.specs.inference import InferenceSpec
from schema.specs.inference_inputs import Media
from workers.inference import provider_requests
from workers.inference.provider_requests import Given, Unwritable
from workers.inference.providers import NotOffered, Offer
from workers.inference.router import Sending

_HEADERS: Final[Mapping[str, Mapping[str, str]]] = {
    "replicate": {"prefer": "wait"},
    "zai-org": {"accept-language": "en-US,en", "x-source-channel": "hugging_face"},
}


def for_chat(spec: InferenceSpec) -> Sending:
    """Write the request of a chat, which the router itself hands to a provider."""
    model = f"{spec.model}:{spec.provider}" if spec.provider else spec.model
    messages = spec.stored()["inputs"]
    body = {**spec.parameters, "model": model, "messages": messages, "stream": False}
    return Sending("/v1/chat/completions", json=body, headers=billed(spec))


def for_task(spec: InferenceSpec, offer: Offer, given: Given | None) -> Sending:
    """Write the request of any other task; `given` is what its inputs stand for, if for bytes.

    Raises:
        NotOffered: it cannot be written for this provider.
    """
    parameters = dict(spec.parameters)
    if isinstance(spec.inputs, Media) and spec.inputs.prompt is not None:
        parameters["prompt"] = spec.inputs.prompt
    try:
        written = provider_requests.write(
            offer.provider,
            offer.task,
            given or spec.stored()["inputs"],
            parameters,
            hf_model_id=spec.model,
            providerId=offer.provider_id,
            status=offer.status,
            adapterWeightsPath=offer.adapter_weights_path,
        )
    except Unwritable as error:
        raise NotOffered(f"parameters do not fit what {offer.provider} takes ({error})") from None
    headers = {**billed(spec), **_HEADERS.get(offer.provider, {})}
    if (body := written.content) is None:
        return Sending(written.path, json=written.json, headers=headers)
    headers["content-type"] = body.media_type
    return Sending(written.path, content=body.content, headers=headers)


def billed(spec: InferenceSpec) -> dict[str, str]:
    """Write who pays, if not the caller."""
    return {} if spec.bill_to is None else {"x-hf-bill-to": spec.bill_to}
