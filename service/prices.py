"""What does hardware cost right now, as far as the Hub ever told us?

It is asked at most once in some minutes, by one caller for all. While it does not answer the last
good answer counts, which other processes and the ones before us have kept in Postgres.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Annotated, Any, Final

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

from schema import prices
from schema.errors import HoldfastError, Invalid, Unavailable
from schema.prices import Answer
from service.auth.cache import UNKNOWN, Cache, Kept
from service.auth.huggingface import HuggingFace
from service.ground import Ground

_FRESH: Final = timedelta(minutes=10)
_STALE: Final = timedelta(seconds=30)
"""How long a last good answer counts before the Hub is asked again."""
_ONE: Final = b"hardware"
_HIGHEST: Final = 10**9
"""A thousand dollars a minute; more is no price."""

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


class Prices:
    """Knows the newest price list there is."""

    def __init__(self, hub: HuggingFace, ground: Ground) -> None:
        self._hub = hub
        self._ground = ground
        self._cache: Cache[PriceList | HoldfastError] = Cache(size=1)

    async def current(self) -> PriceList:
        """Return the newest list.

        Raises:
            Unavailable: the Hub has never said.
        """
        answer = await self._cache.get(_ONE, self._read)
        if isinstance(answer, HoldfastError):
            raise answer.with_traceback(None)
        return answer

    async def _read(self) -> Kept[PriceList | HoldfastError]:
        try:
            entries = await self._hub.hardware()
            async with self._ground.transaction() as tx:
                return Kept(_list(await prices.keep(tx, entries), stale=False), _FRESH)
        except Unavailable as silence:
            log.warning("prices.unread", why=str(silence))
        try:
            async with self._ground.transaction() as tx:
                answer = await prices.kept(tx)
        except Unavailable as silence:
            return Kept(silence, UNKNOWN)
        if answer is None:
            return Kept(
                Unavailable(
                    "Hugging Face",
                    so="what hardware there is and what it costs is not known, and nothing was "
                    "launched",
                ),
                UNKNOWN,
            )
        return Kept(_list(answer, stale=True), _STALE)


def _list(answer: Answer, *, stale: bool) -> PriceList:
    flavors: dict[str, Flavor] = {}
    for entry in answer.entries:
        try:
            flavor = Flavor.model_validate(entry)
        except ValidationError:
            log.warning("flavor.misread", entry=str(entry)[:200])
        else:
            flavors[flavor.name] = flavor
    return PriceList(flavors, answer.read_at, stale)
