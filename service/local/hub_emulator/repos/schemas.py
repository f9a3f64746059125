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

from service.local.hub_emulator.buckets.store import is_path
from service.local.hub_emulator.errors import Refusal


def _inside(path: str) -> str:
    if not is_path(path):
        message = f"Invalid path {path[:80]!r}"
        raise ValueError(message)
    return path


def _decoded(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


_Path = Annotated[str, AfterValidator(_inside)]


class _Read(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, extra="ignore", frozen=True, hide_input_in_errors=True
    )


class NamedRepo(_Read):
    """Which repository is meant; without an organisation, one of the caller's own."""

    name: str
    organization: str | None = None
    type: Literal["dataset", "model"] = "model"


class NewRepo(NamedRepo):
    """The body of a create request; a repository is public unless it says otherwise."""

    visibility: Literal["public", "private"] = "public"


class OfferedFile(_Read):
    """A file that somebody is about to commit."""

    path: _Path
    size: Annotated[int, Field(ge=0)]


class Offered(_Read):
    """The body of a request that asks how to send files."""

    files: Annotated[list[OfferedFile], Field(max_length=1000)]


class Header(_Read):
    """What a commit is for, and after which one it is to come."""

    summary: str
    parent_commit: str | None = None


class NewFile(_Read):
    """One file more, or anew."""

    path: _Path
    encoding: Literal["base64"]
    content: Annotated[bytes, BeforeValidator(_decoded)]


class Deletion(_Read):
    """One file less."""

    path: str


class FolderDeletion(_Read):
    """All files of a folder less."""

    path: str


class _HeaderLine(_Read):
    key: Literal["header"]
    value: Header


class _FileLine(_Read):
    key: Literal["file"]
    value: NewFile


class _DeletionLine(_Read):
    key: Literal["deletedFile"]
    value: Deletion


class _FolderLine(_Read):
    key: Literal["deletedFolder"]
    value: FolderDeletion


Change = NewFile | Deletion | FolderDeletion
_Line = _HeaderLine | _FileLine | _DeletionLine | _FolderLine
_LINE: Final[TypeAdapter[_Line]] = TypeAdapter(Annotated[_Line, Field(discriminator="key")])


def changes_of(body: bytes) -> tuple[Header, list[Change]]:
    """Read the lines of a commit: its header, and what it changes.

    Raises:
        Refusal: one of them is none, or is not where it belongs.
    """
    try:
        lines = [_LINE.validate_json(line) for line in body.splitlines() if line.strip()]
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        message = f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}"
        raise Refusal(HTTPStatus.BAD_REQUEST, message) from None
    header = lines[0] if lines else None
    changes = [line.value for line in lines[1:] if not isinstance(line, _HeaderLine)]
    if not isinstance(header, _HeaderLine) or len(changes) != len(lines) - 1:
        raise Refusal(HTTPStatus.BAD_REQUEST, "A commit has one header, and it comes first")
    return header.value, changes
