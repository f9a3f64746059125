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

from service.local.hub_emulator.buckets.store import is_path
from service.local.hub_emulator.errors import Refusal


def _inside(path: str) -> str:
    if not is_path(path):
        message = f"Invalid path {path[:80]!r}"
        raise ValueError(message)
    return path


class _Read(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, extra="ignore", frozen=True, hide_input_in_errors=True
    )


class NewBucket(_Read):
    """The body of a create request; a bucket is public unless it says otherwise."""

    visibility: Literal["public", "private"] = "public"


class NewSettings(_Read):
    """The body of a request that changes who may see a bucket."""

    private: bool


class WantedPaths(_Read):
    """The body of a request for some files."""

    paths: Annotated[list[str], Field(max_length=1000)]


class Addition(_Read):
    """One file more; of a copy, also where it is already."""

    type: Literal["addFile", "copyFile"]
    path: Annotated[str, AfterValidator(_inside)]
    xet_hash: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
    mtime: float | None = None
    source_repo_type: str = "bucket"
    source_repo_id: str = ""


class Deletion(_Read):
    """One file less."""

    type: Literal["deleteFile"]
    path: str


Operation = Addition | Deletion
_OPERATION: Final[TypeAdapter[Operation]] = TypeAdapter(
    Annotated[Operation, Field(discriminator="type")]
)


def operations_of(body: bytes) -> list[Operation]:
    """Read the lines of a batch; files are added before any is deleted.

    Raises:
        Refusal: one of them is none.
    """
    try:
        read = [_OPERATION.validate_json(line) for line in body.splitlines() if line.strip()]
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        message = wrong["msg"].removeprefix("Value error, ")
        raise Refusal(HTTPStatus.BAD_REQUEST, message) from None
    return sorted(read, key=lambda each: each.type == "deleteFile")
