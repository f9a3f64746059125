"""The front page: it says what the service is, and its configurations are the real ones."""

import html
import json
import re

import pytest

from service.runtime.toolsets import Toolset
from service.web.client_config import Connection, build_client_configs
from tests.service.web.site import PUBLIC_URL, all_tools, open_site

CODE = re.compile(r'<code id="(address|configuration-\d+)">(.*?)</code>', re.DOTALL)


async def read_codes(query: str) -> dict[str, str]:
    """Return what can be copied from the page, by its id."""
    with open_site() as http:
        page = await http.get(f"/{query}")
    assert page.status_code == 200
    return {name: html.unescape(text) for name, text in CODE.findall(page.text)}


async def test_every_tool_is_there_with_its_arguments() -> None:
    with open_site() as http:
        page = (await http.get("/")).text

    for tool in all_tools():
        assert f'id="tool-{tool.name}"' in page
        for argument in tool.parameters.get("properties", {}):
            assert f'<th scope="row"><code>{argument}</code>' in page


@pytest.mark.parametrize(
    "client", sorted({each.client for each in build_client_configs(Connection(PUBLIC_URL, None))})
)
async def test_a_client_gets_the_configuration_that_the_command_line_prints(client: str) -> None:
    expected = [
        each.text
        for each in build_client_configs(Connection(PUBLIC_URL, None))
        if each.client == client
    ]

    codes = await read_codes(f"?client={client.replace(' ', '+')}")

    assert codes.pop("address") == f"{PUBLIC_URL}/mcp?login"
    assert list(codes.values()) == expected


@pytest.mark.parametrize(
    ("query", "address"),
    [
        ("?toolsets=jobs&toolsets=account", "/mcp?toolsets=jobs,account&login"),
        ("?toolsets=account,jobs&readonly=1", "/mcp/readonly?toolsets=jobs,account&login"),
        ("?readonly=1", "/mcp/readonly?login"),
        ("?" + "&".join(f"toolsets={each}" for each in Toolset), "/mcp?login"),
        ("?toolsets=nonsense&client=nonsense", "/mcp?login"),
    ],
)
async def test_the_address_changes_with_the_choice(query: str, address: str) -> None:
    codes = await read_codes(query)

    assert codes["address"] == f"{PUBLIC_URL}{address}"
    assert address in codes["configuration-1"]


async def test_what_an_address_says_is_never_markup() -> None:
    with open_site() as http:
        page = await http.get('/?client="><script>alert(1)</script>&toolsets=<img src=x>')

    assert "alert(1)" not in page.text
    assert "<img" not in page.text


async def test_the_schemas_are_those_of_the_tools() -> None:
    with open_site() as http:
        everything = (await http.get("/schema")).json()["tools"]
        one = await http.get("/schema/launch_job")
        none = await http.get("/schema/launch_rocket")

    assert [tool["name"] for tool in everything] == [tool.name for tool in all_tools()]
    launch = next(tool for tool in all_tools() if tool.name == "launch_job")
    assert one.json()["inputSchema"] == json.loads(json.dumps(launch.parameters))
    assert one.json()["scopes"] == ["jobs"]
    assert none.status_code == 404


async def test_behind_another_authorization_server_the_page_names_it() -> None:
    with open_site(external_issuer="https://issuer.example", can_connect=True) as http:
        page = (await http.get("/")).text

    assert "a sign-in at https://issuer.example" in page
    assert "/connect" in page
