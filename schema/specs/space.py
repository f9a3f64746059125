"""Specification of a call to a Space: one call of one Gradio endpoint, by name.

A Space is identified by its owner and its name, never by an address: the Hub says where it is.
"""

import re
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field

from schema.common.durations import SERIALIZE_AS_SECONDS
from schema.common.text import quote_value
from schema.specs.base import Spec
from schema.specs.inference import parse_call_timeout

_NAME_PART: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_NAME: Final = re.compile(rf"{_NAME_PART}/{_NAME_PART}")
_SPACE_URL_PREFIX: Final = re.compile(
    r"(?i:(?:https://)?(?:huggingface\.co|hf\.co))/spaces/(?=[^/]+/[^/]+/?$)"
)
_API_NAME: Final = re.compile(r"/[^\s/?#\\][^\s?#\\]*")


def _normalize_space_name(space: str) -> str:
    name = _SPACE_URL_PREFIX.sub("", space.strip(), count=1).removesuffix("/")
    if not _NAME.fullmatch(name) or ".." in name or "--" in name:
        message = (
            f"{quote_value(space)} does not name a Space; write its owner and its name, as in "
            f'"owner/name", and no other address of it'
        )
        raise ValueError(message)
    return name


def _normalize_api_name(api_name: str) -> str:
    name = f"/{api_name.strip().removeprefix('/')}"
    if not _API_NAME.fullmatch(name):
        message = f'{quote_value(api_name)} is not an endpoint; write one such as "/predict"'
        raise ValueError(message)
    return name


SpaceName = Annotated[str, Field(max_length=300), AfterValidator(_normalize_space_name)]
ApiName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_normalize_api_name)]
SpaceArguments = Annotated[dict[str, Any] | list[Any], Field(max_length=200)]


class SpaceCallSpec(Spec):
    """One call of a Gradio endpoint."""

    space: SpaceName
    api_name: ApiName | None = None
    """None: the only endpoint of the Space, or `/predict`."""
    arguments: SpaceArguments = Field(default_factory=dict[str, Any])
    timeout: Annotated[timedelta, BeforeValidator(parse_call_timeout), SERIALIZE_AS_SECONDS] = (
        timedelta(minutes=10)
    )

    @property
    def title(self) -> str:
        """The title of a job without a name: no arguments, because jobs are grouped by title."""
        return f"{self.space} {self.api_name or ''}".rstrip()
