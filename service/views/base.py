"""The base class of all views, and the marker of their detail fields."""

from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field

DETAIL_MARKER: Final = "detail"
"""Marks a field that an answer has, but its schema does not name: no next call depends on it.

Of a job, `job_status` publishes every field.
"""

T = TypeVar("T")
Detail = Annotated[T, Field(json_schema_extra={DETAIL_MARKER: True})]


class View(BaseModel):
    """Base of everything that clients are shown."""

    model_config = ConfigDict(frozen=True)
