"""The client a call comes through is named in the record, whatever it sends as its name."""

from typing import Any

import pytest
from mcp_types import Implementation

from schema.db.database import Database
from service.auth.client_info import printable_name, read_client_info
from tests.support.mcp.client import call_for_result, open_mcp_client, post_message

CREATE_WORKSPACE_CALL: dict[str, Any] = {"name": "create_workspace", "arguments": {"name": "llama"}}
LAUNCH_ARGUMENTS: dict[str, Any] = {"image": "python:3.12", "command": ["true"]}


async def read_client_names(database: Database) -> list[str]:
    async with database.transaction() as tx:
        rows = await tx.fetch(
            "SELECT client FROM audit_entry WHERE action = 'workspace_made' UNION ALL"
            " SELECT facts ->> 'client' FROM job_event WHERE kind IN ('created', 'cancelled')"
        )
    return [row["client"] for row in rows]


async def test_a_modern_client_is_known_by_the_name_in_its_request(
    service_url: str, database: Database
) -> None:
    """Its HTTP library's name says nothing; what it calls itself does."""
    implementation = Implementation(name="cursor", version="3.1")
    async with open_mcp_client(service_url, client_info=implementation) as client:
        await client.call_tool(*CREATE_WORKSPACE_CALL.values())
        launched = await client.call_tool("launch_job", LAUNCH_ARGUMENTS)
        await client.call_tool("cancel_job", {"job_id": launched.structured_content["job_id"]})

    assert await read_client_names(database) == ["cursor 3.1"] * 3


async def test_another_client_is_known_by_its_user_agent(
    service_url: str, database: Database
) -> None:
    """A request of the older protocol names nobody."""
    await post_message(
        service_url, "tools/call", CREATE_WORKSPACE_CALL, user_agent="claude-code/2.0"
    )

    assert await read_client_names(database) == ["claude-code/2.0"]


async def test_the_client_that_brought_a_token_is_noted(
    service_url: str, database: Database
) -> None:
    """Before the request is read, its HTTP library's name is all there is."""
    await post_message(service_url, "tools/list", user_agent="claude-code/2.0")

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT client FROM audit_entry") == "claude-code/2.0"


async def test_a_client_is_forgotten_with_its_request(service_url: str, database: Database) -> None:
    """The next call on the same connection may be anybody's."""
    await post_message(
        service_url, "tools/call", CREATE_WORKSPACE_CALL, user_agent="claude-code/2.0"
    )
    await call_for_result(service_url, "create_workspace", name="mistral")

    assert len(set(await read_client_names(database))) == 2


@pytest.mark.parametrize(
    ("name", "printable"),
    [
        ("a\x00b\x1b[31mc\u202ed\n", "ab[31mcd"),
        ("n" * 500, "n" * 120),
        (" \t ", None),
        ("", None),
        ("Größe 1", "Größe 1"),
    ],
)
def test_a_name_is_bounded_and_prints(name: str, printable: str | None) -> None:
    """It ends up in terminals and pages of people who did not choose it."""
    assert printable_name(name) == printable


@pytest.mark.parametrize(
    "client_info", ["1", "null", '{"name": 5}', '{"version": "1"}', "{", '{"name": "\\u0000"}']
)
def test_a_client_that_misnames_itself_is_nobody(client_info: str) -> None:
    """The record is no reason to refuse a call."""
    body = '{"params": {"_meta": {"io.modelcontextprotocol/clientInfo": %s}}}' % client_info  # noqa: UP031
    assert read_client_info(body.encode()) is None
