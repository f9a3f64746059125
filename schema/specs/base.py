"""The base class of all specifications."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """A validated request; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def to_stored_json(self) -> dict[str, Any]:
        """Return the JSON that is stored; the same request always gives the same."""
        return self.model_dump(mode="json")

    @property
    def title(self) -> str:
        """The title of a job that was launched without a name."""
        return ""


class OpenSpec(Spec):
    """A request whose rules only its executor knows."""

    model_config = ConfigDict(extra="allow", frozen=True)
