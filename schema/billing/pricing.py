"""The Hub's hardware and its prices, and the worst case of a job on it.

Whatever prices a job, in the service or in a worker, reads the same stored answer of the Hub.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Self

import structlog
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.alias_generators import to_camel

from schema.billing.budgets import Rate
from schema.billing.flavor_suggestions import FlavorTraits, read_number, suggest_flavors
from schema.billing.price_store import StoredPriceList
from schema.common.durations import format_duration
from schema.common.errors import Correction, Invalid
from schema.common.money import format_usd, to_micro_usd
from schema.common.text import truncate
from schema.specs.hub_job import HubJobSpec

_MAX_UNIT_COST_MICRO_USD: Final = 10**9
"""A thousand dollars a minute; more is not believed."""
_DEFAULT_MAX_COST_MICRO_USD: Final = 10**15
"""A billion dollars."""
_PORT_MICRO_USD_PER_HOUR: Final = 10_000
"""What the Hub adds for exposed ports. It does not say whether once or for each: we add each."""

log = structlog.stdlib.get_logger()


def _none_if_invalid(value: object, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        return validate(value)
    except ValidationError:
        return None


class _HubModel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="ignore")


class FlavorAccelerator(_HubModel):
    """The accelerator of a flavor."""

    type: str
    model: str
    quantity: Annotated[str, BeforeValidator(str)]
    vram: str

    @property
    def count(self) -> int:
        """How many there are; 0 if that cannot be read."""
        return read_number(self.quantity)

    @property
    def memory_gb(self) -> int:
        """The memory of all of them together; 0 if that cannot be read."""
        return read_number(self.vram)


class HardwareFlavor(_HubModel):
    """One kind of machine, as the Hub describes it; a field that cannot be read is none."""

    name: str
    cpu: Annotated[str | None, WrapValidator(_none_if_invalid)] = None
    ram: Annotated[str | None, WrapValidator(_none_if_invalid)] = None
    accelerator: Annotated[FlavorAccelerator | None, WrapValidator(_none_if_invalid)] = None
    unit_label: Annotated[str | None, WrapValidator(_none_if_invalid)] = None
    unit_cost: Annotated[
        Annotated[int, Field(ge=0, le=_MAX_UNIT_COST_MICRO_USD)] | None,
        WrapValidator(_none_if_invalid),
        Field(alias="unitCostMicroUSD"),
    ] = None

    @property
    def price_micro_usd(self) -> int | None:
        """What a started minute costs; none if that is not known."""
        return self.unit_cost if self.unit_label == "minute" else None

    @property
    def is_gpu(self) -> bool:
        """Whether it has an accelerator."""
        return self.accelerator is not None

    @property
    def gpu_summary(self) -> str | None:
        """Its accelerators, in a few words."""
        gpu = self.accelerator
        return None if gpu is None else f"{gpu.quantity}x {gpu.model}, {gpu.vram}"


@dataclass(frozen=True, slots=True)
class HardwarePrices:
    """All flavors by name, and when the Hub described them."""

    flavors: dict[str, HardwareFlavor]
    read_at: datetime
    is_stale: bool
    """Whether the answer is old, and the Hub could not be asked again."""

    @classmethod
    def from_stored(cls, stored: StoredPriceList, *, is_stale: bool) -> Self:
        """Read an answer; an entry that cannot be read is left out."""
        flavors: dict[str, HardwareFlavor] = {}
        for entry in stored.entries:
            try:
                flavor = HardwareFlavor.model_validate(entry)
            except ValidationError:
                log.warning("flavor.misread", entry=truncate(str(entry), 200))
            else:
                flavors[flavor.name] = flavor
        return cls(flavors, stored.read_at, is_stale)

    def price_per_minute(self, flavor_name: str) -> int:
        """Return what a minute of a flavor costs.

        Raises:
            Invalid: there is no such flavor, or it has no price.
        """
        flavor = self.flavors.get(flavor_name)
        if flavor is None:
            close_names = suggest_flavors(flavor_name, self._priced_traits())
            hint = f" Did you mean {' or '.join(close_names)}?" if close_names else ""
            raise Invalid(
                f"Hugging Face has no flavor {flavor_name!r}.{hint} list_hardware shows all, "
                "with prices.",
                [Correction(("flavor",), close_names[0])] if close_names else (),
            )
        if flavor.price_micro_usd is None:
            raise Invalid(
                f"Hugging Face names no price for {flavor_name}, so what it would cost cannot be "
                "bounded and nothing was launched. Choose another flavor; list_hardware shows them."
            )
        return flavor.price_micro_usd

    def _priced_traits(self) -> list[FlavorTraits]:
        return [
            FlavorTraits(
                name=flavor.name,
                gpu_model=None if flavor.accelerator is None else flavor.accelerator.model,
                gpu_count=0 if flavor.accelerator is None else flavor.accelerator.count,
                gpu_memory_gb=0 if flavor.accelerator is None else flavor.accelerator.memory_gb,
                price_micro_usd=price,
            )
            for flavor in self.flavors.values()
            if (price := flavor.price_micro_usd) is not None
        ]


def price_job(spec: HubJobSpec, prices: HardwarePrices, max_cost_usd: float | None) -> Rate:
    """Price a job.

    Args:
        max_cost_usd: the most that the subject wants to pay for it; none is no limit of theirs.

    Raises:
        Invalid: there is no such flavor, it has no price, or the worst case is above the limit.
    """
    max_micro_usd = None if max_cost_usd is None else to_micro_usd(max_cost_usd)
    micro_usd_per_minute = prices.price_per_minute(spec.flavor) + math.ceil(
        _PORT_MICRO_USD_PER_HOUR * len(spec.expose) / 60
    )
    rate = Rate(micro_usd_per_minute, spec.timeout, spec.attempts, most_micro_usd=max_micro_usd)
    limit = _DEFAULT_MAX_COST_MICRO_USD if max_micro_usd is None else max_micro_usd
    if rate.ceiling_micro_usd > limit:
        longest_timeout = rate.longest_timeout(limit)
        remedy = (
            f'The longest timeout that fits is "{format_duration(longest_timeout)}".'
            if longest_timeout
            else "No timeout fits; list_hardware shows what is cheaper."
        )
        ports = " with its ports" if spec.expose else ""
        times = f", {spec.attempts} times" if spec.attempts > 1 else ""
        raise Invalid(
            f"max_cost_usd is {format_usd(limit)}, and at worst this costs "
            f"{format_usd(rate.ceiling_micro_usd, is_bound=True)}: {spec.flavor}{ports} at "
            f"{format_usd(rate.price_micro_usd)} a minute for "
            f"{format_duration(spec.timeout)}{times}. Nothing was "
            f"launched. {remedy}"
        )
    return rate
