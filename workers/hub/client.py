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
from schema.common.http import release
from schema.db.storable import storable
from workers.hub.job import JOB, LISTING, RemoteJob
from workers.hub.log_stream import LogStream

T = TypeVar("T")

_CONNECT: Final = 5.0
_READ: Final = timedelta(seconds=15)
_FIRST_LINE: Final = 5.0
_NEXT_LINE: Final = 1.0
_LAST_LINE: Final = 5.0
"""How long the log of a job that is over may be silent before its end."""
_KEEP_ALIVE: Final = b":"
_NOT_FOUND: Final = 404
UNCLEAR_4XX: Final = frozenset({408, 409})
"""A proxy's time-out, and a conflict that may be with ourselves."""
SERVER_ERROR: Final = 500


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
        limits=httpx2.Limits(max_connections=256, max_keepalive_connections=64),
        follow_redirects=False,
        cookies=http.none(),
        event_hooks={
            "request": [async_hf_request_event_hook],
            "response": [async_hf_response_event_hook],
        },
    )


class Hub:
    """The Hub and its router, as one subject's token sees them, call by call."""

    def __init__(self, session: httpx2.AsyncClient, hub_url: str, router_url: str) -> None:
        self.session = session
        self.url = hub_url.rstrip("/")
        self.router_url = router_url.rstrip("/")

    async def create_job(
        self, namespace: str, body: dict[str, Any], token: Secret, *, within: timedelta
    ) -> RemoteJob:
        """Send one create request, once."""
        url = f"{self.url}/api/jobs/{namespace}"
        return read(await self.send("POST", url, token, within=within, json=body), JOB)

    async def list_jobs(
        self, namespace: str, token: Secret, *, label: str, stages: tuple[str, ...] = ()
    ) -> list[RemoteJob]:
        """Return every job with a label (`key=value`), newest first; all pages, or an error."""
        params: Mapping[str, Any] | None = {"label": label, "stage": list(stages)}
        url: str | None = f"{self.url}/api/jobs/{namespace}"
        jobs: list[RemoteJob] = []
        while url is not None:
            response = await self.send("GET", url, token, within=_READ, params=params)
            page: list[RemoteJob] = read(response, LISTING)
            jobs += page
            url, params = self.next_page(response), None
        return jobs

    async def inspect_job(self, namespace: str, remote_id: str, token: Secret) -> RemoteJob | None:
        """Return one job; none if the Hub has no such job."""
        url = f"{self.url}/api/jobs/{namespace}/{remote_id}"
        try:
            return read(await self.send("GET", url, token, within=_READ), JOB)
        except Answered4xx as no:
            if no.status == _NOT_FOUND:
                return None
            raise

    async def cancel_job(self, namespace: str, remote_id: str, token: Secret) -> None:
        """Ask for a job to be stopped; asking again, or for one that is over, is harmless."""
        url = f"{self.url}/api/jobs/{namespace}/{remote_id}/cancel"
        await self.send("POST", url, token, within=_READ)

    async def log(
        self, namespace: str, remote_id: str, token: Secret, *, longest: int, over: bool
    ) -> AsyncGenerator[list[str]]:
        """Yield the lines of a log from its start, some at a time, without the Hub's own.

        While the job runs, that is until nothing more is written for now. A line that has more
        than `longest` characters is cut there.

        Raises:
            Ambiguous: it broke off; of a job that is over, also by falling silent.
        """
        url = f"{self.url}/api/jobs/{namespace}/{remote_id}/logs"
        # As it is: a few bytes that unpack to gigabytes would be unpacked at once.
        sent = {**headers(token), "accept-encoding": "identity"}
        lines = LogStream(longest)
        with as_hub_errors():
            async with self.session.stream("GET", url, headers=sent) as response:
                raise_for(response)
                async with aclosing(_until_idle(response, over=over)) as stream:
                    async for received in stream:
                        if whole := lines.feed(received):
                            yield whole

    async def send(
        self, method: str, url: str, token: Secret, *, within: timedelta, **body: Any
    ) -> httpx2.Response:
        """Send one request, once.

        Raises:
            HubError: it was not answered with a yes.
        """
        with as_hub_errors():
            try:
                with anyio.fail_after(within.total_seconds()):
                    response = await self.session.request(
                        method, url, headers=headers(token), **body
                    )
            except TimeoutError:
                raise Ambiguous(f"no answer within {within.total_seconds():.0f} s") from None
            raise_for(response)
            return response

    def next_page(self, response: httpx2.Response) -> str | None:
        """Return where a listing goes on, if it does."""
        url: str | None = response.links.get("next", {}).get("url")
        if url is not None and urlsplit(url)[:2] != urlsplit(self.url)[:2]:
            # The token is not for whoever a link names.
            raise Ambiguous("the listing goes on at another host")
        return url


@asynccontextmanager
async def hub(hub_url: str, router_url: str) -> AsyncGenerator[Hub]:
    """Open the way to the Hub."""
    set_async_client_factory(_session)
    async with get_async_session() as session:
        yield Hub(session, hub_url, router_url)


def read(response: httpx2.Response, shape: TypeAdapter[T]) -> T:
    """Read an answer; the request of one that cannot be read may have been carried out."""
    try:
        return shape.validate_json(response.content)
    except ValidationError:
        raise Ambiguous(f"{response.status_code}, and an answer that cannot be read") from None


@contextmanager
def as_hub_errors() -> Generator[None]:
    """Make ours of what goes wrong on the wire."""
    try:
        yield
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
        raise Unreached(f"no connection: {error}") from None
    except (httpx2.TransportError, ValidationError) as error:
        raise Ambiguous(f"{type(error).__name__}: {error}") from None


async def _until_idle(response: httpx2.Response, *, over: bool) -> AsyncGenerator[bytes]:
    """Yield what is received until the stream ends, or has nothing more to say for now."""
    stream = response.aiter_bytes()
    until = anyio.current_time() + _FIRST_LINE
    while True:
        received: bytes | None = None
        with anyio.move_on_after(until - anyio.current_time()) as waiting:
            received = await anext(stream, None)
        if received is None:
            if over and waiting.cancelled_caught:
                raise Ambiguous("the log fell silent before its end")
            return
        yield received
        if not received.startswith(_KEEP_ALIVE):
            until = anyio.current_time() + (_LAST_LINE if over else _NEXT_LINE)


def headers(token: Secret) -> dict[str, str]:
    """Write what every request carries."""
    # Not build_hf_headers: its first call asks the Hub about agents, and blocks the loop meanwhile.
    return {"authorization": f"Bearer {token.reveal()}", "user-agent": f"holdfast/{release()}"}


def raise_for(response: httpx2.Response) -> None:
    """Make ours of an answer that says no, or nothing we know."""
    try:
        hf_raise_for_status(response)
    except HfHubHTTPError as error:
        message = storable(error.server_message or response.reason_phrase)
        if response.status_code >= SERVER_ERROR or response.status_code in UNCLEAR_4XX:
            raise Ambiguous(f"{response.status_code}: {message}") from None
        raise Answered4xx(response.status_code, message, retry_after(response)) from None
    if not response.is_success:
        raise Ambiguous(f"{response.status_code}: an answer the Hub never gives")


def retry_after(response: httpx2.Response) -> timedelta | None:
    """Read how long the Hub asks to be left alone."""
    if (asked := response.headers.get("retry-after", "")).isdigit():
        return timedelta(seconds=int(asked))
    limits = parse_ratelimit_headers(response.headers)
    if limits is not None and limits.remaining == 0:
        return timedelta(seconds=limits.reset_in_seconds)
    return None
