"""What a launch into a workspace takes from it, where the call does not say otherwise."""

from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from schema.common.durations import SERIALIZE_AS_SECONDS
from schema.specs.hub_job import Flavor, Labels, parse_job_timeout
from schema.specs.outputs import OutputLocation


class WorkspaceDefaults(BaseModel):
    """The defaults of a workspace; `None` is none, and leaves it to the launch."""

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
        """Return what was said, as JSON; a null in it takes a default away."""
        return self.model_dump(mode="json", exclude_unset=True)
