"""The tool that says who is calling, and what they may do."""

from typing import Annotated

from mcp_types import CallToolResult

from schema.billing import budgets
from schema.common.money import say_usd
from schema.jobs import queries as job_queries
from service.auth.caller import Scope, TokenKind
from service.mcp.dependencies import AppDep, CallerDep
from service.mcp.tool import READS, Contract, contract, told
from service.views.jobs import AccountView
from service.views.money import MonthView


async def whoami(*, app: AppDep, caller: CallerDep) -> Annotated[CallToolResult, AccountView]:
    """Show whose account this is, what its token may do here, and for how long.

    Call it when something was refused: missing_scopes says what to ask the person for, namespaces
    whom jobs can be launched as.
    """
    async with app.transaction(caller) as tx:
        standing = await job_queries.standing(tx, caller.subject_id)
        month = await budgets.month(tx, caller.subject_id, monthly=app.monthly_budget)
    view = AccountView(
        subject_id=caller.subject_id,
        name=caller.name,
        token_kind=caller.kind,
        token_expires_at=caller.expires_at,
        scopes=sorted(caller.scopes),
        missing_scopes=sorted(set(Scope) - caller.scopes),
        namespaces=[caller.name, *caller.organisations],
        hold=standing.hold,
        open_jobs=standing.open_jobs,
        month=MonthView.of(month),
    )
    able = " and ".join(view.scopes) or "nothing but looking"
    sentence = f"{caller.name}, with a {_NAMED[caller.kind]} that allows {able}."
    if view.missing_scopes:
        sentence += f" It lacks {' and '.join(view.missing_scopes)}."
    if month.left_micro_usd is not None:
        sentence += f" This month has {say_usd(month.left_micro_usd)} left to spend."
    return told(sentence, view)


_NAMED = {
    TokenKind.READ: "read-only token",
    TokenKind.WRITE: "write token",
    TokenKind.FINE_GRAINED: "fine-grained token",
    TokenKind.OAUTH: "sign-in",
}


def contracts() -> list[Contract]:
    """Publish this tool."""
    return [contract(whoami, "Who am I", READS)]
