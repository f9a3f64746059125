"""The tools about the caller's account: what their token may do, and what was spent."""

import re
from collections.abc import Iterator
from datetime import date
from typing import Annotated, Final

from mcp_types import CallToolResult
from pydantic import AfterValidator, BeforeValidator, Field

from schema.accounts import audit
from schema.billing import budgets
from schema.billing.spending import SpendingDimension, SpendingQuery, read_spending
from schema.common import ids, timestamps
from schema.common.errors import Invalid, NotFound, Unavailable
from schema.common.ids import HandleKind
from schema.common.money import format_usd, to_micro_usd
from schema.common.text import format_count, format_utc, quote_value
from schema.common.timestamps import TimestampOrAge
from schema.jobs import queries as job_queries
from service.auth.caller import Caller, Scope, TokenKind, ZeroGpuQuota
from service.auth.client_info import printable_name
from service.mcp.dependencies import AppDep, CallerDep
from service.mcp.tool import READ_ONLY, McpTool, build_tool, tool_result
from service.mcp.tools.arguments import EMPTY_IS_NONE, normalize_choice, to_list
from service.runtime.context import App
from service.views.jobs import AccountView, LinkView, SignInView, ZeroGpuView
from service.views.money import MonthView, SpendingView
from service.views.text import fit_text, take_fitting_texts

_MAX_NAME_BYTES: Final = 1000
_MAX_NAMESPACES_BYTES: Final = 8000
"""What the organisations take, once as words and once as an object."""
_MAX_UNPAID_BYTES: Final = 2000
_MAX_NAMED_LINKS: Final = 5
_HIDDEN_NOTE: Final = (
    "Hugging Face does not show this token whether the account can pay, or its ZeroGPU quota: that "
    "needs the scope read-billing (permission user.billing.read)."
)
_MAX_GROUPS: Final = 100
_DEFAULT_DIMENSIONS: Final = (SpendingDimension.WORKSPACE, SpendingDimension.FLAVOR)
_MONTHS_AGO: Final = {"this": 0, "last": 1}
_MONTH: Final = re.compile(r"(\d{4})-(\d{2})", re.ASCII)
_UNPRICED_NOTE: Final = (
    "Hugging Face bills model calls, Space calls and batches itself, so what they cost is not "
    "known here."
)
_UNREAD_NOTE: Final = "Hugging Face did not say how much of the ZeroGPU quota is left."


def _parse_month(text: str) -> str:
    month = text.strip().lower()
    match = _MONTH.fullmatch(month)
    if month in _MONTHS_AGO or (match and int(match[1]) and 1 <= int(match[2]) <= 12):  # noqa: PLR2004
        return month
    message = f'{quote_value(text)} is not a month; write "this", "last", or one such as "2026-11"'
    raise ValueError(message)


async def whoami(*, app: AppDep, caller: CallerDep) -> Annotated[CallToolResult, AccountView]:
    """Show whose account this is, what its token may do here, and for how long.

    Call it when something was refused: missing_scopes says what to ask the person for, namespaces
    whom jobs can be launched as.
    """
    quota, billing_note = await _read_quota(app, caller)
    async with app.transaction(caller) as tx:
        subject = await job_queries.get_subject_status(tx, caller.subject_id)
        month = await budgets.read_monthly_budget(
            tx, caller.subject_id, default_monthly_budget=app.monthly_budget_micro_usd
        )
        links = await audit.list_live_links(tx, caller.subject_id)
    name = fit_text(caller.name, _MAX_NAME_BYTES)
    organisations = take_fitting_texts(caller.organisations, _MAX_NAMESPACES_BYTES)
    unpaid = take_fitting_texts(
        [each for each in organisations if each in caller.billing.unpaid_organisations],
        _MAX_UNPAID_BYTES,
    )
    view = AccountView(
        subject_id=caller.subject_id,
        name=name,
        token_kind=caller.token_kind,
        token_expires_at=caller.expires_at,
        scopes=sorted(caller.scopes),
        missing_scopes=sorted(set(Scope) - caller.scopes),
        sign_in=_show_sign_in(caller),
        namespaces=[name, *organisations],
        more_namespaces=len(caller.organisations) - len(organisations),
        hold=subject.hold,
        open_jobs=subject.open_jobs,
        month=MonthView.from_account(month),
        plan=caller.billing.plan,
        can_pay=caller.billing.can_pay,
        unpaid_namespaces=[*([name] if caller.billing.can_pay is False else []), *unpaid],
        zero_gpu=_show_quota(quota),
        billing_note=billing_note,
        links=[
            LinkView(job_id=link.handle, download=link.export, expires_at=link.expires_at)
            for link in links
        ],
    )
    permissions = " and ".join(view.scopes) or "nothing but looking"
    sentence = f"{name}, with a {_TOKEN_NAMES[caller.token_kind]} that allows {permissions}."
    if view.missing_scopes:
        sentence += f" It lacks {' and '.join(view.missing_scopes)}."
    if month.remaining_micro_usd is not None:
        sentence += f" This month has {format_usd(month.remaining_micro_usd)} left to spend."
    return tool_result(sentence, view, "\n".join(_describe_account(view)))


async def spending(
    group_by: Annotated[
        list[Annotated[SpendingDimension, BeforeValidator(normalize_choice)]],
        BeforeValidator(to_list),
        Field(max_length=len(SpendingDimension)),
    ] = list(_DEFAULT_DIMENSIONS),  # noqa: B006  # it is validated, and so copied
    month: Annotated[
        str, AfterValidator(_parse_month), Field(description='"this", "last" or "2026-11".')
    ] = "this",
    since: Annotated[TimestampOrAge | None, EMPTY_IS_NONE] = None,
    until: Annotated[TimestampOrAge | None, EMPTY_IS_NONE] = None,
    workspace_id: str | None = None,
    namespace: Annotated[str | None, Field(max_length=100), EMPTY_IS_NONE] = None,
    *,
    app: AppDep,
    caller: CallerDep,
) -> Annotated[CallToolResult, SpendingView]:
    """Say what you spend in a month, and on what: spent, held for open jobs, left of budgets.

    Days are whole, in UTC; a job counts on the day of its launch. since and until replace month.
    """
    timestamps.expect_since_before_until(since, until)
    if month != "this" and (since is not None or until is not None):
        raise Invalid("month goes with neither since nor until; give one or the other.")
    query = SpendingQuery(
        dimensions=list(dict.fromkeys(group_by)),
        month=None if month in _MONTHS_AGO else date.fromisoformat(f"{month}-01"),
        months_ago=_MONTHS_AGO.get(month, 0),
        since=since,
        until=until,
        workspace_id=None
        if workspace_id is None
        else ids.parse_handle(HandleKind.WORKSPACE, workspace_id),
        namespace=namespace,
    )
    async with app.transaction(caller) as tx:
        report = await read_spending(
            tx,
            caller.subject_id,
            query,
            default_monthly_budget=app.monthly_budget_micro_usd,
            limit=_MAX_GROUPS,
        )
    if report is None:
        raise NotFound("workspace", workspace_id or "")
    if report.first_day > report.last_day:
        raise Invalid(f"Nothing is spent yet from {report.first_day} on: today is {report.today}.")
    view = SpendingView.from_report(report, query.dimensions, retention=app.spending_retention)
    return tool_result(
        f"From {view.first_day} to {view.last_day}, whole days in UTC: "
        f"{', '.join(view.total.facts)}.",
        view,
        "\n".join([*(group.line for group in view.groups), *_describe_spending(view)]),
    )


def _describe_spending(view: SpendingView) -> Iterator[str]:
    if view.left_out:
        yield (
            f"{format_count(view.left_out, 'more group')} without room here: "
            f"{', '.join(view.rest.facts)}. Group by less, or narrow the days."
        )
    if view.total.unpriced:
        yield _UNPRICED_NOTE
    if view.complete_from is not None:
        yield (
            f"It is complete from {view.complete_from} on; before that day, jobs that were deleted "
            "since are not counted."
        )
    yield _describe_month(view.month)


async def _read_quota(app: App, caller: Caller) -> tuple[ZeroGpuQuota | None, str | None]:
    """Return the quota, and why it or `can_pay` is not known."""
    try:
        quota = await app.token_verifier.read_zero_gpu_quota(caller)
    except Unavailable:
        return None, _UNREAD_NOTE
    is_hidden = quota is None or caller.billing.can_pay is None
    return quota, _HIDDEN_NOTE if is_hidden else None


def _show_quota(quota: ZeroGpuQuota | None) -> ZeroGpuView | None:
    if quota is None:
        return None
    return ZeroGpuView(
        limit_seconds=quota.limit_seconds,
        used_seconds=max(0, quota.limit_seconds - quota.left_seconds),
        left_seconds=quota.left_seconds,
        resets_at=quota.resets_at,
        paid_seconds=quota.paid_seconds,
    )


def _show_sign_in(caller: Caller) -> SignInView | None:
    if caller.sign_in is None:
        return None
    sign_in = caller.sign_in
    return SignInView(
        issuer=sign_in.issuer,
        subject=sign_in.subject,
        audience=sign_in.audience,
        name=printable_name(sign_in.name or ""),
        email=printable_name(sign_in.email or ""),
        is_connected=sign_in.is_connected,
    )


def _describe_account(view: AccountView) -> Iterator[str]:
    names, more = ", ".join(view.namespaces), view.more_namespaces
    others = f" and {more:,} more of your organisations" if more else ""
    yield f"Jobs can be launched as {names}{others}."
    if view.sign_in is not None:
        person = view.sign_in.name or view.sign_in.email or view.sign_in.subject
        yield (
            f"Signed in at {view.sign_in.issuer} as {person} (sub {view.sign_in.subject}), for "
            f"{view.sign_in.audience}."
        )
        if view.sign_in.is_connected:
            yield "This Hugging Face account is connected with that sign-in."
    if view.token_expires_at is not None:
        yield f"The token expires at {view.token_expires_at:%Y-%m-%d %H:%M} UTC."
    if view.hold is not None:
        yield f"Its jobs do not go on for now; hold: {view.hold}."
    yield f"Open jobs: {view.open_jobs}. {_describe_month(view.month)}"
    yield from _describe_billing(view)
    if view.links:
        shown = view.links[-_MAX_NAMED_LINKS:]
        names = ", ".join(f"{link.download} of {link.job_id}" for link in shown)
        yield (
            f"Download links that work: {len(view.links)} of {audit.MAX_LIVE_LINKS}; the newest: "
            f"{names}."
        )
    yield f"subject_id {view.subject_id}"


def _describe_month(month: MonthView) -> str:
    limit = "" if month.budget_usd is None else f", of a budget of {_format(month.budget_usd)}"
    if limit and month.resets_at is not None:
        limit += f" until {format_utc(month.resets_at)}"
    left = "" if month.left_usd is None else f"; {_format(month.left_usd)} is left"
    return (
        f"This month {_format(month.spent_usd)} is spent and "
        f"{_format(month.held_usd, is_bound=True)} held{limit}{left}."
    )


def _describe_billing(view: AccountView) -> Iterator[str]:
    plan = "" if view.plan is None else f"Plan at Hugging Face: {view.plan}. "
    match view.can_pay:
        case True:
            yield f"{plan}{view.name} can pay for jobs."
        case False:
            yield (
                f"{plan}{view.name} cannot pay for jobs: add credits at "
                "https://huggingface.co/settings/billing."
            )
        case None if plan:
            yield plan.strip()
        case None:
            pass
    if unpaid := [each for each in view.unpaid_namespaces if each != view.name]:
        yield f"Cannot pay, or at their spend limit: {', '.join(unpaid)}."
    if (quota := view.zero_gpu) is not None:
        reset = "" if quota.resets_at is None else f", all again at {format_utc(quota.resets_at)}"
        yield (
            f"ZeroGPU: {quota.used_seconds:,.0f} of {quota.limit_seconds:,.0f} s used, "
            f"{quota.left_seconds:,.0f} s left{reset}."
        )
    if view.billing_note is not None:
        yield view.billing_note


def _format(dollars: float, *, is_bound: bool = False) -> str:
    return format_usd(to_micro_usd(dollars), is_bound=is_bound)


_TOKEN_NAMES = {
    TokenKind.READ: "read-only token",
    TokenKind.WRITE: "write token",
    TokenKind.FINE_GRAINED: "fine-grained token",
    TokenKind.OAUTH: "sign-in",
}


def build_tools() -> list[McpTool]:
    """Publish these tools."""
    return [
        build_tool(whoami, "Who am I", READ_ONLY),
        build_tool(spending, "Spending", READ_ONLY),
    ]
