"""What does hardware cost, for a firing that nobody's call has just asked the Hub for?"""

from datetime import timedelta
from typing import Any, Final

import anyio
import structlog
from pydantic import TypeAdapter, ValidationError

from schema.billing import price_store
from schema.billing.pricing import PriceList
from schema.common.http import release
from workers.context import Worker
from workers.hub.client import Ambiguous, Hub, HubError, as_hub_errors, raise_for

FRESH: Final = timedelta(hours=1)
"""How old a price list may be before the Hub is asked for a new one."""
_WITHIN: Final = timedelta(seconds=10)
_ENTRIES: Final = TypeAdapter(list[dict[str, Any]])

log = structlog.stdlib.get_logger()


async def current(worker: Worker) -> PriceList | None:
    """Return what was last heard, or what the Hub says if that is long ago; none if never."""
    async with worker.database.transaction() as tx:
        answer = await price_store.kept(tx)
        if answer is not None and await price_store.is_younger(tx, FRESH):
            return PriceList.of(answer, stale=False)
    try:
        entries = await _ask(worker.hub)
    except HubError as silence:
        log.warning("prices.unread", why=str(silence))
        return None if answer is None else PriceList.of(answer, stale=True)
    async with worker.database.transaction() as tx:
        return PriceList.of(await price_store.keep(tx, entries), stale=False)


async def _ask(hub: Hub) -> list[dict[str, Any]]:
    url = f"{hub.url}/api/jobs/hardware"
    with as_hub_errors():
        try:
            with anyio.fail_after(_WITHIN.total_seconds()):
                # Nobody's token: what it costs is no secret.
                response = await hub.session.get(
                    url, headers={"user-agent": f"holdfast/{release()}"}
                )
        except TimeoutError:
            raise Ambiguous(f"no answer within {_WITHIN.total_seconds():.0f} s") from None
        raise_for(response)
    try:
        return _ENTRIES.validate_json(response.content)
    except ValidationError:
        raise Ambiguous("a price list that cannot be read") from None
