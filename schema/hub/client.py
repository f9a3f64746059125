"""HTTP client of the Hub for both processes: one pooled session, a deadline for each request.

A request is sent once and never repeated here. The client is built on the pieces of
`huggingface_hub` (request ids, errors, rate limits). That library has no async client for Jobs,
sets no deadlines, and uses the token on the disk by default. Responses are the Hub's own JSON: the
library's typed models drop fields that we need, and raise after a job has been created.

    HubError
    ├── HubUnreachable   no byte of the request was sent: it was certainly not carried out
    ├── HubRejected      the Hub refused: it was certainly not carried out
    └── HubAmbiguous     sent, and then no answer, a 5xx or an unreadable answer
"""

import time
from collections.abc import AsyncGenerator, Callable, Collection, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import anyio
import httpx2
from huggingface_hub import JobHardware
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils._http import (
    async_hf_request_event_hook,
    async_hf_response_event_hook,
    hf_raise_for_status,
    parse_ratelimit_headers,
)
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from typing_extensions import override

from schema.accounts.vault import Secret
from schema.common.http import make_reject_all_cookie_jar
from schema.common.observability.causes import CauseLog
from schema.common.observability.metrics import OTHER, HubRequest
from schema.common.observability.tracing import Span, start_child_span
from schema.common.process.tls import shared_ssl_context
from schema.common.version import package_version
from schema.db.storable import to_storable
from schema.hub.routes import find_route

T = TypeVar("T")
HubRequestListener = Callable[[HubRequest], None]
"""Called for each request, when its response has begun or has failed to."""

FLAVORS: Final = tuple(flavor.value for flavor in JobHardware)
"""The hardware that the Hub's own library knows of; only the Hub knows whether there is more."""

AMBIGUOUS_STATUSES: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT})
"""A proxy's time-out, and a conflict that may be with ourselves."""
_STATUSES: Final = frozenset(HTTPStatus)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_RATE_LIMITS: Final = frozenset({"api", "pages", "resolvers"})
"""The names of the limits that the Hub's documentation lists."""
_CONNECT_TIMEOUT: Final = timedelta(seconds=5)
_HARDWARE_TIMEOUT: Final = timedelta(seconds=10)
_HARDWARE_ADAPTER: Final = TypeAdapter(list[dict[str, Any]])


class HubJson(BaseModel):
    """A part of the Hub's JSON, which writes names in camelCase; unknown fields are ignored."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="ignore")


class HubError(Exception):
    """Base of everything that can go wrong between us and the Hub."""

    retry_after: timedelta | None = None
    """The pause that the response asks for, if any."""


class HubUnreachable(HubError):
    """No byte of the request was sent."""


class HubAmbiguous(HubError):
    """The request was sent; whether it was carried out is not known."""

    def __init__(
        self, message: str, *, status: int | None = None, retry_after: timedelta | None = None
    ) -> None:
        self.status = status
        """The HTTP status of the response; None if there was no response, or no readable one."""
        self.retry_after = retry_after
        super().__init__(message)


class HubRejected(HubError):
    """The Hub refused the request."""

    def __init__(self, status: int, message: str, retry_after: timedelta | None) -> None:
        self.status = status
        self.message = message
        self.retry_after = retry_after
        super().__init__(f"{status}: {message}")


class HubClient:
    """The Hub, asked with one subject's token, request by request."""

    def __init__(self, session: httpx2.AsyncClient, hub_url: str) -> None:
        self.session = session
        self.causes = session.causes if isinstance(session, _Session) else CauseLog("hub")
        self.url = hub_url.rstrip("/")

    async def send(
        self,
        method: str,
        url: str,
        token: Secret | None,
        *,
        timeout: timedelta,
        accepted_statuses: Collection[int] = (),
        **body: Any,
    ) -> httpx2.Response:
        """Send one request, once, and return its response within `timeout`.

        A `token` of None is for what is public. The caller reads a response with one of the
        `accepted_statuses` itself, as it reads one of success.

        Raises:
            HubError: there is no such response.
        """
        with as_hub_errors():
            try:
                with anyio.fail_after(timeout.total_seconds()):
                    response = await self.session.request(
                        method, url, headers=request_headers(token), **body
                    )
            except TimeoutError as error:
                self.causes.report(error)
                raise HubAmbiguous(f"no answer within {timeout.total_seconds():.0f} s") from None
            if response.status_code not in accepted_statuses:
                raise_for_status(response)
            return response

    async def fetch_hardware(self) -> list[dict[str, Any]]:
        """Fetch the list of hardware for jobs and its prices, without a token: it is public.

        Raises:
            HubError: there is no readable list.
        """
        url = f"{self.url}/api/jobs/hardware"
        response = await self.send("GET", url, None, timeout=_HARDWARE_TIMEOUT)
        return parse_response(response, _HARDWARE_ADAPTER)

    def next_page_url(self, response: httpx2.Response) -> str | None:
        """Return the URL of the next page of a listing; None at its end."""
        url: str | None = response.links.get("next", {}).get("url")
        if url is not None and urlsplit(url)[:2] != urlsplit(self.url)[:2]:
            # The token is for the Hub only, whatever host a link names.
            raise HubAmbiguous("the next page of the listing is at another host")
        return url


@asynccontextmanager
async def open_hub_client(
    hub_url: str,
    *,
    connect_timeout: timedelta = _CONNECT_TIMEOUT,
    on_request: HubRequestListener | None = None,
) -> AsyncGenerator[HubClient]:
    """Open a client of the Hub."""
    async with create_session(connect_timeout, on_request=on_request) as session:
        yield HubClient(session, hub_url)


class _Session(httpx2.AsyncClient):
    """A session that tells its listener of each request."""

    on_request: HubRequestListener | None = None

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.causes = CauseLog("hub")

    @override
    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request; its listener hears how the response began."""
        route = find_route(request.method, request.url.path)
        with start_child_span(
            route,
            "client",
            attributes={
                "http.request.method": request.method,
                "url.template": route.partition(" ")[2],
                "server.address": request.url.host,
                "server.port": request.url.port or _DEFAULT_PORTS.get(request.url.scheme),
            },
        ) as span:
            return await self._send(request, route, span, **options)

    async def _send(
        self, request: httpx2.Request, route: str, span: Span | None, **options: Any
    ) -> httpx2.Response:
        started, status = time.perf_counter(), "cancelled"
        response: httpx2.Response | None = None
        try:
            response = await super().send(request, **options)
            status = str(response.status_code) if response.status_code in _STATUSES else OTHER
            if response.is_server_error:
                self.causes.report(HubAmbiguous(status), kind=f"HTTP {status}")
            return response  # noqa: TRY300  # an else would come after what finally does
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            self.causes.report(error)
            status = "unreachable"
            raise
        except httpx2.TransportError as error:
            self.causes.report(error)
            status = "broken"
            raise
        finally:
            seconds = time.perf_counter() - started
            if span is not None:
                _describe_response(span, response, status)
            if self.on_request is not None:
                self.on_request(_describe_request(route, response, status, seconds))


def _describe_response(span: Span, response: httpx2.Response | None, status: str) -> None:
    if response is not None:
        span.set_attributes({"http.response.status_code": response.status_code})
    if response is None or response.is_error:
        span.fail(status)


def _describe_request(
    route: str, response: httpx2.Response | None, status: str, seconds: float
) -> HubRequest:
    limits = None if response is None else parse_ratelimit_headers(response.headers)
    if limits is None:
        return HubRequest(route, status, seconds)
    limit = limits.resource_type if limits.resource_type in _RATE_LIMITS else OTHER
    return HubRequest(route, status, seconds, limit, limits.remaining, limits.reset_in_seconds)


def create_session(
    connect_timeout: timedelta = _CONNECT_TIMEOUT, *, on_request: HubRequestListener | None = None
) -> httpx2.AsyncClient:
    """Create a session that follows no redirect and stores no cookie.

    It has no time-out but that of the connection: each request sets its own deadline.
    """
    session = _Session(
        timeout=httpx2.Timeout(None, connect=connect_timeout.total_seconds()),
        limits=httpx2.Limits(max_connections=256, max_keepalive_connections=64),
        follow_redirects=False,
        cookies=make_reject_all_cookie_jar(),
        verify=shared_ssl_context(),
        event_hooks={
            "request": [async_hf_request_event_hook],
            "response": [async_hf_response_event_hook],
        },
    )
    session.on_request = on_request
    return session


def parse_response(response: httpx2.Response, adapter: TypeAdapter[T]) -> T:
    """Parse the JSON of a response; if it is unreadable, the request may have been carried out."""
    try:
        return adapter.validate_json(response.content)
    except ValidationError:
        raise HubAmbiguous(f"{response.status_code}, and an answer that cannot be read") from None


@contextmanager
def as_hub_errors() -> Generator[None]:
    """Turn the errors of the transport into those of this module."""
    try:
        yield
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
        raise HubUnreachable(f"no connection: {error}") from None
    except (httpx2.TransportError, ValidationError) as error:
        raise HubAmbiguous(f"{type(error).__name__}: {error}") from None


def request_headers(token: Secret | None) -> dict[str, str]:
    """Build the headers that every request carries."""
    # Not build_hf_headers: its first call asks the Hub about agents and blocks the event loop.
    headers = {"user-agent": f"holdfast/{package_version()}"}
    if token is not None:
        headers["authorization"] = f"Bearer {token.reveal()}"
    return headers


def raise_for_status(response: httpx2.Response) -> None:
    """Raise an error of this module for a response without success.

    Raises:
        HubRejected: the Hub refused.
        HubAmbiguous: the status is a 5xx, or does not say whether the request was carried out.
    """
    status = response.status_code
    try:
        hf_raise_for_status(response)
    except HfHubHTTPError as error:
        message = to_storable(error.server_message or response.reason_phrase)
        retry_after = parse_retry_after(response)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in AMBIGUOUS_STATUSES:
            raise HubAmbiguous(
                f"{status}: {message}", status=status, retry_after=retry_after
            ) from None
        raise HubRejected(status, message, retry_after) from None
    if not response.is_success:  # a redirect, which the library lets pass
        raise HubAmbiguous(f"{status}: an answer the Hub never gives", status=status)


def parse_retry_after(response: httpx2.Response) -> timedelta | None:
    """Return the pause that the Hub asks for, from either of its two headers."""
    if (seconds := response.headers.get("retry-after", "")).isdigit():
        return timedelta(seconds=int(seconds))
    limits = parse_ratelimit_headers(response.headers)
    if limits is not None and limits.remaining == 0:
        return timedelta(seconds=limits.reset_in_seconds)
    return None
