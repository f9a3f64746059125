"""Results to take along: all items of a batch as JSONL, a whole log as text, a whole job as a zip.

    items     one line for each item, in the order of the batch: custom_id, state, result or error
    log       every line that is stored of what a command printed
    archive   job.json, request.json, timeline.json, result.json, log.txt, items.jsonl, and files/

An export is read in pages, each in a transaction of its own, so memory does not grow with its size,
and a slow client holds no connection. What is deleted meanwhile ends it in the middle: its end is
missing on the wire, and no client takes a part for the whole. A job that has ended does not change
any more; of one that has not, the name of the file says that it is incomplete.
"""

import json
import re
import zipfile
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any, Final, cast

from schema.accounts import audit
from schema.artifacts import files, log_store
from schema.artifacts.files import JobFile
from schema.batches import queries as batch_queries
from schema.batches.queries import WholeItem
from schema.common.errors import Conflict, Invalid
from schema.common.text import format_count, format_utc
from schema.db.database import Transaction
from schema.jobs import queries as job_queries
from schema.jobs.queries import JobStatus
from schema.jobs.tables import JobKind
from service.auth.caller import Caller
from service.auth.client_info import CURRENT_CLIENT
from service.http.files.downloads import Chunks, Export, ExportIncomplete, read_file_chunks
from service.jobs import operations, results
from service.jobs.results import CollectedResult
from service.runtime.context import App
from service.runtime.sealed_tokens import ExportKind
from service.views import job_summary
from service.views.files import FileView

_ITEMS_PER_PAGE: Final = 200
_PAGE_BYTES: Final = 256 * 1024
"""Bytes of a page as they are stored; one item or one line may be larger."""
_LINES_PER_PAGE: Final = 2000
_UNSAFE_CHARS: Final = re.compile(r"[^A-Za-z0-9._ -]")
_MAX_ENTRY_CHARS: Final = 200
_EARLIEST_ZIP_YEAR: Final = 1980
_MEDIA_TYPES: Final[dict[ExportKind, str]] = {
    "items": "application/jsonl",
    "log": "text/plain",
    "archive": "application/zip",
}


def name_export(status: JobStatus, kind: ExportKind) -> str:
    """Return the name of an export as a file; it says so if the job has not ended."""
    suffix = {"items": "items.jsonl", "log": "log.txt", "archive": "record.zip"}[kind]
    partial = "" if status.finished_at is not None else "incomplete-"
    return f"{job_summary.job_handle(status)}-{partial}{suffix}"


async def open_export(app: App, tx: Transaction, status: JobStatus, kind: ExportKind) -> Export:
    """Prepare an export, whose chunks are read after this transaction."""
    name = name_export(status, kind)
    if kind == "items":
        counts = await batch_queries.count_subject_items(tx, status.subject_id, status.id)
        total = 0 if counts is None else counts.total
        return Export(name, _MEDIA_TYPES[kind], lambda: _write_items(app, status, total))
    if kind == "log":
        return Export(name, f"{_MEDIA_TYPES[kind]}; charset=utf-8", lambda: _write_log(app, status))
    return Export(name, _MEDIA_TYPES[kind], lambda: _write_archive(app, status))


async def link_export(
    tx: Transaction, app: App, caller: Caller, handle: str, kind: ExportKind
) -> CollectedResult:
    """Make a link to an export of a job.

    Raises:
        Invalid: the job has no such export.
        Conflict: a whole record is wanted of a job that has not finished.
        TooManyLinks: the caller has as many links as they may have.
    """
    status = await operations.find_job(tx, caller, handle)
    if kind == "items" and status.kind != JobKind.BATCH:
        raise Invalid("download: only a batch has items; archive has the whole record of this job.")
    if kind == "archive":
        operations.expect_finished(status)
    link = app.download_links.link_to_export(status.subject_id, status.id, kind)
    assert link.expires_at is not None  # noqa: S101  # of ours, every link expires
    left = await audit.record_link(
        tx,
        caller.subject_id,
        client=CURRENT_CLIENT.get(),
        handle=job_summary.job_handle(status),
        export=kind,
        expires_at=link.expires_at,
    )
    file = FileView.from_export(name_export(status, kind), _MEDIA_TYPES[kind], link)
    text = (
        f"{file.describe()}: {link.url}\nIt needs no sign-in until {format_utc(link.expires_at)}; "
        f"treat it like the file. You may have {format_count(left, 'more link')} at this time."
    )
    return CollectedResult(results.show_link(status, file), text, [])


def format_item(item: WholeItem) -> str:
    """Write one item as a line of JSONL, without the end of the line."""
    head = json.dumps({"custom_id": item.custom_id, "state": item.state}, ensure_ascii=False)
    parts = [head.removesuffix("}")]
    if item.result_json is not None:
        parts.append(f'"result": {item.result_json}')
    if item.reason is not None:
        error = {"reason": item.reason, "message": item.message}
        parts.append(f'"error": {json.dumps(error, ensure_ascii=False)}')
    return f"{', '.join(parts)}}}"


async def _write_items(app: App, status: JobStatus, total: int) -> Chunks:
    start, written = 0, 0
    while True:
        async with app.database.as_subject(status.subject_id) as (tx, _):
            page = await batch_queries.list_whole_items(
                tx,
                status.subject_id,
                status.id,
                start=start,
                limit=_ITEMS_PER_PAGE,
                max_bytes=_PAGE_BYTES,
            )
        if not page:
            break
        written += len(page)
        start = page[-1].position + 1
        yield "".join(f"{format_item(item)}\n" for item in page).encode()
    if written < total:
        raise ExportIncomplete


async def read_items_text(tx: Transaction, caller: Caller, handle: str, *, max_bytes: int) -> str:
    """Return all items of a batch as JSONL.

    Raises:
        Conflict: the job has no items; or they are larger than that, and how to take them along.
    """
    status = await operations.find_job(tx, caller, handle)
    if status.kind != JobKind.BATCH:
        raise Conflict(f"{handle} is no batch, so it has no items; job_result has its result.")
    lines: list[str] = []
    start, size = 0, 0
    while page := await batch_queries.list_whole_items(
        tx,
        status.subject_id,
        status.id,
        start=start,
        limit=_ITEMS_PER_PAGE,
        max_bytes=_PAGE_BYTES,
    ):
        lines += [format_item(item) for item in page]
        size += sum(len(line.encode()) + 1 for line in lines[-len(page) :])
        start = page[-1].position + 1
        if size > max_bytes:
            raise Conflict(
                f"The items of {handle} are more than {max_bytes:,} bytes. Call "
                f'job_result(job_id="{handle}", download="items") for a link to all of them.'
            )
    return "".join(f"{line}\n" for line in lines)


async def _write_log(app: App, status: JobStatus) -> Chunks:
    async with app.database.as_subject(status.subject_id) as (tx, _):
        extent = await log_store.read_log_extent(tx, status.subject_id, status.id)
    start = 0
    while start < extent.length:
        async with app.database.as_subject(status.subject_id) as (tx, _):
            lines = await log_store.read_lines(
                tx,
                status.subject_id,
                status.id,
                start=start,
                limit=_LINES_PER_PAGE,
                max_bytes=_PAGE_BYTES,
            )
        if not lines:
            raise ExportIncomplete
        texts: list[str] = []
        for line in lines:
            if line.number > start:
                texts.append(f"[{line.number - start} lines were not stored]")
            texts.append(line.text)
            start = line.number + 1
        yield "".join(f"{text}\n" for text in texts).encode()


@dataclass(slots=True)
class _Spool:
    """The bytes of a zip file that have not been sent yet; it cannot be sought in."""

    parts: list[bytes]

    def write(self, content: bytes) -> int:
        """Take bytes from the library."""
        self.parts.append(bytes(content))
        return len(content)

    def flush(self) -> None:
        """Do nothing: `take` sends them."""

    def take(self) -> bytes:
        """Return what has been written since the last time."""
        content = b"".join(self.parts)
        self.parts.clear()
        return content


async def _write_archive(app: App, status: JobStatus) -> Chunks:
    async with app.database.as_subject(status.subject_id) as (tx, _):
        [view] = await operations.build_job_views(tx, app, [status])
        timeline = await job_queries.list_job_events(tx, status.subject_id, status.id)
        result = await job_queries.get_job_result(tx, status.subject_id, status.id)
        counts = await batch_queries.count_subject_items(tx, status.subject_id, status.id)
        job_files = await files.list_job_files(tx, status.subject_id, status.id)
    entry_names = name_entries(job_files)
    texts = {
        "job.json": view.model_dump_json(indent=2),
        "request.json": _dump(status.spec),
        "timeline.json": _dump(timeline),
        "result.json": _dump(result),
        "files.json": _dump(
            [_describe_file(file, entry_names.get(file.name)) for file in job_files]
        ),
    }
    spool = _Spool([])
    with zipfile.ZipFile(
        cast("IO[bytes]", spool), "w", zipfile.ZIP_DEFLATED, compresslevel=1
    ) as archive:
        for name, text in texts.items():
            archive.writestr(_entry(name, status, zipfile.ZIP_DEFLATED), text)
            yield spool.take()
        streams: list[tuple[str, Chunks, int]] = [
            ("log.txt", _write_log(app, status), zipfile.ZIP_DEFLATED)
        ]
        if status.kind == JobKind.BATCH:
            total = 0 if counts is None else counts.total
            items = _write_items(app, status, total)
            streams.append(("items.jsonl", items, zipfile.ZIP_DEFLATED))
        streams += [
            (entry_names[file.name], read_file_chunks(app, file), zipfile.ZIP_STORED)
            for file in job_files
            if file.uri is None
        ]
        for name, chunks, compression in streams:
            async with aclosing(chunks):
                with archive.open(_entry(name, status, compression), "w", force_zip64=True) as out:
                    async for chunk in chunks:
                        out.write(chunk)
                        yield spool.take()
    yield spool.take()


def name_entries(job_files: list[JobFile]) -> dict[str, str]:
    """Return the name in an archive of each file that is stored here, by its own name.

    No entry leads out of the folder into which a person unpacks it, and no two are one file on a
    disk that ignores case.
    """
    names: dict[str, str] = {}
    used: set[str] = set()
    for file in job_files:
        if file.uri is not None:
            continue
        steps = [_UNSAFE_CHARS.sub("_", step).strip(". ") for step in re.split(r"[/\\]", file.name)]
        path = "/".join(step for step in steps if step)[-_MAX_ENTRY_CHARS:].strip("/. ") or "file"
        name, number = f"files/{path}", 1
        while name.lower() in used:
            number += 1
            name = f"files/{number}-{path.replace('/', '_')}"
        used.add(name.lower())
        names[file.name] = name
    return names


def _describe_file(file: JobFile, entry_name: str | None) -> dict[str, Any]:
    fields = file.model_dump(mode="json", exclude={"job_id", "subject_id"})
    return {**fields, "entry": entry_name}


def _dump(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _entry(name: str, status: JobStatus, compression: int) -> zipfile.ZipInfo:
    moment: datetime = status.finished_at or status.created_at
    year = max(moment.year, _EARLIEST_ZIP_YEAR)
    entry = zipfile.ZipInfo(name, (year, *moment.timetuple()[1:6]))
    entry.compress_type = compression
    entry.external_attr = 0o600 << 16
    return entry
