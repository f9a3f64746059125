"""One call of a Gradio app: its place in the queue, how far it is, and what it gives.

`queue/join` and `queue/data` carry it, as they carry Gradio's own page. The simpler `call/{name}`
tells neither the place in the queue nor how far a function is, and both are what somebody who waits
wants to know. The stream belongs to a session of its own for each call: when it breaks off the app
drops what it was doing, and nothing can be asked about it any more.

    Shut   the app did not take the call: nothing was begun
    Full   so too; there is no room in its queue for now
    Lost   it may have taken it, and what became of it is not known
"""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

import httpx2
from pydantic import TypeAdapter, ValidationError

from schema.db.storable import to_storable
from schema.hub.gradio_api import Endpoint, GradioModel
from schema.hub.gradio_client import (
    SpaceUnavailable,
    expect_status_ok,
    fetch_bytes,
    transport_errors_as_unavailable,
)

_SILENCE_TIMEOUT_SECONDS: Final = 75.0
"""Seconds without a sign of life; an app that is alive gives one every 15."""
_MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
"""Bytes of one event: what a function gives comes in one."""
_MAX_ERROR_BYTES: Final = 64 * 1024
_EVENT_PREFIX: Final = b"data:"
_OK: Final = 200
_INVALID: Final = 422
_UNAVAILABLE: Final = 503
_GATEWAY_ERROR_STATUSES: Final = frozenset({500, 502, 504})
_NOT_SENT_ERRORS: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_PATHS_ADAPTER: Final = TypeAdapter(list[str])


class SpaceQueueFull(Exception):
    """There is no room in the queue for now."""


class CallOutcomeUnknown(Exception):
    """The call may have been carried out."""


@dataclass(frozen=True, slots=True)
class CallStatus:
    """How a call stands, in a few words; `done` of `total` steps, if the app counts them."""

    message: str
    done: int | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class CallCompleted:
    """The function returned."""

    values: list[Any]


@dataclass(frozen=True, slots=True)
class CallFailed:
    """The function raised; the app may keep to itself what."""

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


class _JoinResponse(GradioModel):
    event_id: str


class _ErrorResponse(GradioModel):
    detail: Any = None


class SpaceCall:
    """A call of one endpoint, in a session of its own."""

    def __init__(self, client: httpx2.AsyncClient, prefix: str, endpoint: Endpoint) -> None:
        self._client = client
        self._prefix = prefix
        self._endpoint = endpoint
        self._session_hash = uuid4().hex
        self._event_id = ""

    async def upload(self, name: str, content: bytes) -> str:
        """Hand a file over, and return what the app calls it.

        Raises:
            Shut: it was not taken.
        """
        with transport_errors_as_unavailable():
            answer = await self._client.post(
                f"{self._prefix}/upload", files={"files": (name, content)}
            )
        expect_status_ok(answer.status_code)
        try:
            return _PATHS_ADAPTER.validate_json(answer.content)[0]
        except (ValidationError, IndexError):
            raise SpaceUnavailable("it took a file, and did not say where to", _OK) from None

    async def join_queue(self, values: list[Any]) -> CallFailed | None:
        """Take a place in the queue, once; say so if the app turns the arguments away.

        Raises:
            Shut, Full: the call was not taken.
            Lost: it may have been.
        """
        body = {
            "data": values,
            "fn_index": self._endpoint.fn_index,
            "session_hash": self._session_hash,
        }
        try:
            answer = await self._client.post(f"{self._prefix}/queue/join", json=body)
        except _NOT_SENT_ERRORS as error:
            raise SpaceUnavailable(f"it does not answer: {type(error).__name__}") from None
        except httpx2.TransportError as error:
            raise CallOutcomeUnknown(type(error).__name__) from None
        if answer.status_code in _GATEWAY_ERROR_STATUSES:
            raise CallOutcomeUnknown(f"it answered {answer.status_code}")
        if answer.status_code == _INVALID:
            return CallFailed(_parse_error_detail(answer))
        if answer.status_code == _UNAVAILABLE and "queue" in _parse_error_detail(answer).lower():
            raise SpaceQueueFull(_parse_error_detail(answer))
        expect_status_ok(answer.status_code)
        try:
            self._event_id = _JoinResponse.model_validate_json(answer.content).event_id
        except ValidationError:
            raise CallOutcomeUnknown("it answered in a way that cannot be read") from None
        return None

    async def follow_events(self) -> AsyncGenerator[CallStatus | CallCompleted | CallFailed]:
        """Yield how it stands, until it is over.

        Raises:
            Lost: the stream broke off before that.
        """
        timeout = httpx2.Timeout(_SILENCE_TIMEOUT_SECONDS)
        asked = self._client.stream(
            "GET",
            f"{self._prefix}/queue/data",
            params={"session_hash": self._session_hash},
            timeout=timeout,
        )
        partial = 0
        try:
            async with asked as response:
                if response.status_code != _OK:
                    raise CallOutcomeUnknown(f"it answered {response.status_code}")
                async with aclosing(_read_messages(response)) as messages:
                    async for message in messages:
                        partial += message.msg == "process_generating"
                        if (told := _parse_event(message, partial)) is not None:
                            yield told
                            if not isinstance(told, CallStatus):
                                return
        except httpx2.TransportError as error:
            raise CallOutcomeUnknown(type(error).__name__) from None
        raise CallOutcomeUnknown("it broke off")

    async def cancel(self) -> None:
        """Ask the app to stop; what it has begun and cannot interrupt goes on unheard."""
        body = {
            "session_hash": self._session_hash,
            "fn_index": self._endpoint.fn_index,
            "event_id": self._event_id,
        }
        with transport_errors_as_unavailable():
            await self._client.post(f"{self._prefix}/cancel", json=body)

    async def download(self, path: str, *, max_bytes: int) -> bytes:
        """Read a file that the app has made.

        Raises:
            Shut: it cannot be had.
        """
        if ".." in path.split("/"):
            raise SpaceUnavailable("it is said to be where no file of the app is", _OK)
        return await fetch_bytes(
            self._client, f"{self._prefix}/file={quote(path)}", max_bytes=max_bytes
        )


async def _read_messages(response: httpx2.Response) -> AsyncGenerator[_QueueMessage]:
    rest = bytearray()
    async for received in response.aiter_bytes():
        *ended, begun = received.split(b"\n")
        for line in ended:
            rest += line
            if (message := _parse_message(bytes(rest))) is not None:
                yield message
            rest.clear()
        rest += begun
        if len(rest) > _MAX_EVENT_BYTES:
            raise CallOutcomeUnknown(
                f"it answers with more than {_MAX_EVENT_BYTES:,} bytes at once"
            )


def _parse_message(line: bytes) -> _QueueMessage | None:
    if not line.startswith(_EVENT_PREFIX):
        return None
    try:
        return _QueueMessage.model_validate_json(line.removeprefix(_EVENT_PREFIX))
    except ValidationError:
        return None  # of a kind that is not known here


def _parse_event(  # noqa: PLR0911  # one for each kind
    message: _QueueMessage, partial: int
) -> CallStatus | CallCompleted | CallFailed | None:  # one for each kind
    match message.msg:
        case "estimation" if message.rank is not None:
            return CallStatus(
                _describe_queue_position(message.rank, message.queue_size, message.rank_eta)
            )
        case "process_starts":
            return CallStatus("Running")
        case "process_generating":
            return CallStatus(
                f"Running, {partial} partial result{'s' if partial > 1 else ''} so far"
            )
        case "progress" if message.progress_data:
            return _parse_progress(message.progress_data[-1])
        case "log" if message.log:
            return CallStatus(message.log)
        case "process_completed":
            return _parse_completion(message)
        case "unexpected_error":
            raise CallOutcomeUnknown(to_storable(message.message or "it stopped unexpectedly"))
        case _:
            return None


def _describe_queue_position(rank: int, size: int | None, eta: float | None) -> str:
    of = f" of {size}" if size else ""
    when = f", about {max(1, round(eta))} s" if eta else ""
    return f"Waiting in the Space's queue: number {rank + 1}{of}{when}"


def _parse_progress(unit: _ProgressUnit) -> CallStatus:
    said = unit.desc or "Running"
    if unit.index is not None:
        return CallStatus(said, int(unit.index), None if unit.length is None else int(unit.length))
    if unit.progress is not None:
        return CallStatus(said, round(unit.progress * 100), 100)
    return CallStatus(said)


def _parse_completion(message: _QueueMessage) -> CallCompleted | CallFailed:
    output = message.output or _CallOutput()
    if message.success is False or output.data is None:
        said = [each for each in (output.title, output.error) if each and each != "Error"]
        return CallFailed(to_storable(": ".join(said)) or None)
    return CallCompleted(to_storable(output.data))


def _parse_error_detail(answer: httpx2.Response) -> str:
    try:
        detail = _ErrorResponse.model_validate_json(answer.content[:_MAX_ERROR_BYTES]).detail
    except ValidationError:
        return ""
    return to_storable(detail if isinstance(detail, str) else json.dumps(detail))
