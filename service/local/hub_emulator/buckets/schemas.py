"""Bodies of the requests about buckets."""

from http import HTTPStatus
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from service.local.hub_emulator.errors import HubApiError
from service.local.hub_emulator.request_body import RequestModel, get_first_error
from service.local.hub_emulator.shared.file_paths import FilePath


class NewBucket(RequestModel):
    """The body of a create request; a bucket is public by default."""

    visibility: Literal["public", "private"] = "public"


class BucketSettingsRequest(RequestModel):
    """The body of a request that makes a bucket private or public."""

    private: bool


class PathsInfoRequest(RequestModel):
    """The body of a request that describes files by their paths."""

    paths: Annotated[list[str], Field(max_length=1000)]


class AddFileOperation(RequestModel):
    """Adds a file; a copy also names the bucket that has the file already."""

    type: Literal["addFile", "copyFile"]
    path: FilePath
    xet_hash: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
    mtime: float | None = None
    source_repo_type: str = "bucket"
    source_repo_id: str = ""


class DeleteFileOperation(RequestModel):
    """Deletes a file."""

    type: Literal["deleteFile"]
    path: str


BucketOperation = AddFileOperation | DeleteFileOperation
_OPERATION_ADAPTER: Final[TypeAdapter[BucketOperation]] = TypeAdapter(
    Annotated[BucketOperation, Field(discriminator="type")]
)


def parse_operations(body: bytes) -> list[BucketOperation]:
    """Parse the lines of a batch, and put additions before deletions.

    Raises:
        HubApiError: a line is not an operation.
    """
    try:
        operations = [
            _OPERATION_ADAPTER.validate_json(line) for line in body.splitlines() if line.strip()
        ]
    except ValidationError as error:
        _, message = get_first_error(error)
        message = message.removeprefix("Value error, ")
        raise HubApiError(HTTPStatus.BAD_REQUEST, message) from None
    return sorted(operations, key=lambda operation: operation.type == "deleteFile")
