"""A token that ends while a job runs with it: the job goes on, and the next call finds it again."""

from pathlib import Path

import asyncpg
import pytest

from service.local.hub_emulator.users import LocalUser, find_user, load_users
from service.local.stack import Stack
from service.web.client_config import Connection
from tests.support.http_clients import AsyncHttpClient
from tests.support.oauth.consent_browser import sign_in
from tests.support.polling import HTTP_TIMEOUT_SECONDS, eventually
from tests.support.stack import McpCaller, without_worker

pytestmark = pytest.mark.xdist_group("stack")


@pytest.fixture
def bob(stack: Stack) -> LocalUser:
    """Somebody no other test of the stack acts for."""
    return find_user(load_users(stack.folder / "hub"), "bob")


@pytest.fixture
async def bob_token(stack: Stack, bob: LocalUser) -> str:
    """What Bob's client got when he signed in; there is no better one for his jobs to act with."""
    connection = await asyncpg.connect(stack.database_url)
    try:
        await connection.execute("DELETE FROM credential WHERE subject_id = $1", bob.id)
    finally:
        await connection.close()
    return (await sign_in(stack.hub_url, "openid jobs", user="bob")).access_token


async def revoke_token(stack: Stack, bob: LocalUser, token: str) -> None:
    """Let the Hub no longer take a token."""
    headers = {"authorization": f"Bearer {bob.token}"}
    async with AsyncHttpClient(
        base_url=stack.hub_url, headers=headers, timeout=HTTP_TIMEOUT_SECONDS
    ) as hub:
        ended = await hub.post("/_emulator/oauth/expire", json={"token": token})
    assert ended.status_code == 204


async def wait_until_held(stack: Stack, bob: LocalUser) -> None:
    """Wait for a worker to notice; whoever asked by a call would have released it."""

    async def hold() -> str | None:
        connection = await asyncpg.connect(stack.database_url)
        try:
            seen: str | None = await connection.fetchval(
                "SELECT hold FROM subject WHERE id = $1", bob.id
            )
            return seen
        finally:
            await connection.close()

    assert await eventually(hold, bool) == "credentials"


async def read_stage(stack: Stack, bob: LocalUser, remote_id: str) -> str:
    headers = {"authorization": f"Bearer {bob.token}"}
    async with AsyncHttpClient(
        base_url=stack.hub_url, headers=headers, timeout=HTTP_TIMEOUT_SECONDS
    ) as hub:
        shown: str = (await hub.get(f"/api/jobs/bob/{remote_id}")).json()["status"]["stage"]
    return shown


async def test_what_runs_goes_on_and_is_found_again_by_the_next_call(
    stack: Stack, bob: LocalUser, bob_token: str, tmp_path: Path
) -> None:
    """A sign-in lasts eight hours, and a job may run for days."""
    signed_in = McpCaller(Connection(stack.url, bob_token))
    later = McpCaller(Connection(stack.url, bob.token))
    held = tmp_path / "held"
    handle = await signed_in.launch("sh", "-c", f"until [ -e {held} ]; do sleep 0.05; done")
    view = await signed_in.wait_until(handle, lambda view: view["stage"] == "RUNNING")
    remote = view["url"].rpartition("/")[2]

    await revoke_token(stack, bob, bob_token)
    await wait_until_held(stack, bob)
    untouched = await read_stage(stack, bob, remote)
    held.touch()
    finished = await later.wait_until_finished(handle)

    assert untouched == "RUNNING"
    assert (finished["state"], finished["hold"]) == ("succeeded", None)


async def test_a_cancel_that_had_no_token_is_carried_out_by_the_next_call(
    stack: Stack, bob: LocalUser, bob_token: str
) -> None:
    """It is cancelled here at once; what it costs ends when somebody can say so at the Hub."""
    signed_in = McpCaller(Connection(stack.url, bob_token))
    later = McpCaller(Connection(stack.url, bob.token))
    handle = await signed_in.launch("sleep", "600")
    view = await signed_in.wait_until(handle, lambda view: view["stage"] == "RUNNING")
    remote = view["url"].rpartition("/")[2]

    # A worker that saw the dead token first would make the service refuse the call.
    with without_worker(stack):
        await revoke_token(stack, bob, bob_token)
        cancelled = await signed_in.call_tool("cancel_job", job_id=handle)
    await wait_until_held(stack, bob)
    untouched = await read_stage(stack, bob, remote)
    stopped = await later.wait_until(handle, lambda view: view["upstream"] == "stopped")

    assert (cancelled["state"], cancelled["upstream"]) == ("cancelled", "stopping")
    assert untouched == "RUNNING"
    assert stopped["state"] == "cancelled"
    assert await read_stage(stack, bob, remote) == "CANCELED"
