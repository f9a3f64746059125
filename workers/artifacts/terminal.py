"""The last state of a line that a program has written over, as a terminal shows it.

A progress bar goes back to the start of its line with a carriage return, backspaces or an escape
sequence, and writes the next state over the last one. All states are one line of the log, and only
the last one says how far the program came. What the program prints after it is on the same line.
"""

import re
from collections.abc import Iterator
from typing import Final

_REWRITE_PATTERN: Final = re.compile(r"[\r\b]|\x1b\[\d*[GD]")
"""What goes back in a line."""
_TOKEN_PATTERN: Final = re.compile(
    r"(?P<sequence>\x1b\[(?P<count>[0-?]*)[ -/]*(?P<command>[@-~]))|[\r\b]|[^\r\b\x1b]+|\x1b"
)
_MAX_COLUMN: Final = 4096
"""No terminal is wider; a cursor that is sent further stays here."""


def last_state(line: str) -> str:
    """Return what a terminal of any width shows of a line after its last character."""
    if _REWRITE_PATTERN.search(line) is None:
        return line
    row = _Row()
    for token in _TOKEN_PATTERN.finditer(line):
        if token["sequence"] is None:
            row.write(token[0])
        else:
            row.control(token["command"], token["count"], token[0])
    return row.text


class _Row:
    """A row of a terminal, one character in each cell, with the colours that start there."""

    def __init__(self) -> None:
        self._cells: list[str] = []
        self._column = 0
        self._colours = ""
        """Sequences without a width, until a character follows."""

    @property
    def text(self) -> str:
        """What stands in the row."""
        return "".join(self._cells).rstrip(" ") + self._colours

    def write(self, text: str) -> None:
        """Write characters over those that stand there, or go back."""
        if text == "\r":
            self._column = 0
        elif text == "\b":
            self._column = max(0, self._column - 1)
        else:
            if self._column > len(self._cells):
                self._cells += " " * (self._column - len(self._cells))
            end = self._column + len(text)
            self._cells[self._column : end] = self._take_characters(text)
            self._column = end

    def control(self, command: str, count: str, sequence: str) -> None:
        """Move the cursor, or erase; any other sequence goes before the next character."""
        number = int(count) if count.isascii() and count.isdigit() else 0
        match command:
            case "G":
                self._column = min(max(1, number) - 1, _MAX_COLUMN)
            case "C":
                self._column = max(self._column, min(self._column + max(1, number), _MAX_COLUMN))
            case "D":
                self._column = max(0, self._column - max(1, number))
            case "J" | "K":
                self._erase(number)
            case _:
                self._colours += sequence

    def _erase(self, part: int) -> None:
        """Erase from the cursor to the end (0), from the start to the cursor (1), or all (2)."""
        if part in (0, 2):
            del self._cells[self._column :]
        if part in (1, 2):
            end = min(self._column + 1, len(self._cells))
            self._cells[:end] = " " * end

    def _take_characters(self, text: str) -> Iterator[str]:
        colours, self._colours = self._colours, ""
        yield colours + text[:1]
        yield from text[1:]
