"""Views of costs, hardware prices and budgets, in dollars.

An amount that is not known is null, never 0.
"""

from datetime import datetime
from typing import Final, Self

from typing_extensions import override

from schema.billing.budgets import BudgetStatus
from schema.billing.pricing import HardwareFlavor, HardwarePrices
from schema.common.money import format_usd, to_micro_usd, to_usd
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
