"""How each provider wants to be asked, as the Hub's own client knows it.

Of its helpers only those steps are used that make an address and a body: the others look models up,
read the caller's token from the disk, or speak to the network, without a deadline. What is worked
on is given to them as bytes, never as a text, for they take a text for the name of a file.
"""

# Those steps are private to the library, whose version is pinned, and tried by tests/workers.
# pyright: reportPrivateUsage=false
# ruff: noqa: SLF001

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast
from urllib.parse import urlsplit

from huggingface_hub import constants
from huggingface_hub.hf_api import InferenceProviderMapping
from huggingface_hub.inference._common import MimeBytes
from huggingface_hub.inference._providers import PROVIDERS

_PLACEHOLDER_API_KEY: Final = "hf_"
"""How a token begins that is good at the router; more of it the helpers need not know."""
_ROUTER_ORIGIN: Final = urlsplit(constants.INFERENCE_PROXY_TEMPLATE)[:2]
_DEFAULT_MEDIA_TYPE: Final = "application/octet-stream"
_MODEL_MAPPING: Final = cast("Callable[..., Any]", InferenceProviderMapping)  # it has no types


_TEXT_INPUT_TASKS: Final = frozenset(
    {"feature-extraction", "sentence-similarity", "text-to-image", "text-to-speech"}
    | {"text-to-video", "text-generation", "text-classification", "zero-shot-classification"}
    | {"summarization", "translation"}
)
"""Tasks whose helpers take a text for a text; those of all others open what it names."""


class _TaskProviderHelper(Protocol):
    def _prepare_url(self, api_key: str, mapped_model: str) -> str: ...

    def _prepare_payload_as_dict(
        self, inputs: Any, parameters: Any, provider_mapping_info: Any
    ) -> dict[str, Any] | None: ...

    def _prepare_payload_as_bytes(
        self, inputs: Any, parameters: Any, provider_mapping_info: Any, extra_payload: Any
    ) -> MimeBytes | None: ...


_TASK_PROVIDERS: Final = cast("Mapping[str, Mapping[str, _TaskProviderHelper]]", PROVIDERS)


class InvalidProviderRequest(Exception):
    """A request that cannot be written for this provider."""


@dataclass(frozen=True, slots=True)
class MediaBytes:
    """Bytes to work on."""

    content: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class ProviderRequest:
    """A request, without its headers."""

    path: str
    """Below the router's address, with its query."""
    json: dict[str, Any] | None
    content: MediaBytes | None
    """Instead of JSON."""


def supports_task(provider: str, task: str) -> bool:
    """Say whether a provider can be asked for a task."""
    return task in _TASK_PROVIDERS.get(provider, {})


def providers_for_task(task: str) -> list[str]:
    """Name the providers that can be asked for a task."""
    return sorted(name for name, tasks in _TASK_PROVIDERS.items() if task in tasks)


def build_provider_request(
    provider: str,
    task: str,
    inputs: str | list[str] | MediaBytes,
    parameters: Mapping[str, Any],
    **mapping: Any,
) -> ProviderRequest:
    """Write a request; `mapping` is the Hub's entry of the model at that provider.

    Raises:
        Unwritable: its inputs or its parameters are not what this provider takes.
    """
    if not isinstance(inputs, MediaBytes) and task not in _TEXT_INPUT_TASKS:
        message = f"{task} is done on bytes"
        raise InvalidProviderRequest(message)
    helper, entry = (
        _TASK_PROVIDERS[provider][task],
        _MODEL_MAPPING(provider=provider, task=task, **mapping),
    )
    worked_on: Any = inputs
    if isinstance(inputs, MediaBytes):
        worked_on = MimeBytes(inputs.content, mime_type=inputs.media_type)
    try:
        path = _router_path(helper._prepare_url(_PLACEHOLDER_API_KEY, entry.provider_id))
        # Each with its own, for some take things out.
        json = helper._prepare_payload_as_dict(worked_on, dict(parameters), entry)
        content = helper._prepare_payload_as_bytes(worked_on, dict(parameters), entry, None)
    except Exception as error:  # no code of ours, and it trusts what it is given
        raise InvalidProviderRequest(f"{type(error).__name__}: {error}") from error
    if content is None:
        return ProviderRequest(path, json, None)
    return ProviderRequest(
        path, None, MediaBytes(bytes(content), content.mime_type or _DEFAULT_MEDIA_TYPE)
    )


def _router_path(url: str) -> str:
    parts = urlsplit(url)
    if parts[:2] != _ROUTER_ORIGIN or ".." in parts.path.split("/") or parts.fragment:
        message = "no address at the router"
        raise ValueError(message)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
