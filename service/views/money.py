"""Views of costs, hardware prices and budgets, in dollars.

An amount that is not known is null, never 0.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final, Self

from typing_extensions import override

from schema.billing.budgets import BudgetStatus
from schema.billing.pricing import HardwareFlavor, HardwarePrices
from schema.billing.spending import (
    SpendingDimension,
    SpendingGroup,
    SpendingReport,
    SpendingSums,
)
from schema.common import ids
from schema.common.ids import HandleKind
from schema.common.money import format_usd, to_micro_usd, to_usd
from schema.common.text import format_count, shorten
from service.views.base import Detail, View
from service.views.job_cost import CostSummary
from service.views.pages import EntryView, take_page
from service.views.text import fit_text


def usd_if_known(micro_usd: int | None) -> float | None:
    """Convert an amount to dollars; None, for not known or not limited, stays None."""
    return None if micro_usd is None else to_usd(micro_usd)


class CostView(View):
    """What a job costs, in dollars; null means not known, never 0."""

    ceiling_usd: Detail[float | None]
    """The worst case of one launch."""
    so_far_usd: Detail[float | None]
    final: Detail[bool]
    """It can cost no more than this."""

    @classmethod
    def from_cost(cls, cost: CostSummary) -> Self:
        """Show a cost."""
        return cls(
            ceiling_usd=usd_if_known(cost.ceiling_micro_usd),
            so_far_usd=usd_if_known(cost.so_far_micro_usd),
            final=cost.is_final,
        )


_MAX_FACT_BYTES: Final = 100
"""Of a name or a size that the Hub writes; the longest that is known has 30."""
_MAX_GROUP_NAME_CHARS: Final = 100
_MAX_GROUP_NAME_BYTES: Final = 300


class FlavorView(EntryView):
    """One kind of machine."""

    name: str
    cpu: Detail[str | None]
    ram: Detail[str | None]
    gpu: Detail[str | None]
    usd_per_minute: Detail[float]
    usd_per_hour: float

    @property
    @override
    def line(self) -> str:
        price = f"{format_usd(to_micro_usd(self.usd_per_hour))}/h"
        return f"{self.name}: {', '.join(filter(None, [price, self.cpu, self.ram, self.gpu]))}"

    @classmethod
    def from_flavor(cls, flavor: HardwareFlavor, price_micro_usd: int) -> Self:
        """Show a flavor by the price of a minute."""
        facts = {"cpu": flavor.cpu, "ram": flavor.ram, "gpu": flavor.gpu_summary}
        return cls(
            name=fit_text(flavor.name, _MAX_FACT_BYTES),
            **{
                name: None if fact is None else fit_text(fact, _MAX_FACT_BYTES)
                for name, fact in facts.items()
            },
            usd_per_minute=to_usd(price_micro_usd),
            usd_per_hour=to_usd(price_micro_usd * 60),
        )


class HardwareView(View):
    """The hardware that jobs can run on, the cheapest first."""

    flavors: list[FlavorView]
    left_out: Detail[int]
    """How many dearer ones there are for which a reply has no room."""
    as_of: Detail[datetime]
    stale: Detail[bool]
    """The prices may be out of date, because Hugging Face could not be reached."""

    @classmethod
    def from_price_list(
        cls, prices: HardwarePrices, *, max_micro_usd_per_hour: int | None, gpu_only: bool
    ) -> Self:
        """Show the flavors that have a price, at most the given maximum; None allows any price."""
        priced = [
            (price, flavor)
            for flavor in prices.flavors.values()
            if (price := flavor.price_micro_usd) is not None
            and (max_micro_usd_per_hour is None or price * 60 <= max_micro_usd_per_hour)
            and (flavor.is_gpu or not gpu_only)
        ]
        priced.sort(key=lambda pair: (pair[0], pair[1].name))
        flavors = [FlavorView.from_flavor(flavor, price) for price, flavor in priced]
        shown, _ = take_page(flavors, limit=len(flavors), default_limit=len(flavors))
        return cls(
            flavors=shown,
            left_out=len(flavors) - len(shown),
            as_of=prices.read_at,
            stale=prices.is_stale,
        )


class MonthView(View):
    """The budget of this calendar month, in UTC; null means that there is no limit."""

    budget_usd: Detail[float | None]
    spent_usd: Detail[float]
    held_usd: Detail[float]
    left_usd: float | None
    resets_at: Detail[datetime | None]
    """When nothing of it is spent again."""

    @classmethod
    def from_account(cls, month: BudgetStatus) -> Self:
        """Show the budget of a month."""
        return cls(
            budget_usd=usd_if_known(month.budget_micro_usd),
            spent_usd=to_usd(month.spent_micro_usd),
            held_usd=to_usd(month.held_micro_usd),
            left_usd=usd_if_known(month.remaining_micro_usd),
            resets_at=month.resets_at,
        )


class SpendingSumsView(View):
    """How many jobs there were, and what they cost."""

    jobs: Detail[int]
    spent_usd: float
    """Settled cost, as budgets count it."""
    held_usd: float
    """What the unsettled may cost at most."""
    unsettled: Detail[int]
    """Jobs whose cost is not final."""
    so_far_usd: Detail[float]
    """Of what is held: what the minutes started so far cost."""
    uncounted_usd: Detail[float]
    """What jobs cost beyond what was held for them; no budget counts it."""
    unpriced: Detail[int]
    """Jobs whose cost is not known here."""

    @classmethod
    def from_sums(cls, sums: SpendingSums) -> Self:
        """Show sums."""
        return cls(**_sum_fields(sums))

    @property
    def facts(self) -> list[str]:
        """The counts and amounts, as words."""
        facts = [format_count(self.jobs, "job"), f"{_write_usd(self.spent_usd)} spent"]
        if self.unsettled:
            so_far = f" ({_write_usd(self.so_far_usd)} so far)" if self.so_far_usd else ""
            held = format_usd(to_micro_usd(self.held_usd), is_bound=True)
            facts.append(f"{held} held for {self.unsettled:,} not settled{so_far}")
        if self.uncounted_usd:
            facts.append(f"{_write_usd(self.uncounted_usd)} beyond what was held")
        if self.unpriced:
            facts.append(f"{self.unpriced:,} without a price")
        return facts


class SpendingGroupView(SpendingSumsView, EntryView):
    """The jobs that have the names of a group in common."""

    group: dict[str, str | None]
    """Its name in each dimension; null: those without one."""
    workspace_id: Detail[str | None]
    budget_usd: Detail[float | None]
    """Of its workspace, whatever the days; null: no limit, or not grouped by workspace."""
    left_usd: Detail[float | None]

    @property
    @override
    def line(self) -> str:
        names = [name or f"no {dimension}" for dimension, name in self.group.items()]
        if self.workspace_id is not None:
            names.append(self.workspace_id)
        left: list[str] = []
        if self.budget_usd is not None and self.left_usd is not None:
            left = [f"{_write_usd(self.left_usd)} left of {_write_usd(self.budget_usd)}"]
        return " | ".join([*names, *self.facts, *left])

    @classmethod
    def from_group(cls, group: SpendingGroup, dimensions: Sequence[SpendingDimension]) -> Self:
        """Show a group."""
        return cls(
            **_sum_fields(group),
            group={dimension: _name_group(group, dimension) for dimension in dimensions},
            workspace_id=group.workspace_id
            and ids.format_handle(HandleKind.WORKSPACE, group.workspace_id),
            budget_usd=usd_if_known(group.budget_micro_usd),
            left_usd=usd_if_known(group.remaining_micro_usd),
        )


class SpendingView(View):
    """What was spent and held in some days, which are whole and in UTC."""

    first_day: Detail[date]
    last_day: Detail[date]
    total: SpendingSumsView
    groups: list[SpendingGroupView]
    left_out: Detail[int]
    """How many groups there are for which a reply has no room."""
    rest: Detail[SpendingSumsView]
    """The sums of those."""
    complete_from: Detail[date | None]
    """Before this day only jobs that still exist are counted; null: all are."""
    month: Detail[MonthView]
    """The budget of the current month, whatever the days."""

    @classmethod
    def from_report(
        cls,
        report: SpendingReport,
        dimensions: Sequence[SpendingDimension],
        *,
        retention: timedelta,
    ) -> Self:
        """Show a report; what does not fit a reply is summed up.

        Args:
            retention: how long the sums of deleted jobs are stored.
        """
        entries = [SpendingGroupView.from_group(group, dimensions) for group in report.groups]
        shown, _ = take_page(entries, limit=len(entries), default_limit=len(entries))
        rest = dict(report.total)
        for group in report.groups[: len(shown)]:
            rest = {name: value - getattr(group, name) for name, value in rest.items()}
        complete_from = report.today - retention
        return cls(
            first_day=report.first_day,
            last_day=report.last_day,
            total=SpendingSumsView.from_sums(report.total),
            groups=shown,
            left_out=report.group_count - len(shown),
            rest=SpendingSumsView.from_sums(SpendingSums(**rest)),
            complete_from=complete_from if report.first_day < complete_from else None,
            month=MonthView.from_account(report.month),
        )


def _sum_fields(sums: SpendingSums) -> dict[str, Any]:
    return {
        "jobs": sums.jobs,
        "spent_usd": to_usd(sums.spent_micro_usd),
        "held_usd": to_usd(sums.held_micro_usd),
        "unsettled": sums.unsettled,
        "so_far_usd": to_usd(sums.so_far_micro_usd),
        "uncounted_usd": to_usd(sums.uncounted_micro_usd),
        "unpriced": sums.unpriced,
    }


def _name_group(group: SpendingGroup, dimension: SpendingDimension) -> str | None:
    match dimension:
        case SpendingDimension.MONTH | SpendingDimension.DAY if group.first_day is not None:
            day = group.first_day.isoformat()
            return day if dimension is SpendingDimension.DAY else day[: len("2026-12")]
        case _:
            name: str | None = getattr(group, dimension, None)
            return name and fit_text(shorten(name, _MAX_GROUP_NAME_CHARS), _MAX_GROUP_NAME_BYTES)


def _write_usd(dollars: float) -> str:
    return format_usd(to_micro_usd(dollars))
