"""The judge of a crash case knows what came late, and who has seen it."""

from typing import Final

import httpx2
import pytest
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from tests.crash.faulty_hub import ARRIVALS_PATH, CALM_PATH, JUDGE_HEADER, Fault, FaultyHub

JOBS: Final = "/api/jobs/alice"


class LedgerHub:
    """A Hub that only counts what was created."""

    def __init__(self) -> None:
        self.created_count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.created_count += scope["method"] == "POST"
        await JSONResponse([])(scope, receive, send)


@pytest.fixture
def hub() -> LedgerHub:
    return LedgerHub()


async def test_a_late_arrival_is_unlisted_until_a_worker_has_listed(hub: LedgerHub) -> None:
    """Before that no worker can know of it, so a case is not over, whatever the rows say."""
    transport = httpx2.ASGITransport(FaultyHub(hub, Fault.LATE_ARRIVAL))
    async with httpx2.AsyncClient(transport=transport, base_url="http://hub") as http:

        async def count_unlisted() -> int:
            answer = await http.get(ARRIVALS_PATH)
            count: int = answer.json()["unlisted_count"]
            return count

        refused = await http.post(JOBS, json={})
        await http.get(JOBS)
        before = hub.created_count, await count_unlisted()
        await http.post(CALM_PATH)
        await http.get(JOBS, headers={JUDGE_HEADER: "1"})
        arrived = hub.created_count, await count_unlisted()
        await http.get(JOBS)
        listed = hub.created_count, await count_unlisted()

    assert refused.status_code == 504
    assert (before, arrived, listed) == ((0, 0), (1, 1), (1, 0))
