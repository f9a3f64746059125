"""One call builds one request: its workspace is read once, and the work is priced once."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from mcp import Client
from mcp.server import MCPServer
from starlette.applications import Starlette

from schema.accounts.row_security import DatabaseRole
from schema.accounts.vault import Secret
from schema.billing.pricing import HardwarePrices
from schema.common import ids
from schema.common.ids import HandleKind
from schema.db.database import Database
from schema.jobs import lifecycle
from schema.settings import Settings
from schema.workspaces import store as workspace_store
from schema.workspaces.store import WorkspaceChange
from service.app import create_app
from service.auth.caller import Caller, TokenKind
from service.mcp.tool import McpTool
from service.mcp.tools import launch_job, retry_job
from service.runtime.context import CURRENT_CALLER, App
from service.runtime.price_cache import PriceCache
from tests.support.database.statement_counter import CountingTenantDatabase
from tests.support.hub.fake_hub import FakeHub
from tests.support.mcp.client import answer_text
from tests.support.subjects import ADA_ID, ADA_TOKEN

CALLER = Caller(ADA_ID, "ada", TokenKind.WRITE, Secret(ADA_TOKEN))
JOB_ARGUMENTS: dict[str, Any] = {"image": "python:3.12", "command": "true"}
TRANSACTIONS_OF_A_LAUNCH = 2
"""One reads what the request is built from, one inserts the job."""


class CountingPriceCache(PriceCache):
    """Counts how often work is priced."""

    def __init__(self, price_cache: PriceCache) -> None:
        self._price_cache = price_cache
        self.price_count = 0

    async def current(self) -> HardwarePrices:
        """Return the newest list, and count it."""
        self.price_count += 1
        return await self._price_cache.current()


@dataclass(frozen=True)
class CountedTools:
    """The tools that launch, on a database and on prices that count."""

    client: Client
    database: CountingTenantDatabase
    price_cache: CountingPriceCache

    async def call(self, tool: str, arguments: dict[str, Any]) -> tuple[str, int, int]:
        """Return the answer, and how many transactions and price lists it took."""
        transactions, prices = self.database.transaction_count, self.price_cache.price_count
        answer = await self.client.call_tool(tool, arguments)
        return (
            answer_text(answer),
            self.database.transaction_count - transactions,
            self.price_cache.price_count - prices,
        )


@pytest.fixture
async def counted(
    make_settings: Callable[..., Settings], fake_hub: FakeHub, database_url: str
) -> AsyncGenerator[CountedTools]:
    """Open the service's own application in this loop, and count what is done with it."""
    web: Starlette = create_app(make_settings(hub_url=fake_hub.url))
    async with (
        web.router.lifespan_context(web),
        Database(database_url, application_name="tests", role=DatabaseRole.TENANT) as pool,
    ):
        app: App = web.state.app
        database = CountingTenantDatabase(pool)
        price_cache = CountingPriceCache(app.price_cache)
        counted_app = replace(app, database=database, price_cache=price_cache)

        @asynccontextmanager
        async def lend(_: MCPServer[App]) -> AsyncGenerator[App]:
            yield counted_app

        tools: list[McpTool] = [*launch_job.build_tools("30d"), *retry_job.build_tools()]
        server = MCPServer[App]("counted", tools=list[Any](tools), lifespan=lend)
        token = CURRENT_CALLER.set(CALLER)
        async with Client(server) as client:
            yield CountedTools(client, database, price_cache)
        CURRENT_CALLER.reset(token)


@pytest.fixture
async def workspace_id(database: Database, ada_id: str) -> str:
    """A workspace with defaults, a budget, and a threshold above all that is launched here."""
    workspace_id = ids.new_id()
    async with database.transaction() as tx:
        await workspace_store.create_workspace(
            tx,
            ada_id,
            workspace_id,
            "llama",
            budget_micro_usd=10_000_000,
            defaults={"flavor": "a10g-small"},
        )
        change = WorkspaceChange(sets_confirmation=True, confirm_above_micro_usd=5_000_000)
        await workspace_store.update_workspace(tx, ada_id, workspace_id, change)
    return ids.format_handle(HandleKind.WORKSPACE, workspace_id)


async def test_a_launch_reads_its_workspace_once_and_prices_the_work_once(
    counted: CountedTools, workspace_id: str
) -> None:
    """The approval is about the request that `approved_request` gives to launch_job."""
    arguments = JOB_ARGUMENTS | {"workspace_id": workspace_id}

    text, transactions, prices = await counted.call("launch_job", arguments)

    assert "From the workspace llama: flavor a10g-small" in text
    assert "It costs $0.51 at most" in text
    assert (transactions, prices) == (TRANSACTIONS_OF_A_LAUNCH, 1)


async def test_a_retry_reads_the_earlier_job_once_and_prices_the_work_once(
    counted: CountedTools, database: Database, workspace_id: str
) -> None:
    """Its workspace, and the items of a batch, are read in the same transaction."""
    launched, _, _ = await counted.call(
        "launch_job", JOB_ARGUMENTS | {"workspace_id": workspace_id}
    )
    handle = launched.partition(":")[0]
    async with database.transaction() as tx:
        job_id = ids.parse_handle(HandleKind.JOB, handle)
        await lifecycle.cancel_job(tx, job_id, subject_id=ADA_ID)

    text, transactions, prices = await counted.call("retry_job", {"job_id": handle})

    assert "It costs $0.51 at most" in text
    assert (transactions, prices) == (TRANSACTIONS_OF_A_LAUNCH, 1)


async def test_what_is_wrong_is_refused_before_a_person_is_asked(
    counted: CountedTools, workspace_id: str
) -> None:
    """An approval of a launch that is then refused is worth nothing."""
    expensive = {"workspace_id": workspace_id, "timeout": "12h"}

    question, _, _ = await counted.call("launch_job", JOB_ARGUMENTS | expensive)
    refused, _, _ = await counted.call(
        "launch_job", JOB_ARGUMENTS | expensive | {"namespace": "acme"}
    )

    assert "a person is asked first" in question
    assert "a person is asked first" not in refused
    assert "does not let you run jobs as acme" in refused
