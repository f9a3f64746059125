"""The defaults that a workspace gives to launches into it."""

from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from schema.common.durations import SERIALIZE_AS_SECONDS
from schema.specs.hub_job import Flavor, Labels, parse_job_timeout
from schema.specs.outputs import OutputLocation


class WorkspaceDefaults(BaseModel):
    """The defaults of a workspace; a launch uses them where its call says nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    namespace: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    flavor: Flavor | None = None
    timeout: (
        Annotated[
            timedelta,
            BeforeValidator(parse_job_timeout, json_schema_input_type=float | str),
            SERIALIZE_AS_SECONDS,
        ]
        | None
    ) = None
    labels: Labels | None = None
    bucket: OutputLocation | None = None
    """Where outputs go, each job's into a folder of its own."""

    def to_patch(self) -> dict[str, Any]:
        """Return the fields that were set, as JSON; a null removes a default."""
        return self.model_dump(mode="json", exclude_unset=True)
