"""A user whom their client asks for approval."""

from dataclasses import dataclass, field
from typing import Any

from mcp.client import ClientRequestContext
from mcp_types import ElicitRequestFormParams, ElicitResult


@dataclass
class ElicitedUser:
    """Gives the same answer to every question, and records the questions."""

    answer: ElicitResult
    questions: list[str] = field(default_factory=list[str])

    async def __call__(self, _: ClientRequestContext, params: Any) -> ElicitResult:
        """Record the question, and give the answer."""
        assert isinstance(params, ElicitRequestFormParams)
        self.questions.append(params.message)
        return self.answer
