"""What does hardware cost, for a firing that nobody's call has just asked the Hub for?"""

from datetime import timedelta
from typing import Any, Final

import anyio
import structlog
from pydantic import TypeAdapter, ValidationError

from schema.billing import price_store
from schema.billing.pricing import HardwarePrices
from schema.common.http import package_version
from workers.context import Worker
from workers.hub.client import HubAmbiguous, HubClient, HubError, as_hub_errors, raise_for_status

MAX_PRICE_AGE: Final = timedelta(hours=1)
"""How old a price list may be before the Hub is asked for a new one."""
_REQUEST_TIMEOUT: Final = timedelta(seconds=10)
_ENTRIES_ADAPTER: Final = TypeAdapter(list[dict[str, Any]])

log = structlog.stdlib.get_logger()


async def load_price_list(worker: Worker) -> HardwarePrices | None:
    """Return what was last heard, or what the Hub says if that is long ago; none if never."""
    async with worker.database.transaction() as tx:
        answer = await price_store.load_price_list(tx)
        if answer is not None and await price_store.is_price_list_younger(tx, MAX_PRICE_AGE):
            return HardwarePrices.from_stored(answer, is_stale=False)
    try:
        entries = await _fetch_prices(worker.hub)
    except HubError as silence:
        log.warning("prices.unread", why=str(silence))
        return None if answer is None else HardwarePrices.from_stored(answer, is_stale=True)
    async with worker.database.transaction() as tx:
        return HardwarePrices.from_stored(
            await price_store.save_price_list(tx, entries), is_stale=False
        )


async def _fetch_prices(hub: HubClient) -> list[dict[str, Any]]:
    url = f"{hub.url}/api/jobs/hardware"
    with as_hub_errors():
        try:
            with anyio.fail_after(_REQUEST_TIMEOUT.total_seconds()):
                # Nobody's token: what it costs is no secret.
                response = await hub.session.get(
                    url, headers={"user-agent": f"holdfast/{package_version()}"}
                )
        except TimeoutError:
            raise HubAmbiguous(
                f"no answer within {_REQUEST_TIMEOUT.total_seconds():.0f} s"
            ) from None
        raise_for_status(response)
    try:
        return _ENTRIES_ADAPTER.validate_json(response.content)
    except ValidationError:
        raise HubAmbiguous("a price list that cannot be read") from None
