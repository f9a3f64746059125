"""The calls of a bridge: one POST for each message, and every failure as a sentence.

A message is posted once. After a failure nobody knows whether the service has carried it out, and
the sentence says so; a client that repeats it with its `idempotency_key` launches nothing twice.
"""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final, Protocol

import httpx2

from schema.common.http import UNCOMPRESSED, make_reject_all_cookie_jar, read_bounded
from service.cli.stdio.messages import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    ClientMessage,
    ServerMessage,
    build_error,
    parse_server_message,
    read_object,
)

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""More than any answer of the service; a longer one is not held in memory."""
_CONNECT_TIMEOUT: Final = timedelta(seconds=10)
_SILENCE_TIMEOUT: Final = timedelta(minutes=2)
"""The service answers within a minute, and sends something every 15 s into an open stream."""
_NOT_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_ERROR_KEY: Final = "holdfast/error"
_CALL_AGAIN: Final = "Call again in a few seconds; a launch with the same idempotency_key."
_SIGN_IN_STATUSES: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)

Deliver = Callable[[ServerMessage], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Target:
    """A service to call, and how."""

    endpoint: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    token_advice: str = ""
    """What to do if the service does not accept who calls."""
    outage_advice: str = "Check the URL and the network, then call again."
    """What to do if nothing answers there."""


class TargetFinder(Protocol):
    """Whatever knows which service to call now."""

    is_on_this_machine: bool
    """Whether it is, so that no proxy of the environment is used."""

    async def find_target(self) -> Target:
        """Return the service, after waiting for it if it is starting.

        Raises:
            ExchangeFailed: there is none.
        """
        ...


class ExchangeFailed(Exception):
    """The service has not answered a message; the text says why, and what to do."""

    def __init__(self, sentence: str, *, code: str, number: int = INTERNAL_ERROR) -> None:
        """Describe the failure.

        Args:
            sentence: for the person or the model that called.
            code: a word for programs.
            number: the code of the JSON-RPC error.
        """
        super().__init__(sentence)
        self.code = code
        self.number = number

    def build_answer(self, message: ClientMessage) -> ServerMessage:
        """Write the error that answers the message."""
        data = {_ERROR_KEY: {"code": self.code}}
        return build_error(message.request_id, self.number, str(self), data)


@asynccontextmanager
async def open_http_client(*, on_this_machine: bool) -> AsyncGenerator[httpx2.AsyncClient]:
    """Open what all calls go through. It follows no redirect: a token goes nowhere else.

    Args:
        on_this_machine: whether all calls stay on it, so no proxy of the environment is used.
    """
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=10)
    timeout = httpx2.Timeout(
        _SILENCE_TIMEOUT.total_seconds(), connect=_CONNECT_TIMEOUT.total_seconds()
    )
    async with httpx2.AsyncClient(
        headers=UNCOMPRESSED,
        cookies=make_reject_all_cookie_jar(),
        timeout=timeout,
        limits=limits,
        trust_env=not on_this_machine,
    ) as http:
        yield http


class ServiceClient:
    """Posts messages to a service, and reads its answers."""

    def __init__(self, http: httpx2.AsyncClient, targets: TargetFinder) -> None:
        self.http = http
        self._targets = targets
        self._legacy_version: str | None = None

    async def find_target(self) -> Target:
        """Return the service that is called now; see `TargetFinder`."""
        return await self._targets.find_target()

    async def exchange(self, message: ClientMessage, deliver: Deliver) -> None:
        """Post a message, and deliver what the service sends until it has answered.

        Raises:
            ExchangeFailed: there is no answer.
        """
        target = await self.find_target()
        headers = {
            **target.headers,
            "accept": "application/json, text/event-stream",
            "content-type": "application/json",
            **self._version_header(message),
            **message.headers,
        }
        try:
            async with self.http.stream(
                "POST", target.endpoint, content=message.body, headers=headers
            ) as response:
                if not response.is_success:
                    refusal = await _read_refusal(response, message, target)
                    if not message.has_answer:
                        raise ExchangeFailed(refusal.line, code=f"http_{response.status_code}")
                    await deliver(refusal)
                elif message.has_answer and not _is_empty(response, message):
                    await self._read_answer(response, message, deliver)
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise describe_http_failure(error, target) from error

    async def call(self, message: ClientMessage) -> Mapping[str, Any]:
        """Post a request of our own, and return the fields of its answer.

        Raises:
            ExchangeFailed: there is no answer.
        """
        answers: list[ServerMessage] = []

        async def remember(sent: ServerMessage) -> None:
            if sent.is_answer:
                answers.append(sent)

        await self.exchange(message, remember)
        return read_object(answers[0].fields)

    def _version_header(self, message: ClientMessage) -> dict[str, str]:
        # A handshake negotiates the version, so it names none.
        if self._legacy_version is None or message.method == "initialize":
            return {}
        return {"mcp-protocol-version": self._legacy_version}

    async def _read_answer(
        self, response: httpx2.Response, message: ClientMessage, deliver: Deliver
    ) -> None:
        media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type == "text/event-stream":
            await _read_events(response, message, deliver)
            return
        if media_type != "application/json":
            raise _not_mcp(response)
        try:
            answer = parse_server_message(await _read_text(response), message)
        except (ValueError, RecursionError):
            raise _not_mcp(response) from None
        if message.method == "initialize":
            result = read_object(read_object(answer.fields).get("result"))
            version = result.get("protocolVersion")
            self._legacy_version = version if isinstance(version, str) else None
        await deliver(answer)


def describe_http_failure(error: Exception, target: Target) -> ExchangeFailed:
    """Say what a failure of the network means for the message that was posted."""
    if isinstance(error, _NOT_SENT):
        return ExchangeFailed(
            f"No service answers at {target.endpoint}, so nothing was done. {target.outage_advice}",
            code="service_unreachable",
        )
    if isinstance(error, httpx2.SSEError):  # its only one: the media type was looked at
        return _too_large()
    return ExchangeFailed(
        f"The connection to {target.endpoint} broke before the answer, so it is not known whether "
        f"this was carried out. Look first (list_jobs shows launches); a launch may be repeated "
        f"with the same idempotency_key.",
        code="answer_lost",
    )


def _is_empty(response: httpx2.Response, message: ClientMessage) -> bool:
    """Say whether a batch had nothing that is answered."""
    return message.is_batch and response.status_code == HTTPStatus.ACCEPTED


async def _read_events(response: httpx2.Response, message: ClientMessage, deliver: Deliver) -> None:
    async for event in httpx2.EventSource(response, max_event_size=MAX_ANSWER_BYTES):
        if not event.data:
            continue
        try:
            sent = parse_server_message(event.data, message)
        except (ValueError, RecursionError):
            raise _not_mcp(response) from None
        await deliver(sent)
        if sent.is_answer:
            return
    # A service that stops closes its streams.
    raise httpx2.ReadError("the stream ended without an answer")


async def _read_text(response: httpx2.Response) -> str:
    content = await read_bounded(response.aiter_bytes(), MAX_ANSWER_BYTES)
    if len(content) > MAX_ANSWER_BYTES:
        raise _too_large()
    return content.decode("utf-8")


async def _read_refusal(
    response: httpx2.Response, message: ClientMessage, target: Target
) -> ServerMessage:
    """Return the error that a status means: that of the service, or one in our words."""
    advice = target.token_advice if response.status_code in _SIGN_IN_STATUSES else ""
    with suppress(ValueError, RecursionError):
        error = read_object(read_object(json.loads(await _read_text(response))).get("error"))
        if isinstance(error.get("message"), str):
            sentence = f"{error['message']} {advice}".strip()
            number = error.get("code")
            return build_error(
                message.request_id,
                number if isinstance(number, int) else INTERNAL_ERROR,
                sentence,
                error.get("data"),
            )
    return _describe_status(response, advice).build_answer(message)


def _describe_status(response: httpx2.Response, advice: str) -> ExchangeFailed:
    status = response.status_code
    place = response.request.url
    match status:
        case HTTPStatus.UNAUTHORIZED:
            sentence = f"{place} does not know who calls (401)."
        case HTTPStatus.FORBIDDEN:
            sentence = f"{place} refuses this caller (403)."
        case HTTPStatus.NOT_FOUND | HTTPStatus.METHOD_NOT_ALLOWED:
            sentence = f"There is no MCP server at {place} ({status}). Correct the URL."
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            sentence = "The request is too large (413). Send less at a time."
        case HTTPStatus.TOO_MANY_REQUESTS:
            seconds = response.headers.get("retry-after", "")
            when = f"in {seconds} s" if seconds.isdigit() else "in a minute"
            sentence = f"Too many calls (429). Call again {when}."
        case _ if response.has_redirect_location:
            sentence = (
                f"{place} sends callers to {response.headers['location']}, and a token is sent "
                f"nowhere else. If that is the service, start the bridge with that URL."
            )
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            sentence = (
                f"{place} answered with {status} and no reason, so it may be starting, or "
                f"overloaded. It is not known whether this was carried out. {_CALL_AGAIN}"
            )
        case _:
            sentence = f"{place} refused this with {status} and no reason. Check the URL."
    number = INVALID_REQUEST if status < HTTPStatus.INTERNAL_SERVER_ERROR else INTERNAL_ERROR
    return ExchangeFailed(f"{sentence} {advice}".strip(), code=f"http_{status}", number=number)


def _too_large() -> ExchangeFailed:
    return ExchangeFailed(
        f"The answer is larger than {MAX_ANSWER_BYTES // 1024**2} MiB, so it was not read. "
        f"Ask for less, for example with a limit.",
        code="answer_too_large",
    )


def _not_mcp(response: httpx2.Response) -> ExchangeFailed:
    return ExchangeFailed(
        f"{response.request.url} answers, but not in MCP. Check that the URL is that of Holdfast.",
        code="not_mcp",
    )
