"""The Python SDK's client as it was in 2025: `mcp_older.py URL token|oauth`.

With `oauth` it signs in from nothing: it registers, and its person agrees to everything. It
launches a job, and says on standard output what it saw.
"""

import html
import json
import os
import re
import sys
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import anyio
import httpx
from mcp import ClientSession
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamablehttp_client
from mcp.shared.auth import OAuthClientMetadata

REDIRECT_URI = "http://127.0.0.1:8123/callback"


class Person:
    """The person at the browser, and what the client remembers."""

    def __init__(self) -> None:
        self.tokens: Any = None
        self.client: Any = None
        self.requested_scopes: list[str | None] = []
        self.callback: dict[str, list[str]] = {}

    async def get_tokens(self) -> Any:
        return self.tokens

    async def set_tokens(self, tokens: Any) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> Any:
        return self.client

    async def set_client_info(self, client_info: Any) -> None:
        self.client = client_info

    async def open_url(self, url: str) -> None:
        self.requested_scopes += parse_qs(urlsplit(url).query).get("scope", [None])
        async with httpx.AsyncClient(timeout=40) as browser:
            page = await browser.get(url)
            while not (target := page.headers.get("location", "")).startswith(REDIRECT_URI):
                if page.is_redirect:
                    page = await browser.get(urljoin(str(page.url), target))
                    continue
                action = re.search(r'<form[^>]*\saction="([^"]*)"', page.text)
                assert action is not None, page.text
                fields = re.findall(r'<input[^>]*\sname="([^"]*)" value="([^"]*)"', page.text)
                form = {name: html.unescape(value) for name, value in fields}
                button = re.search(r'<button[^>]*\sname="([^"]*)" value="allow"', page.text)
                assert button is not None, page.text
                form[button[1]] = "allow"
                page = await browser.post(urljoin(str(page.url), action[1]), data=form)
            self.callback = parse_qs(urlsplit(target).query)

    async def read_callback(self) -> tuple[str, str | None]:
        return self.callback["code"][0], self.callback.get("state", [None])[0]


async def main() -> None:
    url, mode = sys.argv[1:]
    person = Person()
    metadata = OAuthClientMetadata.model_validate(
        {
            "client_name": "holdfast-interop",
            "redirect_uris": [REDIRECT_URI],
            "token_endpoint_auth_method": "none",
        }
    )
    auth = OAuthClientProvider(url, metadata, person, person.open_url, person.read_callback)
    signed: dict[str, Any] = (
        {"auth": auth}
        if mode == "oauth"
        else {"headers": {"Authorization": f"Bearer {os.environ['HOLDFAST_TOKEN']}"}}
    )
    async with (
        streamablehttp_client(url, **signed) as (read, write, _),
        ClientSession(read, write) as session,
    ):
        greeting = await session.initialize()
        tools = (await session.list_tools()).tools
        arguments = {"image": "python:3.12", "command": ["true"]}
        launched = await session.call_tool("launch_job", arguments)
        who = await session.call_tool("whoami", {})
    report = {
        "protocol": greeting.protocolVersion,
        "tools": [tool.name for tool in tools],
        "requested": person.requested_scopes,
        "granted": person.tokens and person.tokens.scope,
        "failed": bool(launched.isError),
        "text": launched.content[0].text,
        "who": who.content[0].text,
    }
    sys.stdout.write(json.dumps(report))


anyio.run(main)
