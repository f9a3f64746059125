"""Files that a job left behind, read back: small ones, whole, by whoever owns the job.

A file is looked for by its name among the files of one job of the caller, and by nothing else: no
part of a name is a path here. Its bytes are in Postgres, or at the Hub, which is asked with the
caller's own token and for exactly the revision that was recorded.
"""

from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Final

from schema.artifacts import files
from schema.artifacts.files import JobFile
from schema.common.errors import Conflict, Invalid, Unavailable
from schema.common.text import quote_value
from schema.hub.client import HubRejected, HubUnreachable
from schema.hub.url_fetcher import FetchRefused
from schema.jobs.queries import JobStatus
from schema.specs.inputs.hub_uri import HubUri
from service.auth.caller import Caller
from service.jobs import operations, results
from service.jobs.results import CollectedResult
from service.runtime.context import App
from service.views.files import FileView
from service.views.text import fit_text, format_size, take_fitting_start

MAX_READ_BYTES: Final = 1024 * 1024
"""A larger file is only linked."""
_READ_TIMEOUT: Final = timedelta(seconds=20)
_PAUSE: Final = timedelta(seconds=10)
"""How long to wait if the Hub does not say."""
_MAX_LISTED_NAMES: Final = 10
_MAX_NAME_BYTES: Final = 200
_MAX_NAMES_BYTES: Final = 1000
_MAX_PART_BYTES: Final = 12_000
"""Bytes of a part of a text, once as words and once as an object."""


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file with its bytes, and the job that left it."""

    status: JobStatus
    file: JobFile
    content: bytes

    @property
    def text(self) -> str | None:
        """The content as a text; None if it is none."""
        try:
            text = self.content.decode()
        except UnicodeDecodeError:
            return None
        return None if "\0" in text else text


async def read_output_file(app: App, caller: Caller, handle: str, name: str) -> OutputFile:
    """Read a whole file of a job.

    Raises:
        Invalid: it is not a handle of a job, or the job left no such file.
        NotFound: the caller has no such job.
        Conflict: the file is too large, or is not at the Hub any more; with where to get it.
        Unavailable: the Hub does not answer.
    """
    async with app.transaction(caller) as tx:
        status = await operations.find_job(tx, caller, handle)
        job_files = await files.list_job_files(tx, caller.subject_id, status.id)
        file = next((each for each in job_files if each.name == name), None)
        if file is None:
            raise Invalid(_describe_missing(name, job_files))
        if file.size_bytes > MAX_READ_BYTES:
            raise Conflict(
                f"{_short_name(file)} has {format_size(file.size_bytes)}, and up to "
                f"{format_size(MAX_READ_BYTES)} are read here. {_describe_place(app, file)}"
            )
        if file.uri is None:
            content = await files.read_file_bytes(tx, file, start=0, length=file.size_bytes)
            if content is None:
                raise Invalid(_describe_missing(name, []))
            return OutputFile(status, file, content)
    return OutputFile(status, file, await _read_from_hub(app, caller, file, file.uri))


async def read_text(
    app: App, caller: Caller, handle: str, name: str, *, offset: int
) -> CollectedResult:
    """Show a part of a text file of a job.

    Args:
        offset: the first character.

    Raises:
        Conflict: it is no text; with where to get it. Also what `read_output_file` raises.
    """
    output = await read_output_file(app, caller, handle, name)
    file, text = output.file, output.text
    if text is None:
        raise Conflict(f"{_short_name(file)} is no text. {_describe_place(app, file)}")
    if offset and offset >= len(text):
        raise Invalid(f"offset: the file has {len(text):,} characters; leave it out, or give less.")
    part = take_fitting_start(text[offset:], _MAX_PART_BYTES)
    end = offset + len(part)
    next_offset = end if end < len(text) else None
    view = results.show_file_text(
        output.status, FileView.from_file(file, app.download_links), part, next_offset
    )
    is_whole = not offset and next_offset is None
    heading = "" if is_whole else f"Characters {offset} to {end} of {len(text)}:\n"
    return CollectedResult(view, f"{heading}{part}", [])


async def _read_from_hub(app: App, caller: Caller, file: JobFile, uri: str) -> bytes:
    place = _describe_place(app, file)
    try:
        hub_uri = HubUri.parse(uri)
        if file.revision is not None:
            hub_uri = hub_uri.at_revision(file.revision)
        content, _ = await app.hub_files.read(
            hub_uri, caller.token, max_bytes=MAX_READ_BYTES, timeout=_READ_TIMEOUT
        )
    except HubUnreachable:
        raise Unavailable("Hugging Face") from None
    except HubRejected as error:
        if error.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise Unavailable("Hugging Face", retry_after=error.retry_after or _PAUSE) from None
        raise Conflict(
            f"{_short_name(file)} cannot be read at Hugging Face: it is not there any more, or "
            f"your token may not read it ({error.status}). {place}"
        ) from None
    except ValueError:
        raise Conflict(
            f"{_short_name(file)} has a name that cannot be read here. {place}"
        ) from None
    except FetchRefused:
        raise Conflict(
            f"{_short_name(file)} is not at Hugging Face any more as the job left it. {place}"
        ) from None
    return content


def _describe_place(app: App, file: JobFile) -> str:
    """Say how a person gets the whole file."""
    view = FileView.from_file(file, app.download_links)
    if file.uri is not None and file.uri.startswith("hf://buckets/"):
        return f"Get it with: hf buckets cp {fit_text(file.uri, _MAX_NAMES_BYTES)} ."
    return "" if view.url is None else f"Download it from {view.url}"


def _describe_missing(name: str, job_files: list[JobFile]) -> str:
    names = ", ".join(_short_name(file) for file in job_files[:_MAX_LISTED_NAMES])
    there = f"it left {fit_text(names, _MAX_NAMES_BYTES)}" if names else "it left no file"
    return f"file: the job has none called {quote_value(name)}; {there}."


def _short_name(file: JobFile) -> str:
    return fit_text(file.name, _MAX_NAME_BYTES, keeps_end=True)
