"""The tool that shows the caller's account, and what their token may do."""

from collections.abc import Iterator
from typing import Annotated

from mcp_types import CallToolResult

from schema.billing import budgets
from schema.common.money import format_usd, to_micro_usd
from schema.jobs import queries as job_queries
from service.auth.caller import Scope, TokenKind
from service.mcp.dependencies import AppDep, CallerDep
from service.mcp.tool import READ_ONLY, McpTool, build_tool, tool_result
from service.views.jobs import AccountView
from service.views.money import MonthView


async def whoami(*, app: AppDep, caller: CallerDep) -> Annotated[CallToolResult, AccountView]:
    """Show whose account this is, what its token may do here, and for how long.

    Call it when something was refused: missing_scopes says what to ask the person for, namespaces
    whom jobs can be launched as.
    """
    async with app.transaction(caller) as tx:
        subject = await job_queries.get_subject_status(tx, caller.subject_id)
        month = await budgets.read_monthly_budget(
            tx, caller.subject_id, default_monthly_budget=app.monthly_budget_micro_usd
        )
    view = AccountView(
        subject_id=caller.subject_id,
        name=caller.name,
        token_kind=caller.token_kind,
        token_expires_at=caller.expires_at,
        scopes=sorted(caller.scopes),
        missing_scopes=sorted(set(Scope) - caller.scopes),
        namespaces=[caller.name, *caller.organisations],
        hold=subject.hold,
        open_jobs=subject.open_jobs,
        month=MonthView.from_account(month),
    )
    permissions = " and ".join(view.scopes) or "nothing but looking"
    sentence = f"{caller.name}, with a {_TOKEN_NAMES[caller.token_kind]} that allows {permissions}."
    if view.missing_scopes:
        sentence += f" It lacks {' and '.join(view.missing_scopes)}."
    if month.remaining_micro_usd is not None:
        sentence += f" This month has {format_usd(month.remaining_micro_usd)} left to spend."
    return tool_result(sentence, view, "\n".join(_describe_account(view)))


def _describe_account(view: AccountView) -> Iterator[str]:
    yield f"Jobs can be launched as {', '.join(view.namespaces)}."
    if view.token_expires_at is not None:
        yield f"The token expires at {view.token_expires_at:%Y-%m-%d %H:%M} UTC."
    if view.hold is not None:
        yield f"Its jobs do not go on for now; hold: {view.hold}."
    month = view.month
    limit = "" if month.budget_usd is None else f", of a budget of {_format(month.budget_usd)}"
    yield (
        f"Open jobs: {view.open_jobs}. This month {_format(month.spent_usd)} is spent and "
        f"{_format(month.held_usd, is_bound=True)} held{limit}."
    )
    yield f"subject_id {view.subject_id}"


def _format(dollars: float, *, is_bound: bool = False) -> str:
    return format_usd(to_micro_usd(dollars), is_bound=is_bound)


_TOKEN_NAMES = {
    TokenKind.READ: "read-only token",
    TokenKind.WRITE: "write token",
    TokenKind.FINE_GRAINED: "fine-grained token",
    TokenKind.OAUTH: "sign-in",
}


def build_tools() -> list[McpTool]:
    """Publish this tool."""
    return [build_tool(whoami, "Who am I", READ_ONLY)]
