"""What may be asked of repositories with a body."""

import base64
from http import HTTPStatus
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from service.local.hub_emulator.buckets.store import is_valid_path
from service.local.hub_emulator.errors import HubApiError


def _check_path(path: str) -> str:
    if not is_valid_path(path):
        message = f"Invalid path {path[:80]!r}"
        raise ValueError(message)
    return path


def _decode_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


_Path = Annotated[str, AfterValidator(_check_path)]


class _RepoRequestModel(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, extra="ignore", frozen=True, hide_input_in_errors=True
    )


class RepoReference(_RepoRequestModel):
    """Which repository is meant; without an organisation, one of the caller's own."""

    name: str
    organization: str | None = None
    type: Literal["dataset", "model"] = "model"


class NewRepo(RepoReference):
    """The body of a create request; a repository is public unless it says otherwise."""

    visibility: Literal["public", "private"] = "public"


class PreuploadFile(_RepoRequestModel):
    """A file that somebody is about to commit."""

    path: _Path
    size: Annotated[int, Field(ge=0)]


class PreuploadRequest(_RepoRequestModel):
    """The body of a request that asks how to send files."""

    files: Annotated[list[PreuploadFile], Field(max_length=1000)]


class CommitHeader(_RepoRequestModel):
    """What a commit is for, and after which one it is to come."""

    summary: str
    parent_commit: str | None = None


class CommitFile(_RepoRequestModel):
    """One file more, or anew."""

    path: _Path
    encoding: Literal["base64"]
    content: Annotated[bytes, BeforeValidator(_decode_base64)]


class CommitDeletedFile(_RepoRequestModel):
    """One file less."""

    path: str


class CommitDeletedFolder(_RepoRequestModel):
    """All files of a folder less."""

    path: str


class _HeaderLine(_RepoRequestModel):
    key: Literal["header"]
    value: CommitHeader


class _FileLine(_RepoRequestModel):
    key: Literal["file"]
    value: CommitFile


class _DeletionLine(_RepoRequestModel):
    key: Literal["deletedFile"]
    value: CommitDeletedFile


class _FolderLine(_RepoRequestModel):
    key: Literal["deletedFolder"]
    value: CommitDeletedFolder


CommitChange = CommitFile | CommitDeletedFile | CommitDeletedFolder
_CommitLine = _HeaderLine | _FileLine | _DeletionLine | _FolderLine
_COMMIT_LINE_ADAPTER: Final[TypeAdapter[_CommitLine]] = TypeAdapter(
    Annotated[_CommitLine, Field(discriminator="key")]
)


def parse_commit(body: bytes) -> tuple[CommitHeader, list[CommitChange]]:
    """Read the lines of a commit: its header, and what it changes.

    Raises:
        Refusal: one of them is none, or is not where it belongs.
    """
    try:
        lines = [
            _COMMIT_LINE_ADAPTER.validate_json(line) for line in body.splitlines() if line.strip()
        ]
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        message = f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}"
        raise HubApiError(HTTPStatus.BAD_REQUEST, message) from None
    header = lines[0] if lines else None
    changes = [line.value for line in lines[1:] if not isinstance(line, _HeaderLine)]
    if not isinstance(header, _HeaderLine) or len(changes) != len(lines) - 1:
        raise HubApiError(HTTPStatus.BAD_REQUEST, "A commit has one header, and it comes first")
    return header.value, changes
