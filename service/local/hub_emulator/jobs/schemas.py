"""Bodies of the requests about jobs, with the Hub's rules for each field."""

import re
from typing import Annotated, Any, Final, Literal, NoReturn, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from service.local.hub_emulator.jobs.hardware import FLAVORS
from service.local.hub_emulator.request_body import StrictRequestModel
from service.local.hub_emulator.shared.file_paths import is_valid_path

_ENV_NAME: Final = re.compile(r"[a-zA-Z][_a-zA-Z0-9]+")
_SECRET_NAME: Final = re.compile(r"[a-zA-Z][_a-zA-Z0-9]*")
_LABEL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,100}")
_LABEL_VALUE: Final = re.compile(r"[a-zA-Z0-9_-]{0,100}")
_DEFAULT_TIMEOUT_SECONDS: Final = 30 * 60
_MAX_TIMEOUT_SECONDS: Final = 2**53 - 1


def _check_flavor(flavor: str) -> str:
    if flavor not in FLAVORS:
        message = f"Invalid enum value, received {flavor!r}"
        raise ValueError(message)
    return flavor


def _check_names(pattern: re.Pattern[str], names: dict[str, str]) -> dict[str, str]:
    for name in names:
        if not pattern.fullmatch(name):
            message = f"Invalid key {name!r}"
            raise ValueError(message)
    return names


def _check_environment(environment: dict[str, str]) -> dict[str, str]:
    return _check_names(_ENV_NAME, environment)


def _check_secrets(secrets: dict[str, str]) -> dict[str, str]:
    return _check_names(_SECRET_NAME, secrets)


def _check_labels(labels: dict[str, str]) -> dict[str, str]:
    for name, value in labels.items():
        if not _LABEL_NAME.fullmatch(name) or not _LABEL_VALUE.fullmatch(value):
            message = f"Invalid label {name!r}"
            raise ValueError(message)
    return labels


def _check_folder_path(path: str) -> str:
    if path and not is_valid_path(path):
        message = "Invalid path"
        raise ValueError(message)
    return path


def _reject_unsupported(_: object) -> NoReturn:
    # If it were accepted and ignored, its absence would show only when the job runs.
    message = "The local Hub does not offer this"
    raise ValueError(message)


def _apply_default_timeout(seconds: object) -> object:
    return _DEFAULT_TIMEOUT_SECONDS if seconds is None else seconds


_NonEmptyStr = Annotated[str, Field(min_length=1)]
_Port = Annotated[int, Field(ge=1, le=65535)]
_Labels = Annotated[dict[str, str], AfterValidator(_check_labels)]
_Unsupported = Annotated[None, BeforeValidator(_reject_unsupported)]


class JobVolume(StrictRequestModel):
    """A bucket, or a folder of a bucket, mounted at a path of the job."""

    type: Literal["bucket", "model", "dataset", "space"]
    source: Annotated[str, Field(pattern=r"^[^/\s]+/[^/\s]+$")]
    mount_path: Annotated[str, Field(pattern=r"^/[^/]")]
    read_only: bool = False
    path: Annotated[str, AfterValidator(_check_folder_path)] = ""
    revision: str | None = None

    @model_validator(mode="after")
    def _check_type(self) -> Self:
        return self if self.type == "bucket" else _reject_unsupported(self)

    def to_dict(self) -> dict[str, Any]:
        """Describe the volume as the Hub does."""
        description = {
            "type": self.type,
            "source": self.source,
            "mountPath": self.mount_path,
            "readOnly": self.read_only,
        }
        return description | ({"path": self.path} if self.path else {})


class Expose(StrictRequestModel):
    """The ports of a job that can be reached from outside; the public ones without a token."""

    ports: Annotated[list[_Port], Field(max_length=20)]
    ports_public: list[_Port] = Field(default_factory=list[_Port])

    @model_validator(mode="after")
    def _check_public_ports(self) -> Self:
        if not set(self.ports_public) <= set(self.ports):
            message = "portsPublic must be among ports"
            raise ValueError(message)
        return self


class Ssh(StrictRequestModel):
    """Whether users can log in to a job."""

    enabled: bool


class JobRequest(StrictRequestModel):
    """The body of a create request."""

    flavor: Annotated[str, AfterValidator(_check_flavor)]
    docker_image: _NonEmptyStr | None = None
    space_id: _NonEmptyStr | None = None
    command: Annotated[list[_NonEmptyStr], Field(min_length=1)]
    arguments: list[str] = Field(default_factory=list[str])
    environment: Annotated[dict[str, str], AfterValidator(_check_environment)] = Field(
        default_factory=dict[str, str]
    )
    secrets: Annotated[dict[str, str], AfterValidator(_check_secrets)] = Field(
        default_factory=dict[str, str]
    )
    timeout_seconds: Annotated[
        int, Field(gt=0, le=_MAX_TIMEOUT_SECONDS), BeforeValidator(_apply_default_timeout)
    ] = _DEFAULT_TIMEOUT_SECONDS
    attempts: Annotated[int, Field(ge=1)] = 1
    labels: _Labels = Field(default_factory=dict[str, str])
    arch: Literal["amd64", "arm64"] = "amd64"
    volumes: Annotated[list[JobVolume], Field(min_length=1)] | None = None
    expose: Expose | None = None
    ssh: Ssh | None = None
    network: _Unsupported = None
    resource_group_id: Annotated[str, Field(pattern=r"^[0-9a-f]{24}$")] | None = None

    @model_validator(mode="after")
    def _check_one_source(self) -> Self:
        if (self.docker_image is None) == (self.space_id is None):
            message = "Either dockerImage or spaceId must be given"
            raise ValueError(message)
        return self


class NewLabels(StrictRequestModel):
    """The body of a request that replaces a job's labels."""

    labels: _Labels
