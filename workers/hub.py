"""The workers' way to the Hub: one pooled client, deadlines on everything, nothing sent twice.

Built on the pieces of `huggingface_hub` (session, request ids, errors, rate limits), for it has no
async client for Jobs, and neither deadlines nor a token of ours by default. What is returned is
the Hub's own JSON: its typed models drop fields we need, and raise after a job has been created.

    HubError
    ├── Unreached     no byte of the request left: it was certainly not carried out
    ├── Answered4xx   the Hub said no: it was certainly not carried out
    └── Ambiguous     sent, and then silence, a 5xx or an unreadable answer
"""

from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import anyio
import httpx2
from huggingface_hub import get_async_session, set_async_client_factory
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils._http import (
    async_hf_request_event_hook,
    async_hf_response_event_hook,
    hf_raise_for_status,
    parse_ratelimit_headers,
)
from pydantic import BaseModel, TypeAdapter, ValidationError

from schema.vault import Secret
from schema.wire import release
from workers.remote_job import JOB, LISTING, RemoteJob
from workers.storable import storable

T = TypeVar("T")

_CONNECT: Final = 5.0
_READ: Final = timedelta(seconds=15)
_FIRST_LINE: Final = 5.0
_NEXT_LINE: Final = 1.0
_LOG_LINES: Final = 100_000
_MARKER: Final = "===== Job "
_NOT_FOUND: Final = 404
_UNCLEAR_4XX: Final = frozenset({408, 409})
"""A proxy's time-out, and a conflict that may be with ourselves."""
_SERVER_ERROR: Final = 500


class _LogLine(BaseModel):
    data: str = ""


_LINE: Final = TypeAdapter(_LogLine)
_OBJECT: Final = TypeAdapter(dict[str, Any])


class HubError(Exception):
    """Base of everything that can go wrong on the way to the Hub and back."""


class Unreached(HubError):
    """No byte of the request left."""


class Ambiguous(HubError):
    """The request was sent; whether it was carried out is not known."""


class Answered4xx(HubError):
    """The Hub said no."""

    def __init__(self, status: int, message: str, retry_after: timedelta | None) -> None:
        self.status = status
        self.message = message
        self.retry_after = retry_after
        super().__init__(f"{status}: {message}")


def _session() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(None, connect=_CONNECT),
        limits=httpx2.Limits(max_connections=64, max_keepalive_connections=32),
        follow_redirects=False,
        event_hooks={
            "request": [async_hf_request_event_hook],
            "response": [async_hf_response_event_hook],
        },
    )


class Hub:
    """The Hub and its router, as one subject's token sees them, call by call."""

    def __init__(self, session: httpx2.AsyncClient, hub_url: str, router_url: str) -> None:
        self._session = session
        self._hub = hub_url.rstrip("/")
        self._router = router_url.rstrip("/")

    async def create_job(
        self, namespace: str, body: dict[str, Any], token: Secret, *, within: timedelta
    ) -> RemoteJob:
        """Send one create request, once."""
        url = f"{self._hub}/api/jobs/{namespace}"
        return _read(await self._send("POST", url, token, within=within, json=body), JOB)

    async def chat(
        self, body: dict[str, Any], token: Secret, *, within: timedelta
    ) -> tuple[dict[str, Any], str | None]:
        """Send one chat completion request, once; return its answer, and who gave it."""
        url = f"{self._router}/v1/chat/completions"
        response = await self._send("POST", url, token, within=within, json=body)
        return storable(_read(response, _OBJECT)), response.headers.get("x-inference-provider")

    async def list_jobs(
        self, namespace: str, token: Secret, *, label: str, stages: tuple[str, ...] = ()
    ) -> list[RemoteJob]:
        """Return every job with a label (`key=value`), newest first; all pages, or an error."""
        params: Mapping[str, Any] | None = {"label": label, "stage": list(stages)}
        url: str | None = f"{self._hub}/api/jobs/{namespace}"
        jobs: list[RemoteJob] = []
        while url is not None:
            response = await self._send("GET", url, token, within=_READ, params=params)
            page: list[RemoteJob] = _read(response, LISTING)
            jobs += page
            url, params = self._next(response), None
        return jobs

    async def inspect_job(self, namespace: str, remote_id: str, token: Secret) -> RemoteJob | None:
        """Return one job; none if the Hub has no such job."""
        url = f"{self._hub}/api/jobs/{namespace}/{remote_id}"
        try:
            return _read(await self._send("GET", url, token, within=_READ), JOB)
        except Answered4xx as no:
            if no.status == _NOT_FOUND:
                return None
            raise

    async def cancel_job(self, namespace: str, remote_id: str, token: Secret) -> None:
        """Ask for a job to be stopped; asking again, or for one that is over, is harmless."""
        url = f"{self._hub}/api/jobs/{namespace}/{remote_id}/cancel"
        await self._send("POST", url, token, within=_READ)

    async def log_lines(
        self, namespace: str, remote_id: str, token: Secret, *, after: int
    ) -> list[str]:
        """Return the lines after the first `after`, as far as they are written by now."""
        url = f"{self._hub}/api/jobs/{namespace}/{remote_id}/logs"
        lines: list[str] = []
        with anyio.move_on_after(_READ.total_seconds()), _as_hub_errors():
            async with self._session.stream("GET", url, headers=_headers(token)) as response:
                _raise_for(response)
                async for line in _until_idle(response):
                    lines.append(line)  # noqa: PERF401  # what was read before a deadline is kept
        return lines[after:_LOG_LINES]

    async def _send(
        self, method: str, url: str, token: Secret, *, within: timedelta, **body: Any
    ) -> httpx2.Response:
        with _as_hub_errors():
            try:
                with anyio.fail_after(within.total_seconds()):
                    response = await self._session.request(
                        method, url, headers=_headers(token), **body
                    )
            except TimeoutError:
                raise Ambiguous(f"no answer within {within.total_seconds():.0f} s") from None
            _raise_for(response)
            return response

    def _next(self, response: httpx2.Response) -> str | None:
        url: str | None = response.links.get("next", {}).get("url")
        if url is not None and urlsplit(url)[:2] != urlsplit(self._hub)[:2]:
            # The token is not for whoever a link names.
            raise Ambiguous("the listing goes on at another host")
        return url


@asynccontextmanager
async def hub(hub_url: str, router_url: str) -> AsyncGenerator[Hub]:
    """Open the way to the Hub."""
    set_async_client_factory(_session)
    async with get_async_session() as session:
        yield Hub(session, hub_url, router_url)


def _read(response: httpx2.Response, shape: TypeAdapter[T]) -> T:
    try:
        return shape.validate_json(response.content)
    except ValidationError:
        raise Ambiguous(f"{response.status_code}, and an answer that cannot be read") from None


@contextmanager
def _as_hub_errors() -> Generator[None]:
    try:
        yield
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
        raise Unreached(f"no connection: {error}") from None
    except (httpx2.TransportError, ValidationError) as error:
        raise Ambiguous(f"{type(error).__name__}: {error}") from None


async def _until_idle(response: httpx2.Response) -> AsyncGenerator[str]:
    """Yield log lines until the stream ends, or has nothing more to say for now."""
    stream = response.aiter_lines()
    patience = _FIRST_LINE
    while True:
        line = None
        with anyio.move_on_after(patience):
            line = await anext(stream, None)
        if line is None:
            return
        if line.startswith("data: {"):
            patience = _NEXT_LINE
            text = _text(line.removeprefix("data: "))
            if not text.startswith(_MARKER):
                yield text


def _text(written: str) -> str:
    """Return a line of a log; one that cannot be read stands as it was written."""
    try:
        return storable(_LINE.validate_json(written).data)
    except ValidationError:
        return storable(written)


def _headers(token: Secret) -> dict[str, str]:
    # Not build_hf_headers: its first call asks the Hub about agents, and blocks the loop meanwhile.
    return {"authorization": f"Bearer {token.reveal()}", "user-agent": f"holdfast/{release()}"}


def _raise_for(response: httpx2.Response) -> None:
    try:
        hf_raise_for_status(response)
    except HfHubHTTPError as error:
        message = storable(error.server_message or response.reason_phrase)
        if response.status_code >= _SERVER_ERROR or response.status_code in _UNCLEAR_4XX:
            raise Ambiguous(f"{response.status_code}: {message}") from None
        raise Answered4xx(response.status_code, message, _retry_after(response)) from None
    if not response.is_success:
        raise Ambiguous(f"{response.status_code}: an answer the Hub never gives")


def _retry_after(response: httpx2.Response) -> timedelta | None:
    if (asked := response.headers.get("retry-after", "")).isdigit():
        return timedelta(seconds=int(asked))
    limits = parse_ratelimit_headers(response.headers)
    if limits is not None and limits.remaining == 0:
        return timedelta(seconds=limits.reset_in_seconds)
    return None
