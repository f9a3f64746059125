"""What a job may be asked for with: the Hub's rules, and a refusal that names the field."""

import re
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from service.local.hub.answers import Refusal
from service.local.hub.hardware import FLAVORS

_ENV_NAME: Final = re.compile(r"[a-zA-Z][_a-zA-Z0-9]+")
_SECRET_NAME: Final = re.compile(r"[a-zA-Z][_a-zA-Z0-9]*")
_LABEL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,100}")
_LABEL_VALUE: Final = re.compile(r"[a-zA-Z0-9_-]{0,100}")
_BAD_REQUEST: Final = 400


def _flavor(flavor: str) -> str:
    if flavor not in FLAVORS:
        message = f"Invalid enum value, received {flavor!r}"
        raise ValueError(message)
    return flavor


def _named(pattern: re.Pattern[str], names: dict[str, str]) -> dict[str, str]:
    for name in names:
        if not pattern.fullmatch(name):
            message = f"Invalid key {name!r}"
            raise ValueError(message)
    return names


def _environment(environment: dict[str, str]) -> dict[str, str]:
    return _named(_ENV_NAME, environment)


def _secrets(secrets: dict[str, str]) -> dict[str, str]:
    return _named(_SECRET_NAME, secrets)


def check_labels(written: dict[str, str]) -> dict[str, str]:
    """Check labels.

    Raises:
        ValueError: the Hub would not take one.
    """
    for name, value in written.items():
        if not _LABEL_NAME.fullmatch(name) or not _LABEL_VALUE.fullmatch(value):
            message = f"Invalid label {name!r}"
            raise ValueError(message)
    return written


_Word = Annotated[str, Field(min_length=1)]


class JobRequest(BaseModel):
    """The body of a create request; what the Hub does not know, it ignores."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True)

    flavor: Annotated[str, AfterValidator(_flavor)]
    docker_image: _Word | None = None
    space_id: _Word | None = None
    command: Annotated[list[_Word], Field(min_length=1)]
    arguments: list[str] = []
    environment: Annotated[dict[str, str], AfterValidator(_environment)] = {}
    secrets: Annotated[dict[str, str], AfterValidator(_secrets)] = {}
    timeout_seconds: Annotated[int | None, Field(gt=0)] = 1800
    attempts: Annotated[int, Field(ge=1)] = 1
    labels: Annotated[dict[str, str], AfterValidator(check_labels)] = {}

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.docker_image is None) == (self.space_id is None):
            message = "either dockerImage or spaceId must be given"
            raise ValueError(message)
        return self

    @classmethod
    def read(cls, body: Any) -> Self:
        """Read the body of a request.

        Raises:
            Refusal: the Hub would answer 400.
        """
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            wrong = error.errors()[0]
            where = ".".join(str(part) for part in wrong["loc"]) or "body"
            raise Refusal(_BAD_REQUEST, f"{where}: {wrong['msg']}") from None
