"""Standard input and output as lines, each read or written by a thread of its own.

A read of a pipe cannot be interrupted, and a write may wait for the client for ever. The threads
are daemons, so neither holds up the end of the process. Whatever else writes to standard output is
on standard error instead: a single other line there would break the protocol.
"""

import os
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager, suppress
from threading import Thread
from typing import Final

import anyio
from anyio import from_thread
from anyio.lowlevel import EventLoopToken, current_token
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

MAX_LINE_BYTES: Final = 16 * 1024 * 1024
"""More than any message that the service takes; of a longer line nothing is kept."""
_CHUNK_BYTES: Final = 64 * 1024

_ENDINGS: Final = (
    *(anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream),
    *(anyio.RunFinishedError, CancelledError, OSError),
)
"""What the loop, its streams and the pipes say to a thread when they have ended."""

ClientLine = bytes | None
"""A line without its end; None stands for one that was too long."""


class LineSplitter:
    """Cuts what was read into lines; of a line that is too long it says only that."""

    def __init__(self, max_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._length = 0

    def feed(self, chunk: bytes) -> list[ClientLine]:
        """Return the lines that `chunk` completes."""
        *ends, rest = chunk.split(b"\n")
        lines: list[ClientLine] = []
        for end in ends:
            self._append(end)
            lines.append(None if self._length > self._max_bytes else b"".join(self._parts))
            self._parts, self._length = [], 0
        self._append(rest)
        return lines

    def _append(self, part: bytes) -> None:
        self._length += len(part)
        if self._length > self._max_bytes:
            self._parts = []
        elif part:
            self._parts.append(part)


def claim_standard_streams() -> tuple[int, int]:
    """Take standard input and output for the protocol alone.

    Returns:
        New descriptors of the two. The old ones read nothing, and write to standard error.
    """
    source, sink = os.dup(0), os.dup(1)
    for descriptor in (source, sink):
        os.set_blocking(descriptor, True)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # there is no standard error
        os.dup2(nothing, 1)
    os.close(nothing)
    return source, sink


@asynccontextmanager
async def open_lines(
    source: int, sink: int
) -> AsyncGenerator[tuple[MemoryObjectReceiveStream[ClientLine], MemoryObjectSendStream[bytes]]]:
    """Yield the lines of the client, and what takes lines for it.

    The lines end with the input, or when nobody reads the output any more.
    """
    feed, lines = anyio.create_memory_object_stream[ClientLine](0)
    answers, outgoing = anyio.create_memory_object_stream[bytes](0)
    token = current_token()
    _start_thread(lambda: _read_lines(source, feed, token))
    _start_thread(lambda: _write_lines(sink, outgoing, feed, token))
    with feed, lines, answers, outgoing:
        yield lines, answers


def _start_thread(run: Callable[[], None]) -> None:
    def run_until_the_loop_ends() -> None:
        # The loop may end, or close its streams, between any two steps.
        with suppress(*_ENDINGS):
            run()

    Thread(target=run_until_the_loop_ends, daemon=True).start()


def _read_lines(
    source: int, feed: MemoryObjectSendStream[ClientLine], token: EventLoopToken
) -> None:
    splitter = LineSplitter()
    try:
        while chunk := os.read(source, _CHUNK_BYTES):
            for line in splitter.feed(chunk):
                from_thread.run(feed.send, line, token=token)
    finally:
        from_thread.run_sync(feed.close, token=token)


def _write_lines(
    sink: int,
    outgoing: MemoryObjectReceiveStream[bytes],
    feed: MemoryObjectSendStream[ClientLine],
    token: EventLoopToken,
) -> None:
    try:
        while True:
            rest = memoryview(from_thread.run(outgoing.receive, token=token))
            while rest:
                rest = rest[os.write(sink, rest) :]
    finally:
        from_thread.run_sync(feed.close, token=token)
