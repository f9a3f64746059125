"""What hardware is there, what does it cost, and what can a job on it cost at worst?

As the Hub described it: the service asks, and whoever prices a job reads the same answer.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
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
from schema.billing.price_store import Answer
from schema.common.durations import say
from schema.common.errors import Invalid
from schema.common.money import micro, say_usd
from schema.specs.hub_job import HubJobSpec

_HIGHEST: Final = 10**9
"""A thousand dollars a minute; more is no price."""
_MOST: Final = 10**15
"""A billion dollars."""
_PORT_AN_HOUR: Final = 10_000
"""What the Hub adds for exposed ports; whether once or for each it does not say, so for each."""

log = structlog.stdlib.get_logger()


def _if_readable(value: object, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None


class _Described(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="ignore")


class Accelerator(_Described):
    """What a flavor computes with besides its processors."""

    type: str
    model: str
    quantity: Annotated[str, BeforeValidator(str)]
    vram: str


class Flavor(_Described):
    """One kind of machine, as the Hub describes it; what cannot be read counts as absent."""

    name: str
    cpu: Annotated[str | None, WrapValidator(_if_readable)] = None
    ram: Annotated[str | None, WrapValidator(_if_readable)] = None
    accelerator: Annotated[Accelerator | None, WrapValidator(_if_readable)] = None
    unit_label: Annotated[str | None, WrapValidator(_if_readable)] = None
    unit_cost: Annotated[
        Annotated[int, Field(ge=0, le=_HIGHEST)] | None,
        WrapValidator(_if_readable),
        Field(alias="unitCostMicroUSD"),
    ] = None

    @property
    def price_micro_usd(self) -> int | None:
        """What a started minute costs; none if it cannot be told."""
        return self.unit_cost if self.unit_label == "minute" else None

    @property
    def is_gpu(self) -> bool:
        """Whether it has more than processors."""
        return self.accelerator is not None

    @property
    def described_gpu(self) -> str | None:
        """Its accelerators, in a few words."""
        gpu = self.accelerator
        return None if gpu is None else f"{gpu.quantity}x {gpu.model}, {gpu.vram}"


@dataclass(frozen=True, slots=True)
class PriceList:
    """Every flavor there is, and when the Hub said so."""

    flavors: dict[str, Flavor]
    read_at: datetime
    stale: bool
    """Whether the Hub could not be asked again since."""

    @classmethod
    def of(cls, answer: Answer, *, stale: bool) -> Self:
        """Read an answer; an entry that cannot be read is left out."""
        flavors: dict[str, Flavor] = {}
        for entry in answer.entries:
            try:
                flavor = Flavor.model_validate(entry)
            except ValidationError:
                log.warning("flavor.misread", entry=str(entry)[:200])
            else:
                flavors[flavor.name] = flavor
        return cls(flavors, answer.read_at, stale)

    def price_of(self, name: str) -> int:
        """Return what a minute of a flavor costs.

        Raises:
            Invalid: there is no such flavor, or it has no price.
        """
        known = self.flavors.get(name)
        if known is None:
            near = get_close_matches(name, self.flavors, n=3, cutoff=0.4)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise Invalid(
                f"Hugging Face has no flavor {name!r}.{hint} list_hardware shows all, with prices."
            )
        if known.price_micro_usd is None:
            raise Invalid(
                f"Hugging Face names no price for {name}, so what it would cost cannot be bounded "
                f"and nothing was launched. Choose another flavor; list_hardware shows them."
            )
        return known.price_micro_usd


def rate_of(spec: HubJobSpec, prices: PriceList, max_cost_usd: float | None) -> Rate:
    """Price a job.

    Raises:
        Invalid: there is no such flavor, it has no price, or the worst case is above the limit.
    """
    most = None if max_cost_usd is None else micro(max_cost_usd)
    a_minute = prices.price_of(spec.flavor) + math.ceil(_PORT_AN_HOUR * len(spec.expose) / 60)
    rate = Rate(a_minute, spec.timeout, spec.attempts, most_micro_usd=most)
    limit = _MOST if most is None else most
    if rate.ceiling_micro_usd > limit:
        fits = rate.longest(limit)
        remedy = (
            f'The longest timeout that fits is "{say(fits)}".'
            if fits
            else "No timeout fits; list_hardware shows what is cheaper."
        )
        ports = " with its ports" if spec.expose else ""
        times = f", {spec.attempts} times" if spec.attempts > 1 else ""
        raise Invalid(
            f"max_cost_usd is {say_usd(limit)}, and at worst this costs "
            f"{say_usd(rate.ceiling_micro_usd)}: {spec.flavor}{ports} at "
            f"{say_usd(rate.price_micro_usd)} a minute for {say(spec.timeout)}{times}. Nothing was "
            f"launched. {remedy}"
        )
    return rate
