"""Pages of a job's log that fit what the caller has room for, whatever the job printed."""

import json
from dataclasses import dataclass
from typing import Final

from schema.artifacts import log_store
from schema.artifacts.log_store import MAX_LINE_BYTES, LogExtent, NumberedLine
from schema.common.text import format_count, truncate
from schema.db.database import Transaction
from schema.jobs.queries import JobStatus
from service.auth.caller import Caller
from service.jobs import operations
from service.views import job_summary
from service.views.jobs import LogLine, LogView

MAX_PAGE_BYTES: Final = 38_000
"""The most that a page takes as text, and as an object; a reply has both."""
_REPLY_OVERHEAD_BYTES: Final = 700
"""Bytes of a reply around its lines."""
_MIN_LINE_BYTES: Final = 26
"""Bytes that any line takes in the object."""
_CUT_MARK: Final = " … [cut: ask for more max_bytes] … "
_LARGEST_PAGE_MARK: Final = " … [cut: longer than a page can be] … "


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which part of a log to read."""

    cursor: int
    tail: int | None
    grep: str | None
    limit: int
    max_bytes: int
    """What the caller has room for; a page is never larger than `MAX_PAGE_BYTES`."""

    @property
    def page_bytes(self) -> int:
        """What the page may take, as text and as an object."""
        return min(self.max_bytes, MAX_PAGE_BYTES)

    @property
    def cut_mark(self) -> str:
        """What stands in a line that is longer than the page."""
        return _CUT_MARK if self.max_bytes < MAX_PAGE_BYTES else _LARGEST_PAGE_MARK


async def read_log_page(
    tx: Transaction, status: JobStatus, query: LogQuery
) -> tuple[LogView, str, str]:
    """Show a page of a job's log: as an object, as a sentence, and as text."""
    extent = await log_store.read_log_extent(tx, status.subject_id, status.id)
    lines, upto = await _read_lines(tx, status, extent, query)
    numbered = query.grep is not None
    if query.tail is not None:
        fitting = _take_fitting_lines(lines[::-1], query)[::-1]
    else:
        fitting = _take_fitting_lines(lines, query)
        if len(fitting) < len(lines):
            upto = fitting[-1].number + 1
    view = LogView.from_lines(
        status,
        fitting,
        start=query.cursor if query.tail is None else None,
        next_line=upto,
        grep=query.grep,
        extent=extent,
    )
    text = "\n".join(_format_numbered(line) if numbered else line.text for line in fitting)
    return view, _describe_page(fitting, extent, numbered=numbered), text


async def _read_lines(
    tx: Transaction, status: JobStatus, extent: LogExtent, query: LogQuery
) -> tuple[list[NumberedLine], int]:
    """Return lines, and the number of the first line after them that was not looked at."""
    log_key, limit = (status.subject_id, status.id), query.limit
    start, size = min(query.cursor, extent.length), query.page_bytes
    if query.grep is not None:
        lines, upto = await log_store.search_lines(
            tx, *log_key, text=query.grep, start=start, limit=limit
        )
        return lines, lines[-1].number + 1 if len(lines) == limit else upto
    if query.tail is not None:
        limit = min(query.tail, query.page_bytes // _MIN_LINE_BYTES)
        start, size = max(0, extent.length - limit), limit * MAX_LINE_BYTES
    lines = await log_store.read_lines(tx, *log_key, start=start, limit=limit, max_bytes=size)
    return lines, lines[-1].number + 1 if lines else start


def _take_fitting_lines(lines: list[NumberedLine], query: LogQuery) -> list[NumberedLine]:
    """Return the first lines that fit; a first line that is too long is cut, so reading goes on."""
    room_bytes, numbered = query.page_bytes - _REPLY_OVERHEAD_BYTES, query.grep is not None
    fitting: list[NumberedLine] = []
    for line in lines:
        size = _count_bytes(line, numbered=numbered)
        if size > room_bytes:
            break
        room_bytes -= size
        fitting.append(line)
    if lines and not fitting:
        fitting = [_cut_line(lines[0], room_bytes, query.cut_mark, numbered=numbered)]
    return fitting


def _cut_line(line: NumberedLine, room_bytes: int, mark: str, *, numbered: bool) -> NumberedLine:
    """Cut a line to the longest beginning and end that fit, found by bisection."""

    def cut(max_chars: int) -> NumberedLine:
        return NumberedLine(line.number, truncate(line.text, max_chars, keeps_end=True, mark=mark))

    shortest, longest = len(mark), len(line.text) - 1
    while shortest < longest:
        length = (shortest + longest + 1) // 2
        if _count_bytes(cut(length), numbered=numbered) <= room_bytes:
            shortest = length
        else:
            longest = length - 1
    return cut(shortest)


def _count_bytes(line: NumberedLine, *, numbered: bool) -> int:
    """Return how many bytes a line takes, as text or in the object, whichever is more."""
    json_line = json.dumps({"number": line.number, "text": line.text}, ensure_ascii=False)
    text_line = _format_numbered(line) if numbered else line.text
    return 1 + max(len(text_line.encode()), len(json_line.encode()))


def _format_numbered(line: NumberedLine) -> str:
    return f"{line.number}: {line.text}"


def _describe_page(lines: list[NumberedLine], extent: LogExtent, *, numbered: bool) -> str:
    subject = "No lines"
    if lines and numbered:
        subject = format_count(len(lines), "matching line")
    elif lines:
        subject = _format_range(lines[0].number, lines[-1].number)
    first, dropped = extent.head_lines, extent.dropped_lines
    verb = "was" if dropped == 1 else "were"
    gap = f" {_format_range(first, first + dropped - 1)} {verb} not kept." if dropped else ""
    return f"{subject} of {extent.length}.{gap}"


def _format_range(first: int, last: int) -> str:
    return f"Line {first}" if first == last else f"Lines {first} to {last}"


@dataclass(frozen=True, slots=True)
class LogEnd:
    """The end of a job's log."""

    status: JobStatus
    lines: list[LogLine]
    total_lines: int
    """Lines kept so far; `lines` are the last of them."""

    @property
    def text(self) -> str:
        """The lines as they were printed."""
        return "\n".join(line.text for line in self.lines)

    @property
    def omitted_lines(self) -> int:
        """How many lines come before these."""
        return self.total_lines - len(self.lines)

    @property
    def logs_call(self) -> str:
        """The call that reads the log from its first line."""
        return f'job_logs(job_id="{job_summary.job_handle(self.status)}")'


async def read_log_end(
    tx: Transaction, caller: Caller, handle: str, *, max_lines: int, max_bytes: int
) -> LogEnd:
    """Return the last lines of a job's log that fit; at least one, cut if need be.

    Raises:
        NotFound: the caller has no such job.
    """
    status = await operations.find_job(tx, caller, handle)
    query = LogQuery(cursor=0, tail=max_lines, grep=None, limit=max_lines, max_bytes=max_bytes)
    view, _, _ = await read_log_page(tx, status, query)
    return LogEnd(status, view.lines, view.length)
