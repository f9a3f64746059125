"""Parser of the Hub's log stream, which holds no more than one line of bounded length.

The stream consists of server-sent events with one line of the log each. Of a line that is too long
only the beginning and the end are held while it is read: the whole may be larger than the memory of
this machine.
"""

import json
import re
from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel, TypeAdapter, ValidationError

from schema.db.storable import to_storable

_EVENT_PREFIX: Final = b"data: {"
_HUB_MARKER_PATTERN: Final = re.compile(r"===== Job (started at |finished: )")
"""Lines that the Hub itself writes before and after those of the command."""
_MAX_CHAR_BYTES: Final = 12
"""The bytes of one character in JSON, at most: two escapes."""
_EVENT_OVERHEAD_BYTES: Final = 256
"""The bytes of an event besides its line."""
_DATA_FIELD_PATTERN: Final = re.compile(rb'"data"\s*:\s*"')
GAP: Final = "\0"
"""Stands in a line in the place of what was not read; the Hub's own NULs are replaced."""


class _Event(BaseModel):
    data: str = ""


_EVENT_ADAPTER: Final = TypeAdapter(_Event)


class LogStreamParser:
    """Turns chunks of a stream into complete lines."""

    def __init__(self, max_line_chars: int) -> None:
        """Start with an empty buffer.

        Args:
            max_line_chars: A line up to this length is always read whole. Of a longer line at
                least half as many characters are read at its beginning, and as many at its end.
        """
        self._max_event_bytes = max_line_chars * _MAX_CHAR_BYTES + 2 * _EVENT_OVERHEAD_BYTES
        self._buffer = bytearray()
        self._beginning: bytearray | None = None
        """The beginning of the event, once it is too long; then the buffer is its end."""

    def feed(self, chunk: bytes) -> list[str]:
        """Return the lines that this chunk completes."""
        first, *others = chunk.split(b"\n")
        self._extend(first)
        lines: list[str] = []
        for part in others:
            lines.extend(self._parse_line())
            self._buffer, self._beginning = bytearray(), None
            self._extend(part)
        return lines

    def _extend(self, part: bytes) -> None:
        self._buffer += part
        if len(self._buffer) > self._max_event_bytes:
            half = self._max_event_bytes // 2
            if self._beginning is None:
                self._beginning = self._buffer[:half]
            del self._buffer[:-half]

    def _parse_line(self) -> Iterator[str]:
        if self._beginning is not None:
            if self._beginning.startswith(_EVENT_PREFIX):
                parts = _parse_beginning(self._beginning), _parse_end(self._buffer)
                yield GAP.join(map(to_storable, parts))
            return
        if not self._buffer.startswith(_EVENT_PREFIX):
            return
        event = self._buffer.removeprefix(b"data: ").removesuffix(b"\r")
        try:
            text = _EVENT_ADAPTER.validate_json(event).data
        except ValidationError:
            # An unreadable event is kept as it was sent.
            text = event.decode(errors="replace")
        if not _HUB_MARKER_PATTERN.match(text):
            yield to_storable(text)


def _parse_beginning(event: bytearray) -> str:
    """Return what can be read of the line in an event without its end."""
    opening = _DATA_FIELD_PATTERN.search(event)
    if opening is None:
        return event.decode(errors="replace")
    text = event[opening.end() :].decode(errors="ignore")
    for missing in range(_MAX_CHAR_BYTES):
        try:
            return str(json.loads(f'"{text[: len(text) - missing]}"', strict=False))
        except ValueError:
            continue
    return text


def _parse_end(event: bytearray) -> str:
    """Return what can be read of the line in an event without its beginning."""
    text = event.decode(errors="ignore")
    for missing in range(_MAX_CHAR_BYTES):
        # The first characters may be the rest of an escape.
        try:
            return _EVENT_ADAPTER.validate_json(f'{{"data":"{text[missing:]}').data
        except ValidationError:
            continue
    return ""
