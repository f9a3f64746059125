"""The Hub's stream of a log, read without ever holding more than a line of it, if that is long.

It is a stream of server-sent events with a line of the log in each. A line that is too long is cut
while it is read: what is left of it may be larger than this machine's memory.
"""

import json
import re
from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel, TypeAdapter, ValidationError

from schema.db.storable import storable

_EVENT: Final = b"data: {"
_MARKER: Final = re.compile(r"===== Job (started at |finished: )")
"""Lines that the Hub itself writes around those of the command."""
_WIDEST: Final = 12
"""Bytes that a character may take in JSON: two escapes."""
_FRAME: Final = 256
"""Bytes of an event around the line in it."""
_DATA: Final = re.compile(rb'"data"\s*:\s*"')


class _Event(BaseModel):
    data: str = ""


_READ: Final = TypeAdapter(_Event)


class LogStream:
    """Takes the bytes of a stream as they come, and gives the lines that are whole."""

    def __init__(self, longest: int) -> None:
        """Read lines of up to so many characters; of longer ones, the beginning."""
        self._most = longest * _WIDEST + _FRAME
        self._longest = longest
        self._rest = b""
        self._cut = False

    def feed(self, received: bytes) -> list[str]:
        """Return the lines that these bytes complete."""
        first, *more = received.split(b"\n")
        self._extend(first)
        lines: list[str] = []
        for part in more:
            lines.extend(self._line())
            self._rest, self._cut = b"", False
            self._extend(part)
        return lines

    def _extend(self, part: bytes) -> None:
        if self._cut:
            return
        self._rest = self._rest + part if self._rest else part
        if len(self._rest) > self._most:
            self._rest, self._cut = self._rest[: self._most], True

    def _line(self) -> Iterator[str]:
        if not self._rest.startswith(_EVENT):
            return
        written = self._rest.removeprefix(b"data: ").removesuffix(b"\r")
        try:
            text = _beginning(written) if self._cut else _READ.validate_json(written).data
        except ValidationError:
            # One that cannot be read stands as it was written.
            text = written.decode(errors="replace")
        if not _MARKER.match(text):
            yield storable(text[: self._longest])


def _beginning(written: bytes) -> str:
    """Return what can be read of the line in an event whose end is not there."""
    opened = _DATA.search(written)
    if opened is None:
        return written.decode(errors="replace")
    text = written[opened.end() :].decode(errors="ignore")
    for missing in range(_WIDEST):
        try:
            return str(json.loads(f'"{text[: len(text) - missing]}"', strict=False))
        except ValueError:
            continue
    return text
