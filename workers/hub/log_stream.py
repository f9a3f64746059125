"""The Hub's stream of a log, read without ever holding more than a line of it, if that is long.

It is a stream of server-sent events with a line of the log in each. A line that is too long is cut
while it is read: what is left of it may be larger than this machine's memory.
"""

import json
import re
from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel, TypeAdapter, ValidationError

from schema.db.storable import to_storable

_EVENT_PREFIX: Final = b"data: {"
_HUB_MARKER_PATTERN: Final = re.compile(r"===== Job (started at |finished: )")
"""Lines that the Hub itself writes around those of the command."""
_MAX_CHAR_BYTES: Final = 12
"""Bytes that a character may take in JSON: two escapes."""
_EVENT_OVERHEAD_BYTES: Final = 256
"""Bytes of an event around the line in it."""
_DATA_FIELD_PATTERN: Final = re.compile(rb'"data"\s*:\s*"')


class _Event(BaseModel):
    data: str = ""


_EVENT_ADAPTER: Final = TypeAdapter(_Event)


class LogStreamParser:
    """Takes the bytes of a stream as they come, and gives the lines that are whole."""

    def __init__(self, max_line_chars: int) -> None:
        """Read lines of up to so many characters; of longer ones, the beginning."""
        self._max_event_bytes = max_line_chars * _MAX_CHAR_BYTES + _EVENT_OVERHEAD_BYTES
        self._max_line_chars = max_line_chars
        self._buffer = b""
        self._is_truncated = False

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that these bytes complete."""
        first, *more = data.split(b"\n")
        self._extend(first)
        lines: list[str] = []
        for part in more:
            lines.extend(self._parse_line())
            self._buffer, self._is_truncated = b"", False
            self._extend(part)
        return lines

    def _extend(self, part: bytes) -> None:
        if self._is_truncated:
            return
        self._buffer = self._buffer + part if self._buffer else part
        if len(self._buffer) > self._max_event_bytes:
            self._buffer, self._is_truncated = self._buffer[: self._max_event_bytes], True

    def _parse_line(self) -> Iterator[str]:
        if not self._buffer.startswith(_EVENT_PREFIX):
            return
        written = self._buffer.removeprefix(b"data: ").removesuffix(b"\r")
        try:
            text = (
                _parse_truncated_event(written)
                if self._is_truncated
                else _EVENT_ADAPTER.validate_json(written).data
            )
        except ValidationError:
            # One that cannot be read stands as it was written.
            text = written.decode(errors="replace")
        if not _HUB_MARKER_PATTERN.match(text):
            yield to_storable(text[: self._max_line_chars])


def _parse_truncated_event(event: bytes) -> str:
    """Return what can be read of the line in an event whose end is not there."""
    opened = _DATA_FIELD_PATTERN.search(event)
    if opened is None:
        return event.decode(errors="replace")
    text = event[opened.end() :].decode(errors="ignore")
    for missing in range(_MAX_CHAR_BYTES):
        try:
            return str(json.loads(f'"{text[: len(text) - missing]}"', strict=False))
        except ValueError:
            continue
    return text
