"""How is a log read? In pages that fit what the caller has room for, whatever a job has printed."""

import json
from dataclasses import dataclass
from typing import Final

from schema.artifacts import log_store
from schema.artifacts.log_store import LARGEST_LINE, Extent, Line
from schema.db.database import Transaction
from schema.jobs.queries import JobStatus
from service.auth.caller import Caller
from service.jobs import operations
from service.views.jobs import LogLine, LogView

_FRAME: Final = 700
"""Bytes of a reply around its lines."""
_SHORTEST: Final = 26
"""Bytes that any line takes in the object."""
_CUT: Final = " … [cut: ask for more max_bytes]"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be read of a log."""

    cursor: int
    tail: int | None
    grep: str | None
    limit: int
    max_bytes: int


async def page(tx: Transaction, status: JobStatus, wanted: Wanted) -> tuple[LogView, str, str]:
    """Show a page of a job's log: as an object, as a sentence, and as text."""
    extent = await log_store.extent(tx, status.subject_id, status.id)
    lines, upto = await _lines(tx, status, extent, wanted)
    room, numbered = wanted.max_bytes - _FRAME, wanted.grep is not None
    if wanted.tail is not None:
        fitting = _fitting(lines[::-1], room, numbered=numbered)[::-1]
    else:
        fitting = _fitting(lines, room, numbered=numbered)
        if len(fitting) < len(lines):
            upto = fitting[-1].number + 1
    view = LogView.of(status, fitting, upto=upto, extent=extent)
    text = "\n".join(_numbered(line) if numbered else line.text for line in fitting)
    return view, _sentence(fitting, extent, numbered=numbered), text


async def _lines(
    tx: Transaction, status: JobStatus, extent: Extent, wanted: Wanted
) -> tuple[list[Line], int]:
    """Return lines, and the number of the first one after them that was not looked at."""
    whose, limit = (status.subject_id, status.id), wanted.limit
    start, size = min(wanted.cursor, extent.length), wanted.max_bytes
    if wanted.grep is not None:
        lines, upto = await log_store.search(tx, *whose, text=wanted.grep, start=start, limit=limit)
        return lines, lines[-1].number + 1 if len(lines) == limit else upto
    if wanted.tail is not None:
        limit = min(wanted.tail, wanted.max_bytes // _SHORTEST)
        start, size = max(0, extent.length - limit), limit * LARGEST_LINE
    lines = await log_store.read(tx, *whose, start=start, limit=limit, size=size)
    return lines, lines[-1].number + 1 if lines else start


def _fitting(lines: list[Line], room: int, *, numbered: bool) -> list[Line]:
    """Return the first lines that fit; one that alone does not is cut, so that reading goes on."""
    fitting: list[Line] = []
    for line in lines:
        room -= _size(line, numbered=numbered)
        if room < 0:
            break
        fitting.append(line)
    if lines and not fitting:
        fitting = [_cut(lines[0], room + _size(lines[0], numbered=numbered), numbered=numbered)]
    return fitting


def _cut(line: Line, room: int, *, numbered: bool) -> Line:
    """Shorten a line to what fits: half of what may remain of it, each time, is tried."""
    least, most = 0, len(line.text)
    while least < most:
        length = (least + most + 1) // 2
        if _size(Line(line.number, line.text[:length] + _CUT), numbered=numbered) <= room:
            least = length
        else:
            most = length - 1
    return Line(line.number, line.text[:least] + _CUT)


def _size(line: Line, *, numbered: bool) -> int:
    """Say how many bytes a line takes, as text or in the object, whichever is more."""
    written = {"number": line.number, "text": line.text}
    shown = _numbered(line) if numbered else line.text
    return 1 + max(len(shown.encode()), len(json.dumps(written, ensure_ascii=False).encode()))


def _numbered(line: Line) -> str:
    return f"{line.number}: {line.text}"


def _sentence(lines: list[Line], extent: Extent, *, numbered: bool) -> str:
    what = "No lines"
    if lines and numbered:
        what = f"{len(lines)} matching line{'s' if len(lines) > 1 else ''}"
    elif lines:
        what = f"Lines {lines[0].number} to {lines[-1].number}"
    first, dropped = extent.head_lines, extent.not_kept
    gap = f" Lines {first} to {first + dropped - 1} were not kept." if dropped else ""
    return f"{what} of {extent.length}.{gap}"


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a job's log."""

    status: JobStatus
    lines: list[LogLine]
    length: int
    """Lines kept so far; those shown are the last of them."""

    @property
    def text(self) -> str:
        """The lines as they were printed."""
        return "\n".join(line.text for line in self.lines)

    @property
    def before(self) -> int:
        """How many lines come before those shown."""
        return self.length - len(self.lines)


async def ending(
    tx: Transaction, caller: Caller, handle: str, *, lines: int, max_bytes: int
) -> Ending:
    """Return the last lines of a job's log that fit; at least one, cut if need be.

    Raises:
        NotFound: the caller has no such job.
    """
    status = await operations.find(tx, caller, handle)
    wanted = Wanted(cursor=0, tail=lines, grep=None, limit=lines, max_bytes=max_bytes)
    view, _, _ = await page(tx, status, wanted)
    return Ending(status, view.lines, view.length)
