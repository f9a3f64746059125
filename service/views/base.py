"""What is everything shown to clients made of?"""

from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field

DETAIL_MARKER: Final = "detail"
"""Marks a field that only the tool about it publishes in its schema; every view has it."""

T = TypeVar("T")
Detail = Annotated[T, Field(json_schema_extra={DETAIL_MARKER: True})]


class View(BaseModel):
    """Base of everything shown."""

    model_config = ConfigDict(frozen=True)
