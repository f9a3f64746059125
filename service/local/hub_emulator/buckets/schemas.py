"""What may be asked of buckets with a body."""

from http import HTTPStatus
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
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


class _BucketRequestModel(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, extra="ignore", frozen=True, hide_input_in_errors=True
    )


class NewBucket(_BucketRequestModel):
    """The body of a create request; a bucket is public unless it says otherwise."""

    visibility: Literal["public", "private"] = "public"


class BucketSettingsRequest(_BucketRequestModel):
    """The body of a request that changes who may see a bucket."""

    private: bool


class PathsInfoRequest(_BucketRequestModel):
    """The body of a request for some files."""

    paths: Annotated[list[str], Field(max_length=1000)]


class AddFileOperation(_BucketRequestModel):
    """One file more; of a copy, also where it is already."""

    type: Literal["addFile", "copyFile"]
    path: Annotated[str, AfterValidator(_check_path)]
    xet_hash: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
    mtime: float | None = None
    source_repo_type: str = "bucket"
    source_repo_id: str = ""


class DeleteFileOperation(_BucketRequestModel):
    """One file less."""

    type: Literal["deleteFile"]
    path: str


BucketOperation = AddFileOperation | DeleteFileOperation
_OPERATION_ADAPTER: Final[TypeAdapter[BucketOperation]] = TypeAdapter(
    Annotated[BucketOperation, Field(discriminator="type")]
)


def parse_operations(body: bytes) -> list[BucketOperation]:
    """Read the lines of a batch; files are added before any is deleted.

    Raises:
        Refusal: one of them is none.
    """
    try:
        read = [
            _OPERATION_ADAPTER.validate_json(line) for line in body.splitlines() if line.strip()
        ]
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        message = wrong["msg"].removeprefix("Value error, ")
        raise HubApiError(HTTPStatus.BAD_REQUEST, message) from None
    return sorted(read, key=lambda each: each.type == "deleteFile")
