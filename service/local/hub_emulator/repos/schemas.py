"""Bodies of the requests about repositories."""

import base64
from http import HTTPStatus
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from service.local.hub_emulator.errors import HubApiError
from service.local.hub_emulator.request_body import RequestModel, get_first_error
from service.local.hub_emulator.shared.file_paths import FilePath


def _decode_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


class RepoReference(RequestModel):
    """The name of a repository; without an organisation, the user owns it."""

    name: str
    organization: str | None = None
    type: Literal["dataset", "model"] = "model"


class NewRepo(RepoReference):
    """The body of a create request; a repository is public by default."""

    visibility: Literal["public", "private"] = "public"


class PreuploadFile(RequestModel):
    """A file that a client is about to commit."""

    path: FilePath
    size: Annotated[int, Field(ge=0)]


class PreuploadRequest(RequestModel):
    """The body of a request that asks how to upload files."""

    files: Annotated[list[PreuploadFile], Field(max_length=1000)]


class CommitHeader(RequestModel):
    """The title of a commit, and the commit that must be the newest; None allows any."""

    summary: str
    parent_commit: str | None = None


class CommitFile(RequestModel):
    """Adds or replaces a file."""

    path: FilePath
    encoding: Literal["base64"]
    content: Annotated[bytes, BeforeValidator(_decode_base64)]


class CommitDeletedFile(RequestModel):
    """Deletes a file."""

    path: str


class CommitDeletedFolder(RequestModel):
    """Deletes all files of a folder."""

    path: str


class _HeaderLine(RequestModel):
    key: Literal["header"]
    value: CommitHeader


class _FileLine(RequestModel):
    key: Literal["file"]
    value: CommitFile


class _DeletionLine(RequestModel):
    key: Literal["deletedFile"]
    value: CommitDeletedFile


class _FolderLine(RequestModel):
    key: Literal["deletedFolder"]
    value: CommitDeletedFolder


CommitChange = CommitFile | CommitDeletedFile | CommitDeletedFolder
_CommitLine = _HeaderLine | _FileLine | _DeletionLine | _FolderLine
_COMMIT_LINE_ADAPTER: Final[TypeAdapter[_CommitLine]] = TypeAdapter(
    Annotated[_CommitLine, Field(discriminator="key")]
)


def parse_commit(body: bytes) -> tuple[CommitHeader, list[CommitChange]]:
    """Parse the lines of a commit: a header, then its changes.

    Raises:
        HubApiError: a line is neither, or the header is not the first line and the only one.
    """
    try:
        lines = [
            _COMMIT_LINE_ADAPTER.validate_json(line) for line in body.splitlines() if line.strip()
        ]
    except ValidationError as error:
        location, message = get_first_error(error)
        raise HubApiError(HTTPStatus.BAD_REQUEST, f"{location}: {message}") from None
    header = lines[0] if lines else None
    changes = [line.value for line in lines[1:] if not isinstance(line, _HeaderLine)]
    if not isinstance(header, _HeaderLine) or len(changes) != len(lines) - 1:
        raise HubApiError(HTTPStatus.BAD_REQUEST, "A commit has one header, and it comes first")
    return header.value, changes
