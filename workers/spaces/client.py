"""One call of a Gradio app: its place in the queue, its progress, and its result.

The call uses `queue/join` and `queue/data`, as Gradio's own page does. The simpler `call/{name}`
tells neither the place in the queue nor the progress, and a user who waits wants to know both. Each
call has a session and a stream of its own. When the stream breaks off, the app drops the call, and
its status cannot be requested any more.

    SpaceUnavailable     the app did not accept the call: nothing was started
    SpaceQueueFull       the same, because there is no room in its queue for now
    CallOutcomeUnknown   the app may have accepted the call, and its outcome is not known
"""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

import httpx2
from anyio.lowlevel import checkpoint
from pydantic import TypeAdapter, ValidationError

from schema.common.text import format_count
from schema.db.storable import to_storable
from schema.hub.gradio_api import Endpoint, GradioApi, GradioModel
from schema.hub.gradio_client import (
    SpaceUnavailable,
    expect_status_ok,
    fetch_bytes,
    transport_errors_as_unavailable,
)
from workers.spaces.partial_values import PartialValues

_SILENCE_TIMEOUT_SECONDS: Final = 75.0
"""Seconds without an event; a running app sends one at least every 15."""
_MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
"""Bytes of one event; the complete result of a function is one event."""
_MAX_ERROR_BYTES: Final = 64 * 1024
_EVENT_PREFIX: Final = b"data:"
_AMBIGUOUS_STATUSES: Final = frozenset(
    {HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT}
)
_NOT_SENT_ERRORS: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_PATHS_ADAPTER: Final = TypeAdapter(list[str])


class SpaceQueueFull(Exception):
    """There is no room in the queue for now."""


class CallOutcomeUnknown(Exception):
    """The call may have been carried out."""


@dataclass(frozen=True, slots=True)
class CallStatus:
    """The status of a call in a few words; `done` of `total` steps, if the app counts them."""

    message: str
    done: int | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class CallCompleted:
    """The function returned."""

    values: list[Any]


@dataclass(frozen=True, slots=True)
class CallFailed:
    """The function raised an error; the app may hide its text."""

    message: str | None


class _ProgressUnit(GradioModel):
    index: float | None = None
    length: float | None = None
    progress: float | None = None
    desc: str | None = None


class _CallOutput(GradioModel):
    data: list[Any] | None = None
    error: str | None = None
    title: str | None = None


class _QueueMessage(GradioModel):
    msg: str
    rank: int | None = None
    rank_eta: float | None = None
    queue_size: int | None = None
    progress_data: list[_ProgressUnit] | None = None
    log: str | None = None
    output: _CallOutput | None = None
    success: bool | None = None
    message: str | None = None
    event_bytes: int = 0


class _JoinResponse(GradioModel):
    event_id: str


class _ErrorResponse(GradioModel):
    detail: Any = None


class SpaceCall:
    """A call of one endpoint, in a session of its own."""

    def __init__(self, client: httpx2.AsyncClient, api: GradioApi, endpoint: Endpoint) -> None:
        self._client = client
        self._prefix = api.api_prefix
        self._endpoint = endpoint
        self.partial_values = PartialValues(endpoint, are_edits=api.sends_edits)
        """What the function has yielded last."""
        self._session_hash = uuid4().hex
        self._event_id = ""

    async def upload(self, name: str, content: bytes) -> str:
        """Upload a file, and return its path in the app.

        Raises:
            SpaceUnavailable: the app did not accept it.
        """
        with transport_errors_as_unavailable():
            response = await self._client.post(
                f"{self._prefix}/upload", files={"files": (name, content)}
            )
        expect_status_ok(response.status_code)
        try:
            return _PATHS_ADAPTER.validate_json(response.content)[0]
        except (ValidationError, IndexError):
            raise SpaceUnavailable(
                "it accepted a file, and did not return its path", HTTPStatus.OK
            ) from None

    async def join_queue(self, values: list[Any]) -> CallFailed | None:
        """Join the queue, once; return the failure if the app refuses the arguments.

        Raises:
            SpaceUnavailable: the app did not accept the call.
            SpaceQueueFull: the app did not accept the call.
            CallOutcomeUnknown: it may have accepted the call.
        """
        body = {
            "data": values,
            "fn_index": self._endpoint.fn_index,
            "session_hash": self._session_hash,
        }
        try:
            response = await self._client.post(f"{self._prefix}/queue/join", json=body)
        except _NOT_SENT_ERRORS as error:
            raise SpaceUnavailable(f"it does not answer: {type(error).__name__}") from None
        except httpx2.TransportError as error:
            raise CallOutcomeUnknown(type(error).__name__) from None
        status = response.status_code
        if status in _AMBIGUOUS_STATUSES:
            raise CallOutcomeUnknown(f"it answered {status}")
        detail = _parse_error_detail(response)
        if status == HTTPStatus.UNPROCESSABLE_ENTITY:
            return CallFailed(detail)
        if status == HTTPStatus.SERVICE_UNAVAILABLE and "queue" in detail.lower():
            raise SpaceQueueFull(detail)
        expect_status_ok(status)
        try:
            self._event_id = _JoinResponse.model_validate_json(response.content).event_id
        except ValidationError:
            raise CallOutcomeUnknown("it answered in a way that cannot be read") from None
        return None

    async def follow_events(self) -> AsyncGenerator[CallStatus | CallCompleted | CallFailed]:
        """Yield the status of the call until it ends, and then its result.

        Raises:
            CallOutcomeUnknown: the stream broke off before the call ended.
        """
        timeout = httpx2.Timeout(_SILENCE_TIMEOUT_SECONDS)
        stream = self._client.stream(
            "GET",
            f"{self._prefix}/queue/data",
            params={"session_hash": self._session_hash},
            timeout=timeout,
        )
        try:
            async with stream as response:
                if response.status_code != HTTPStatus.OK:
                    raise CallOutcomeUnknown(f"it answered {response.status_code}")
                async with aclosing(_read_messages(response)) as messages:
                    async for message in messages:
                        if (event := _parse_event(message, self.partial_values)) is not None:
                            yield event
                            if not isinstance(event, CallStatus):
                                return
        except httpx2.TransportError as error:
            raise CallOutcomeUnknown(type(error).__name__) from None
        raise CallOutcomeUnknown("it broke off")

    async def cancel(self) -> None:
        """Ask the app to stop the call; a function that it cannot interrupt runs to its end."""
        body = {
            "session_hash": self._session_hash,
            "fn_index": self._endpoint.fn_index,
            "event_id": self._event_id,
        }
        with transport_errors_as_unavailable():
            await self._client.post(f"{self._prefix}/cancel", json=body)

    async def download(self, path: str, *, max_bytes: int) -> bytes:
        """Download a file that the app has created.

        Raises:
            SpaceUnavailable: it cannot be downloaded.
        """
        if ".." in path.split("/"):
            raise SpaceUnavailable("its path leads out of the folder of the app", HTTPStatus.OK)
        return await fetch_bytes(
            self._client, f"{self._prefix}/file={quote(path)}", max_bytes=max_bytes
        )


async def _read_messages(response: httpx2.Response) -> AsyncGenerator[_QueueMessage]:
    line = bytearray()
    async for chunk in response.aiter_bytes():
        *line_ends, line_start = chunk.split(b"\n")
        for line_end in line_ends:
            line += line_end
            if (message := _parse_message(bytes(line))) is not None:
                yield message
                await checkpoint()  # a chunk may have thousands of them
            line.clear()
        line += line_start
        if len(line) > _MAX_EVENT_BYTES:
            raise CallOutcomeUnknown(
                f"it answers with more than {_MAX_EVENT_BYTES:,} bytes at once"
            )


def _parse_message(line: bytes) -> _QueueMessage | None:
    if not line.startswith(_EVENT_PREFIX):
        return None
    try:
        message = _QueueMessage.model_validate_json(line.removeprefix(_EVENT_PREFIX))
    except ValidationError:
        return None  # an unknown kind of event
    return message.model_copy(update={"event_bytes": len(line)})


def _parse_event(
    message: _QueueMessage, partial_values: PartialValues
) -> CallStatus | CallCompleted | CallFailed | None:
    match message.msg:
        case "process_completed":
            return _parse_completion(message)
        case "unexpected_error":
            raise CallOutcomeUnknown(to_storable(message.message or "it stopped unexpectedly"))
        case _:
            try:
                return _parse_status(message, partial_values)
            except (ValueError, OverflowError):
                return None  # a number that is not finite, or has too many digits to be written


def _parse_status(message: _QueueMessage, partial_values: PartialValues) -> CallStatus | None:
    match message.msg:
        case "estimation" if message.rank is not None:
            return CallStatus(
                _describe_queue_position(message.rank, message.queue_size, message.rank_eta)
            )
        case "process_starts":
            return CallStatus("Running")
        case "process_generating":
            output = message.output or _CallOutput()
            partial_values.add(output.data, message.event_bytes)
            partial = format_count(partial_values.count, "partial result")
            return CallStatus(f"Running, {partial} so far")
        case "progress" if message.progress_data:
            return _parse_progress(message.progress_data[-1])
        case "log" if message.log:
            return CallStatus(message.log)
        case _:
            return None


def _describe_queue_position(rank: int, size: int | None, eta: float | None) -> str:
    total = f" of {size}" if size else ""
    wait = f", about {max(1, round(eta))} s" if eta else ""
    return f"Waiting in the Space's queue: number {rank + 1}{total}{wait}"


def _parse_progress(unit: _ProgressUnit) -> CallStatus:
    description = unit.desc or "Running"
    if unit.index is not None:
        return CallStatus(
            description, int(unit.index), None if unit.length is None else int(unit.length)
        )
    if unit.progress is not None:
        return CallStatus(description, round(unit.progress * 100), 100)
    return CallStatus(description)


def _parse_completion(message: _QueueMessage) -> CallCompleted | CallFailed:
    output = message.output or _CallOutput()
    if message.success is False or output.data is None:
        texts = [text for text in (output.title, output.error) if text and text != "Error"]
        return CallFailed(to_storable(": ".join(texts)) or None)
    return CallCompleted(to_storable(output.data))


def _parse_error_detail(response: httpx2.Response) -> str:
    try:
        detail = _ErrorResponse.model_validate_json(response.content[:_MAX_ERROR_BYTES]).detail
    except ValidationError:
        return ""
    return to_storable(detail if isinstance(detail, str) else json.dumps(detail))
