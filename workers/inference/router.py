"""HTTP client of the router of Inference Providers: one request, one response of bounded size.

    ModelLoading       the model is not loaded yet: the request was refused before any work
    ResponseTooLarge   the response is larger than the limit; the work was done, and is paid for

The other errors are those of `schema.hub.client`. Errors of providers are parsed leniently, because
each provider has a format of its own.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final

import anyio
import httpx2

from schema.accounts.vault import Secret
from schema.common.http import UNCOMPRESSED, read_bounded
from schema.db.storable import to_storable
from schema.hub.client import (
    AMBIGUOUS_STATUSES,
    HubAmbiguous,
    HubError,
    HubRejected,
    as_hub_errors,
    parse_retry_after,
    request_headers,
)
from workers.hub.client import HubJobsClient

_PROVIDER_HEADER: Final = "x-inference-provider"
_HF_INFERENCE: Final = "hf-inference"
_MAX_ERROR_BYTES: Final = 100_000
_MAX_LOADING_SECONDS: Final = 600.0


class ModelLoading(HubError):
    """The model was still being loaded, so nothing was carried out."""

    def __init__(self, message: str, retry_after: timedelta) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class ResponseTooLarge(HubError):
    """The response is larger than the limit; the request was carried out."""


@dataclass(frozen=True, slots=True)
class RouterRequest:
    """One request to the router."""

    path: str
    """The path below the router's URL, with its query."""
    json: Mapping[str, Any] | None = None
    content: bytes | None = None
    """The body if it is not JSON."""
    headers: Mapping[str, str] | None = None
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class RouterResponse:
    """One complete response of success."""

    body: bytes
    media_type: str
    provider: str | None
    """The provider that the router names."""

    def json(self) -> Any:
        """Parse the body.

        Raises:
            ValueError: it is not JSON.
        """
        try:
            return to_storable(json.loads(self.body))
        except RecursionError:
            raise ValueError("nested too deep") from None

    @property
    def is_json(self) -> bool:
        """Whether its media type is JSON."""
        return self.media_type == "application/json" or self.media_type.endswith("+json")


class Router:
    """The router of Inference Providers, asked with one subject's token, request by request."""

    def __init__(self, hub: HubJobsClient) -> None:
        self._hub = hub

    async def send(
        self, request: RouterRequest, token: Secret, *, timeout: timedelta, max_bytes: int
    ) -> RouterResponse:
        """Send a request, once, and return its response.

        Raises:
            HubError: there is no response of success, or it is larger than `max_bytes`.
        """
        url = f"{self._hub.router_url}{request.path}"
        headers = {**request_headers(token), **(request.headers or {}), **UNCOMPRESSED}
        with as_hub_errors():
            try:
                with anyio.fail_after(timeout.total_seconds()):
                    async with self._hub.session.stream(
                        request.method,
                        url,
                        headers=headers,
                        json=request.json,
                        content=request.content,
                    ) as response:
                        return await _read_response(response, max_bytes)
            except TimeoutError:
                raise HubAmbiguous(f"no answer within {timeout.total_seconds():.0f} s") from None


async def _read_response(response: httpx2.Response, max_bytes: int) -> RouterResponse:
    if not response.is_success:
        body = await read_bounded(response.aiter_bytes(), _MAX_ERROR_BYTES)
        # A part of a secret where it is cut would not be recognised, so a longer one is left out.
        raise _to_hub_error(response, body if len(body) <= _MAX_ERROR_BYTES else b"")
    body = await read_bounded(response.aiter_bytes(), max_bytes)
    if len(body) > max_bytes:
        raise ResponseTooLarge(f"the answer has more than {max_bytes} bytes")
    return RouterResponse(
        body,
        response.headers.get("content-type", "").split(";")[0].strip().lower(),
        response.headers.get(_PROVIDER_HEADER),
    )


def _to_hub_error(response: httpx2.Response, body: bytes) -> HubError:
    status = response.status_code
    answer = _parse_body(body)
    message = to_storable(parse_error_message(answer) or response.reason_phrase)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        # A provider that names a pause has not started the work.
        pause = _parse_loading_time(response, answer) or parse_retry_after(response)
        if pause is not None:
            return ModelLoading(message, pause)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in AMBIGUOUS_STATUSES:
        return HubAmbiguous(f"{status}: {message}")
    if status < HTTPStatus.BAD_REQUEST:  # a redirect, which the router never answers with
        return HubAmbiguous(f"{status}: an answer the router never gives")
    return HubRejected(status, message, parse_retry_after(response))


def parse_error_message(answer: Any) -> str:
    """Return the message of a provider's error, wherever it is; empty if there is none."""
    match answer:
        case str():
            return answer
        case {"error": error} if error:
            return parse_error_message(error)
        case {"message": str() as message} | {"msg": str() as message}:
            code = answer.get("code")
            return f"{message} ({code})" if isinstance(code, str) and code else message
        case {"detail": detail} if detail:
            return parse_error_message(detail)
        case [*errors] if errors:
            return "; ".join(filter(None, map(parse_error_message, errors)))
        case _:
            return ""


def _parse_body(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace").strip()


def _parse_loading_time(response: httpx2.Response, answer: Any) -> timedelta | None:
    """Return how long hf-inference needs to load the model; it has not started the request."""
    provider = response.headers.get(_PROVIDER_HEADER) or response.url.path.split("/")[1]
    match answer:
        case {"estimated_time": int() | float() as seconds} if provider == _HF_INFERENCE:
            return timedelta(seconds=min(max(1.0, float(seconds)), _MAX_LOADING_SECONDS))
        case _:
            return None
