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
from contextlib import aclosing, asynccontextmanager, contextmanager
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
from pydantic import TypeAdapter, ValidationError

from schema.accounts.vault import Secret
from schema.common import http
from schema.common.http import package_version
from schema.db.storable import to_storable
from workers.hub.job import JOB_ADAPTER, JOB_LIST_ADAPTER, RemoteJob
from workers.hub.log_stream import LogStreamParser

T = TypeVar("T")

_CONNECT_TIMEOUT_SECONDS: Final = 5.0
_REQUEST_TIMEOUT: Final = timedelta(seconds=15)
_FIRST_LINE_SECONDS: Final = 5.0
_IDLE_SECONDS: Final = 1.0
_END_OF_LOG_SECONDS: Final = 5.0
"""How long the log of a job that is over may be silent before its end."""
_KEEP_ALIVE_PREFIX: Final = b":"
_NOT_FOUND: Final = 404
AMBIGUOUS_STATUSES: Final = frozenset({408, 409})
"""A proxy's time-out, and a conflict that may be with ourselves."""
SERVER_ERROR: Final = 500


class HubError(Exception):
    """Base of everything that can go wrong on the way to the Hub and back."""


class HubUnreachable(HubError):
    """No byte of the request left."""


class HubAmbiguous(HubError):
    """The request was sent; whether it was carried out is not known."""


class HubRejected(HubError):
    """The Hub said no."""

    def __init__(self, status: int, message: str, retry_after: timedelta | None) -> None:
        self.status = status
        self.message = message
        self.retry_after = retry_after
        super().__init__(f"{status}: {message}")


def _create_session() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(None, connect=_CONNECT_TIMEOUT_SECONDS),
        limits=httpx2.Limits(max_connections=256, max_keepalive_connections=64),
        follow_redirects=False,
        cookies=http.make_reject_all_cookie_jar(),
        event_hooks={
            "request": [async_hf_request_event_hook],
            "response": [async_hf_response_event_hook],
        },
    )


class HubClient:
    """The Hub and its router, as one subject's token sees them, call by call."""

    def __init__(self, session: httpx2.AsyncClient, hub_url: str, router_url: str) -> None:
        self.session = session
        self.url = hub_url.rstrip("/")
        self.router_url = router_url.rstrip("/")

    async def create_job(
        self, namespace: str, body: dict[str, Any], token: Secret, *, timeout: timedelta
    ) -> RemoteJob:
        """Send one create request, once."""
        url = f"{self.url}/api/jobs/{namespace}"
        return parse_response(
            await self.send("POST", url, token, timeout=timeout, json=body), JOB_ADAPTER
        )

    async def list_jobs(
        self, namespace: str, token: Secret, *, label: str, stages: tuple[str, ...] = ()
    ) -> list[RemoteJob]:
        """Return every job with a label (`key=value`), newest first; all pages, or an error."""
        params: Mapping[str, Any] | None = {"label": label, "stage": list(stages)}
        url: str | None = f"{self.url}/api/jobs/{namespace}"
        jobs: list[RemoteJob] = []
        while url is not None:
            response = await self.send("GET", url, token, timeout=_REQUEST_TIMEOUT, params=params)
            page: list[RemoteJob] = parse_response(response, JOB_LIST_ADAPTER)
            jobs += page
            url, params = self.next_page_url(response), None
        return jobs

    async def inspect_job(self, namespace: str, remote_id: str, token: Secret) -> RemoteJob | None:
        """Return one job; none if the Hub has no such job."""
        url = f"{self.url}/api/jobs/{namespace}/{remote_id}"
        try:
            return parse_response(
                await self.send("GET", url, token, timeout=_REQUEST_TIMEOUT), JOB_ADAPTER
            )
        except HubRejected as no:
            if no.status == _NOT_FOUND:
                return None
            raise

    async def cancel_job(self, namespace: str, remote_id: str, token: Secret) -> None:
        """Ask for a job to be stopped; asking again, or for one that is over, is harmless."""
        url = f"{self.url}/api/jobs/{namespace}/{remote_id}/cancel"
        await self.send("POST", url, token, timeout=_REQUEST_TIMEOUT)

    async def stream_log(
        self,
        namespace: str,
        remote_id: str,
        token: Secret,
        *,
        max_line_chars: int,
        is_finished: bool,
    ) -> AsyncGenerator[list[str]]:
        """Yield the lines of a log from its start, some at a time, without the Hub's own.

        While the job runs, that is until nothing more is written for now. A line that has more
        than `longest` characters is cut there.

        Raises:
            Ambiguous: it broke off; of a job that is over, also by falling silent.
        """
        url = f"{self.url}/api/jobs/{namespace}/{remote_id}/logs"
        # As it is: a few bytes that unpack to gigabytes would be unpacked at once.
        sent = {**request_headers(token), "accept-encoding": "identity"}
        lines = LogStreamParser(max_line_chars)
        with as_hub_errors():
            async with self.session.stream("GET", url, headers=sent) as response:
                raise_for_status(response)
                async with aclosing(_read_until_idle(response, is_finished=is_finished)) as stream:
                    async for received in stream:
                        if whole := lines.feed(received):
                            yield whole

    async def send(
        self, method: str, url: str, token: Secret, *, timeout: timedelta, **body: Any
    ) -> httpx2.Response:
        """Send one request, once.

        Raises:
            HubError: it was not answered with a yes.
        """
        with as_hub_errors():
            try:
                with anyio.fail_after(timeout.total_seconds()):
                    response = await self.session.request(
                        method, url, headers=request_headers(token), **body
                    )
            except TimeoutError:
                raise HubAmbiguous(f"no answer within {timeout.total_seconds():.0f} s") from None
            raise_for_status(response)
            return response

    def next_page_url(self, response: httpx2.Response) -> str | None:
        """Return where a listing goes on, if it does."""
        url: str | None = response.links.get("next", {}).get("url")
        if url is not None and urlsplit(url)[:2] != urlsplit(self.url)[:2]:
            # The token is not for whoever a link names.
            raise HubAmbiguous("the listing goes on at another host")
        return url


@asynccontextmanager
async def open_hub_client(hub_url: str, router_url: str) -> AsyncGenerator[HubClient]:
    """Open the way to the Hub."""
    set_async_client_factory(_create_session)
    async with get_async_session() as session:
        yield HubClient(session, hub_url, router_url)


def parse_response(response: httpx2.Response, adapter: TypeAdapter[T]) -> T:
    """Read an answer; the request of one that cannot be read may have been carried out."""
    try:
        return adapter.validate_json(response.content)
    except ValidationError:
        raise HubAmbiguous(f"{response.status_code}, and an answer that cannot be read") from None


@contextmanager
def as_hub_errors() -> Generator[None]:
    """Make ours of what goes wrong on the wire."""
    try:
        yield
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
        raise HubUnreachable(f"no connection: {error}") from None
    except (httpx2.TransportError, ValidationError) as error:
        raise HubAmbiguous(f"{type(error).__name__}: {error}") from None


async def _read_until_idle(
    response: httpx2.Response, *, is_finished: bool
) -> AsyncGenerator[bytes]:
    """Yield what is received until the stream ends, or has nothing more to say for now."""
    stream = response.aiter_bytes()
    until = anyio.current_time() + _FIRST_LINE_SECONDS
    while True:
        received: bytes | None = None
        with anyio.move_on_after(until - anyio.current_time()) as waiting:
            received = await anext(stream, None)
        if received is None:
            if is_finished and waiting.cancelled_caught:
                raise HubAmbiguous("the log fell silent before its end")
            return
        yield received
        if not received.startswith(_KEEP_ALIVE_PREFIX):
            until = anyio.current_time() + (_END_OF_LOG_SECONDS if is_finished else _IDLE_SECONDS)


def request_headers(token: Secret) -> dict[str, str]:
    """Write what every request carries."""
    # Not build_hf_headers: its first call asks the Hub about agents, and blocks the loop meanwhile.
    return {
        "authorization": f"Bearer {token.reveal()}",
        "user-agent": f"holdfast/{package_version()}",
    }


def raise_for_status(response: httpx2.Response) -> None:
    """Make ours of an answer that says no, or nothing we know."""
    try:
        hf_raise_for_status(response)
    except HfHubHTTPError as error:
        message = to_storable(error.server_message or response.reason_phrase)
        if response.status_code >= SERVER_ERROR or response.status_code in AMBIGUOUS_STATUSES:
            raise HubAmbiguous(f"{response.status_code}: {message}") from None
        raise HubRejected(response.status_code, message, parse_retry_after(response)) from None
    if not response.is_success:
        raise HubAmbiguous(f"{response.status_code}: an answer the Hub never gives")


def parse_retry_after(response: httpx2.Response) -> timedelta | None:
    """Read how long the Hub asks to be left alone."""
    if (asked := response.headers.get("retry-after", "")).isdigit():
        return timedelta(seconds=int(asked))
    limits = parse_ratelimit_headers(response.headers)
    if limits is not None and limits.remaining == 0:
        return timedelta(seconds=limits.reset_in_seconds)
    return None
