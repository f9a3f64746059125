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

from schema.db.storable import storable
from schema.gradio.api import Endpoint, Said
from schema.gradio.client import Shut, as_shut, expect_ok, fetch

_SILENCE: Final = 75.0
"""Seconds without a sign of life; an app that is alive gives one every 15."""
_LARGEST: Final = 16 * 1024 * 1024
"""Bytes of one event: what a function gives comes in one."""
_ANSWER: Final = 64 * 1024
_EVENT: Final = b"data:"
_OK: Final = 200
_INVALID: Final = 422
_UNAVAILABLE: Final = 503
_GATEWAY: Final = frozenset({500, 502, 504})
_UNSENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_PATHS: Final = TypeAdapter(list[str])


class Full(Exception):
    """There is no room in the queue for now."""


class Lost(Exception):
    """The call may have been carried out."""


@dataclass(frozen=True, slots=True)
class Told:
    """How a call stands, in a few words; `done` of `total` steps, if the app counts them."""

    message: str
    done: int | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Gave:
    """The function returned."""

    values: list[Any]


@dataclass(frozen=True, slots=True)
class Failed:
    """The function raised; the app may keep to itself what."""

    message: str | None


class _Unit(Said):
    index: float | None = None
    length: float | None = None
    progress: float | None = None
    desc: str | None = None


class _Output(Said):
    data: list[Any] | None = None
    error: str | None = None
    title: str | None = None


class _Message(Said):
    msg: str
    rank: int | None = None
    rank_eta: float | None = None
    queue_size: int | None = None
    progress_data: list[_Unit] | None = None
    log: str | None = None
    output: _Output | None = None
    success: bool | None = None
    message: str | None = None


class _Joined(Said):
    event_id: str


class _Refusal(Said):
    detail: Any = None


class Call:
    """A call of one endpoint, in a session of its own."""

    def __init__(self, session: httpx2.AsyncClient, prefix: str, endpoint: Endpoint) -> None:
        self._http = session
        self._prefix = prefix
        self._endpoint = endpoint
        self._session = uuid4().hex
        self._event = ""

    async def upload(self, name: str, content: bytes) -> str:
        """Hand a file over, and return what the app calls it.

        Raises:
            Shut: it was not taken.
        """
        with as_shut():
            answer = await self._http.post(
                f"{self._prefix}/upload", files={"files": (name, content)}
            )
        expect_ok(answer.status_code)
        try:
            return _PATHS.validate_json(answer.content)[0]
        except (ValidationError, IndexError):
            raise Shut("it took a file, and did not say where to", _OK) from None

    async def join(self, values: list[Any]) -> Failed | None:
        """Take a place in the queue, once; say so if the app turns the arguments away.

        Raises:
            Shut, Full: the call was not taken.
            Lost: it may have been.
        """
        body = {
            "data": values,
            "fn_index": self._endpoint.number,
            "session_hash": self._session,
        }
        try:
            answer = await self._http.post(f"{self._prefix}/queue/join", json=body)
        except _UNSENT as error:
            raise Shut(f"it does not answer: {type(error).__name__}") from None
        except httpx2.TransportError as error:
            raise Lost(type(error).__name__) from None
        if answer.status_code in _GATEWAY:
            raise Lost(f"it answered {answer.status_code}")
        if answer.status_code == _INVALID:
            return Failed(_detail(answer))
        if answer.status_code == _UNAVAILABLE and "queue" in _detail(answer).lower():
            raise Full(_detail(answer))
        expect_ok(answer.status_code)
        try:
            self._event = _Joined.model_validate_json(answer.content).event_id
        except ValidationError:
            raise Lost("it answered in a way that cannot be read") from None
        return None

    async def follow(self) -> AsyncGenerator[Told | Gave | Failed]:
        """Yield how it stands, until it is over.

        Raises:
            Lost: the stream broke off before that.
        """
        timeout = httpx2.Timeout(_SILENCE)
        asked = self._http.stream(
            "GET",
            f"{self._prefix}/queue/data",
            params={"session_hash": self._session},
            timeout=timeout,
        )
        partial = 0
        try:
            async with asked as response:
                if response.status_code != _OK:
                    raise Lost(f"it answered {response.status_code}")
                async with aclosing(_messages(response)) as messages:
                    async for message in messages:
                        partial += message.msg == "process_generating"
                        if (told := _read(message, partial)) is not None:
                            yield told
                            if not isinstance(told, Told):
                                return
        except httpx2.TransportError as error:
            raise Lost(type(error).__name__) from None
        raise Lost("it broke off")

    async def cancel(self) -> None:
        """Ask the app to stop; what it has begun and cannot interrupt goes on unheard."""
        body = {
            "session_hash": self._session,
            "fn_index": self._endpoint.number,
            "event_id": self._event,
        }
        with as_shut():
            await self._http.post(f"{self._prefix}/cancel", json=body)

    async def download(self, path: str, *, most: int) -> bytes:
        """Read a file that the app has made.

        Raises:
            Shut: it cannot be had.
        """
        if ".." in path.split("/"):
            raise Shut("it is said to be where no file of the app is", _OK)
        return await fetch(self._http, f"{self._prefix}/file={quote(path)}", most=most)


async def _messages(response: httpx2.Response) -> AsyncGenerator[_Message]:
    rest = bytearray()
    async for received in response.aiter_bytes():
        *ended, begun = received.split(b"\n")
        for line in ended:
            rest += line
            if (message := _message(bytes(rest))) is not None:
                yield message
            rest.clear()
        rest += begun
        if len(rest) > _LARGEST:
            raise Lost(f"it answers with more than {_LARGEST:,} bytes at once")


def _message(line: bytes) -> _Message | None:
    if not line.startswith(_EVENT):
        return None
    try:
        return _Message.model_validate_json(line.removeprefix(_EVENT))
    except ValidationError:
        return None  # of a kind that is not known here


def _read(message: _Message, partial: int) -> Told | Gave | Failed | None:  # noqa: PLR0911  # one for each kind
    match message.msg:
        case "estimation" if message.rank is not None:
            return Told(_place(message.rank, message.queue_size, message.rank_eta))
        case "process_starts":
            return Told("Running")
        case "process_generating":
            return Told(f"Running, {partial} partial result{'s' if partial > 1 else ''} so far")
        case "progress" if message.progress_data:
            return _progress(message.progress_data[-1])
        case "log" if message.log:
            return Told(message.log)
        case "process_completed":
            return _ending(message)
        case "unexpected_error":
            raise Lost(storable(message.message or "it stopped unexpectedly"))
        case _:
            return None


def _place(rank: int, size: int | None, eta: float | None) -> str:
    of = f" of {size}" if size else ""
    when = f", about {max(1, round(eta))} s" if eta else ""
    return f"Waiting in the Space's queue: number {rank + 1}{of}{when}"


def _progress(unit: _Unit) -> Told:
    said = unit.desc or "Running"
    if unit.index is not None:
        return Told(said, int(unit.index), None if unit.length is None else int(unit.length))
    if unit.progress is not None:
        return Told(said, round(unit.progress * 100), 100)
    return Told(said)


def _ending(message: _Message) -> Gave | Failed:
    output = message.output or _Output()
    if message.success is False or output.data is None:
        said = [each for each in (output.title, output.error) if each and each != "Error"]
        return Failed(storable(": ".join(said)) or None)
    return Gave(storable(output.data))


def _detail(answer: httpx2.Response) -> str:
    try:
        detail = _Refusal.model_validate_json(answer.content[:_ANSWER]).detail
    except ValidationError:
        return ""
    return storable(detail if isinstance(detail, str) else json.dumps(detail))
