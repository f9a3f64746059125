"""Requests in the format of each provider, built with the Hub's own client library.

Only those steps of its provider classes are used that build a URL and a body. The other steps look
models up, read the token from the disk, or use the network without a deadline. Media are passed as
bytes and never as a text, because the library opens the file that a text names.
"""

# Those steps are private to the library, whose version is pinned; tests/workers runs them all.
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
"""The prefix of a token for the router; the library needs no more of it."""
_ROUTER_ORIGIN: Final = urlsplit(constants.INFERENCE_PROXY_TEMPLATE)[:2]
_DEFAULT_MEDIA_TYPE: Final = "application/octet-stream"
_MODEL_MAPPING: Final = cast("Callable[..., Any]", InferenceProviderMapping)  # it has no types


_TEXT_INPUT_TASKS: Final = frozenset(
    {"feature-extraction", "sentence-similarity", "text-to-image", "text-to-speech"}
    | {"text-to-video", "text-generation", "text-classification", "zero-shot-classification"}
    | {"summarization", "translation"}
)
"""Tasks for which the library treats a text as a text; for all others it opens what it names."""


class _TaskProviderAdapter(Protocol):
    def _prepare_url(self, api_key: str, mapped_model: str) -> str: ...

    def _prepare_payload_as_dict(
        self, inputs: Any, parameters: Any, provider_mapping_info: Any
    ) -> dict[str, Any] | None: ...

    def _prepare_payload_as_bytes(
        self, inputs: Any, parameters: Any, provider_mapping_info: Any, extra_payload: Any
    ) -> MimeBytes | None: ...


_TASK_PROVIDERS: Final = cast("Mapping[str, Mapping[str, _TaskProviderAdapter]]", PROVIDERS)


class InvalidProviderRequest(Exception):
    """The request cannot be built for this provider."""


@dataclass(frozen=True, slots=True)
class MediaBytes:
    """The bytes of an input."""

    content: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class ProviderRequest:
    """A request without its headers."""

    path: str
    """The path below the router's URL, with its query."""
    json: dict[str, Any] | None
    content: MediaBytes | None
    """The body if it is not JSON."""


def supports_task(provider: str, task: str) -> bool:
    """Return whether a provider supports a task."""
    return task in _TASK_PROVIDERS.get(provider, {})


def providers_for_task(task: str) -> list[str]:
    """Return the names of the providers that support a task."""
    return sorted(name for name, tasks in _TASK_PROVIDERS.items() if task in tasks)


def build_provider_request(
    provider: str,
    task: str,
    inputs: str | list[str] | MediaBytes,
    parameters: Mapping[str, Any],
    **mapping: Any,
) -> ProviderRequest:
    """Build a request; `mapping` is the Hub's entry of the model at that provider.

    Raises:
        InvalidProviderRequest: the inputs or parameters do not fit this provider.
    """
    if not isinstance(inputs, MediaBytes) and task not in _TEXT_INPUT_TASKS:
        message = f"{task} needs bytes"
        raise InvalidProviderRequest(message)
    adapter, entry = (
        _TASK_PROVIDERS[provider][task],
        _MODEL_MAPPING(provider=provider, task=task, **mapping),
    )
    payload: Any = inputs
    if isinstance(inputs, MediaBytes):
        payload = MimeBytes(inputs.content, mime_type=inputs.media_type)
    try:
        path = _router_path(adapter._prepare_url(_PLACEHOLDER_API_KEY, entry.provider_id))
        # Each gets its own copy of the parameters, because some remove entries.
        json = adapter._prepare_payload_as_dict(payload, dict(parameters), entry)
        content = adapter._prepare_payload_as_bytes(payload, dict(parameters), entry, None)
    except Exception as error:  # the library does not check its input
        raise InvalidProviderRequest(f"{type(error).__name__}: {error}") from error
    if content is None:
        return ProviderRequest(path, json, None)
    return ProviderRequest(
        path, None, MediaBytes(bytes(content), content.mime_type or _DEFAULT_MEDIA_TYPE)
    )


def _router_path(url: str) -> str:
    parts = urlsplit(url)
    if parts[:2] != _ROUTER_ORIGIN or ".." in parts.path.split("/") or parts.fragment:
        message = "not a URL of the router"
        raise ValueError(message)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
