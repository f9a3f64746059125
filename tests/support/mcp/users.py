"""A user whom their client asks for approval."""

from dataclasses import dataclass, field
from typing import Any

from mcp.client import ClientRequestContext
from mcp_types import ElicitRequestFormParams, ElicitResult


@dataclass
class ElicitedUser:
    """Answers what a client asks them."""

    answer: ElicitResult
    questions: list[str] = field(default_factory=list[str])

    async def __call__(self, _: ClientRequestContext, params: Any) -> ElicitResult:
        """Answer as decided before."""
        assert isinstance(params, ElicitRequestFormParams)
        self.questions.append(params.message)
        return self.answer
