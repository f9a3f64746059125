"""The result of a finished job, as its kind of work has it: an answer, files, the end of a log.

It is an object for programs, and as words for models, as many hosts show a model nothing else. Both
fit a reply: a long answer is read on from an offset, and more files from a cursor.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from schema.artifacts import files
from schema.artifacts.files import JobFile
from schema.artifacts.log_store import NumberedLine
from schema.common.errors import Invalid
from schema.common.text import format_count, format_utc
from schema.db.database import Transaction
from schema.jobs.queries import JobStatus
from schema.jobs.tables import JobState, Reason
from schema.specs.inputs import media_types
from service.jobs import batches
from service.jobs.batches import ItemPage, ItemsView, ResultQuery
from service.runtime.sealed_tokens import DownloadLinks
from service.views import job_summary
from service.views.answers import describe_answer, shorten_json
from service.views.base import Detail, View
from service.views.diagnosis.diagnose import Diagnosis, diagnose
from service.views.files import FileView
from service.views.jobs import (
    LOG_TAIL_LINES,
    MAX_SUMMARY_BYTES,
    shorten_log_tail,
    show_evidence,
)
from service.views.text import count_json_bytes, fit_text, take_fitting_end, take_fitting_start

MAX_INLINE_FILE_BYTES: Final = 1024 * 1024
"""A larger picture or sound is only linked."""
_MAX_INLINE_BYTES: Final = 4 * 1024 * 1024
"""The size of all pictures and sounds of one reply."""
_MAX_ANSWER_BYTES: Final = 12_000
"""Bytes of an answer, once as words and once as an object."""
_MAX_LOG_BYTES: Final = 6000
"""The same, of the end of a log."""
_MAX_FACTS_BYTES: Final = 2000
"""Bytes of the short facts of an answer, on their line; of a batch, of its counts."""
_MAX_FILES_BYTES: Final = 8000
"""Bytes of files: as objects, in words, and as links."""


class ResultView(View):
    """What a finished job left behind: `result`, `log_tail` and `files`, by its kind."""

    job_id: str
    kind: Detail[str]
    state: JobState
    reason: Detail[Reason | None]
    summary: Detail[str]
    next_step: str
    evidence: Detail[list[str]]
    """What the cause of a failure was recognised by."""
    result: dict[str, Any] | None
    """What a call answered: `text` of a model, with finish_reason, model, provider, usage. What is
    too long is cut; then the whole is the first of the files, result.json."""
    next_offset: Detail[int | None]
    """Pass as offset for more of a long answer."""
    files: list[FileView]
    """What it left in files."""
    next_cursor: Detail[int | None]
    """Pass as cursor for more files."""
    exit_code: Detail[int | None]
    """A command's."""
    log_tail: list[str] | None
    """The last lines a command printed."""
    items: ItemsView | None
    """A batch's, by page, also while it runs; `result` counts them."""


@dataclass(frozen=True, slots=True)
class InlineFile:
    """A picture or a sound that is sent with a result."""

    media_type: str
    content: bytes

    @property
    def is_image(self) -> bool:
        """Whether it is a picture; else it is a sound."""
        return self.media_type in media_types.IMAGES


@dataclass(frozen=True, slots=True)
class CollectedResult:
    """A result: as an object, as words, and what is sent beside them."""

    view: ResultView
    text: str
    inline_files: list[InlineFile]


@dataclass(frozen=True, slots=True)
class StoredResult:
    """What is stored of the result of a job."""

    status: JobStatus
    result: dict[str, Any] | None
    files: list[JobFile]
    log_lines: list[NumberedLine] | None
    items: ItemPage | None


async def collect_result(
    tx: Transaction, stored: StoredResult, query: ResultQuery, links: DownloadLinks
) -> CollectedResult:
    """Show the part of a result that a query asks for, as far as it fits a reply.

    Raises:
        Invalid: the answer ends before the offset.
    """
    answer = _take_answer(stored, query)
    page, next_cursor = _take_file_page(stored, query, links)
    shown_files = [view for _, view in page]
    if not answer.is_whole and stored.result is not None:
        link = links.link_to_result(stored.status.subject_id, stored.status.id)
        shown_files.insert(0, FileView.from_result(link, count_json_bytes(stored.result)))
    view = _build_view(stored, answer, shown_files, next_cursor)
    texts = [
        _describe_end(stored.status),
        answer.text,
        "\n".join(view.log_tail or []),
        _describe_files(shown_files, stored),
    ]
    inline_files = await _read_inline_files(tx, [file for file, _ in page])
    return CollectedResult(view, "\n".join(filter(None, texts)), inline_files)


def show_link(status: JobStatus, file: FileView) -> ResultView:
    """Show a link to an export of a job in the place of its result."""
    return ResultView(
        job_id=job_summary.job_handle(status),
        kind=status.kind,
        state=status.state,
        reason=status.reason,
        summary=f"{file.name} can be downloaded at its url until {_format_expiry(file)}.",
        next_step="Hand url to the person, or download it.",
        evidence=[],
        result=None,
        next_offset=None,
        files=[file],
        next_cursor=None,
        exit_code=None,
        log_tail=None,
        items=None,
    )


def show_file_text(
    status: JobStatus, file: FileView, text: str, next_offset: int | None
) -> ResultView:
    """Show a part of a text file of a job in the place of its result."""
    handle = job_summary.job_handle(status)
    name = json.dumps(file.name, ensure_ascii=False)
    more = (
        f'Call job_result(job_id="{handle}", file={name}, offset={next_offset}) for what follows.'
    )
    link = show_link(status, file)
    return link.model_copy(
        update={
            "summary": f"{file.describe()} of {handle}:",
            "next_step": "This is the end of it." if next_offset is None else more,
            "result": {"text": text},
            "next_offset": next_offset,
        }
    )


def _format_expiry(file: FileView) -> str:
    return "" if file.expires_at is None else format_utc(file.expires_at)


def _describe_end(status: JobStatus) -> str:
    reason = "" if status.reason is None else f", reason {status.reason}"
    exit_code = "" if status.exit_code is None else f", exit_code {status.exit_code}"
    return f"state {status.state}{reason}{exit_code}"


@dataclass(frozen=True, slots=True)
class _AnswerPart:
    """A part of what a call answered."""

    text: str
    result: dict[str, Any] | None
    next_offset: int | None = None
    is_whole: bool = True
    """Whether the text and the object have all of the answer between them, page by page."""


def _take_answer(stored: StoredResult, query: ResultQuery) -> _AnswerPart:
    if stored.result is None:
        return _AnswerPart("" if stored.items is None else stored.items.text, None)
    answer = describe_answer(stored.result)
    facts = fit_text(answer.facts, _MAX_FACTS_BYTES)
    if stored.items is not None:
        body = fit_text(answer.body, _MAX_FACTS_BYTES)
        text = "\n".join(filter(None, [facts, body, stored.items.text]))
        return _AnswerPart(text, shorten_json(stored.result, _MAX_FACTS_BYTES))
    length, start = len(answer.body), query.offset
    if start and start >= length:
        raise Invalid(
            f"offset: the answer has {format_count(length, 'character')}; leave it out, or "
            "give less."
        )
    part = take_fitting_start(answer.body[start:], _MAX_ANSWER_BYTES)
    end = start + len(part)
    result = shorten_json(stored.result, _MAX_ANSWER_BYTES)
    is_cut = end < length
    range_line = f"Characters {start} to {end} of {length}:" if start or is_cut else ""
    return _AnswerPart(
        "\n".join(filter(None, [facts, range_line, part])),
        result,
        next_offset=end if is_cut else None,
        is_whole=answer.is_whole and facts == answer.facts and result is stored.result,
    )


def _take_file_page(
    stored: StoredResult, query: ResultQuery, links: DownloadLinks
) -> tuple[list[tuple[JobFile, FileView]], int | None]:
    """Return the files of a page with their views, and the cursor of those that follow."""
    start, chosen = query.cursor, stored.files
    if stored.items is not None:  # whose pages are of items
        named = stored.items.view.named_files
        start, chosen = 0, [file for file in chosen if file.name in named]
    page: list[tuple[JobFile, FileView]] = []
    room_bytes = _MAX_FILES_BYTES
    for file in chosen[start : start + query.limit]:
        view = FileView.from_file(file, links)
        room_bytes -= view.count_reply_bytes()
        if page and room_bytes < 0:
            break
        page.append((file, view))
    end = start + len(page)
    return page, end if stored.items is None and end < len(chosen) else None


def _describe_files(shown: list[FileView], stored: StoredResult) -> str:
    if not shown:
        return ""
    count = max(len(stored.files), len(shown))
    number = f"{len(shown)} of " if len(shown) < count else ""
    names = ", ".join(file.describe() for file in shown)
    return f"{number}{format_count(count, 'file')}: {names}."


async def _read_inline_files(tx: Transaction, page: list[JobFile]) -> list[InlineFile]:
    """Read the pictures and sounds that are stored here, as far as there is room for them."""
    inline: list[InlineFile] = []
    room_bytes = _MAX_INLINE_BYTES
    for file in page:
        media_type, size = file.media_type, file.size_bytes
        if (
            media_type is None
            or media_type not in media_types.IMAGES | media_types.AUDIO
            or file.uri is not None
            or not 0 < size <= min(MAX_INLINE_FILE_BYTES, room_bytes)
        ):
            continue
        content = await files.read_file_bytes(tx, file, start=0, length=size)
        if content is not None:
            room_bytes -= size
            inline.append(InlineFile(media_type, content))
    return inline


def _build_view(
    stored: StoredResult, answer: _AnswerPart, shown: list[FileView], next_cursor: int | None
) -> ResultView:
    status, log_lines = stored.status, stored.log_lines
    is_failure = status.state is JobState.FAILED
    diagnosis = diagnose(status, log_lines or []) if is_failure else None
    log_tail = None if log_lines is None else shorten_log_tail(log_lines)
    return ResultView(
        job_id=job_summary.job_handle(status),
        kind=status.kind,
        state=status.state,
        reason=status.reason,
        summary=fit_text(
            job_summary.summarize_job(status, diagnosis), MAX_SUMMARY_BYTES, keeps_end=True
        ),
        next_step=_next_step(stored, answer, diagnosis, next_cursor),
        evidence=show_evidence(diagnosis),
        result=answer.result,
        next_offset=answer.next_offset,
        files=shown,
        next_cursor=next_cursor,
        exit_code=status.exit_code,
        log_tail=None if log_tail is None else take_fitting_end(log_tail, _MAX_LOG_BYTES),
        items=None if stored.items is None else stored.items.view,
    )


def _next_step(
    stored: StoredResult,
    answer: _AnswerPart,
    diagnosis: Diagnosis | None,
    next_cursor: int | None,
) -> str:
    status, result = stored.status, stored.result
    handle = job_summary.job_handle(status)
    more_files = f'Call job_result(job_id="{handle}", cursor={next_cursor}) for more files.'
    steps: list[str | None] = []
    if answer.next_offset is not None:
        steps.append(
            f'Call job_result(job_id="{handle}", offset={answer.next_offset}) for what follows.'
        )
    if stored.items is not None:
        steps.append(batches.describe_next_call(status, stored.items, result))
    elif next_cursor is not None:
        if status.state is not JobState.SUCCEEDED and not steps:
            steps.append(_last_step(stored, diagnosis))
        steps.append(more_files)
    return " ".join(filter(None, steps)) or _last_step(stored, diagnosis)


def _last_step(stored: StoredResult, diagnosis: Diagnosis | None) -> str:
    """Name what is left to do once the result has been read."""
    status, result, log_lines = stored.status, stored.result, stored.log_lines
    if status.state is not JobState.SUCCEEDED:
        return job_summary.suggest_next_step(status, diagnosis)
    if log_lines and log_lines[-1].number >= LOG_TAIL_LINES:
        return f'Call job_logs(job_id="{job_summary.job_handle(status)}") for all that it printed.'
    if result is not None and result.get("finish_reason") == "length":
        return (
            "The answer was cut off at max_tokens; launch it again with more, if it is incomplete."
        )
    if result is not None and result.get("finish_reason") == "content_filter":
        return "A content filter cut the answer off; ask in other words, if it is incomplete."
    return "Nothing is left to do."
