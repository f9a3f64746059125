"""schema.specs.base."""

from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
)


class Spec(BaseModel):
    """What every kind of request has in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def to_stored_json(self) -> dict[str, Any]:
        """Return the JSON that is kept, and that the same request gives again."""
        return self.model_dump(mode="json")

    @property
    def title(self) -> str:
        """What it is called if nobody gives it a name."""
        return ""


class OpenSpec(Spec):
    """A request whose rules only its own executor knows."""

    model_config = ConfigDict(extra="allow", frozen=True)
