"""Parser of the Hub's log stream, which holds no more than one line of bounded length.

The stream consists of server-sent events with one line of the log each. A line that is too long is
cut while it is read: the rest of it may be larger than the memory of this machine.
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


class _Event(BaseModel):
    data: str = ""


_EVENT_ADAPTER: Final = TypeAdapter(_Event)


class LogStreamParser:
    """Turns chunks of a stream into complete lines."""

    def __init__(self, max_line_chars: int) -> None:
        """Start with an empty buffer; only the beginning of a longer line is read."""
        self._max_event_bytes = max_line_chars * _MAX_CHAR_BYTES + _EVENT_OVERHEAD_BYTES
        self._max_line_chars = max_line_chars
        self._buffer = b""
        self._is_truncated = False

    def feed(self, chunk: bytes) -> list[str]:
        """Return the lines that this chunk completes."""
        first, *others = chunk.split(b"\n")
        self._extend(first)
        lines: list[str] = []
        for part in others:
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
        event = self._buffer.removeprefix(b"data: ").removesuffix(b"\r")
        try:
            text = (
                _parse_truncated_event(event)
                if self._is_truncated
                else _EVENT_ADAPTER.validate_json(event).data
            )
        except ValidationError:
            # An unreadable event is kept as it was sent.
            text = event.decode(errors="replace")
        if not _HUB_MARKER_PATTERN.match(text):
            yield to_storable(text[: self._max_line_chars])


def _parse_truncated_event(event: bytes) -> str:
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
