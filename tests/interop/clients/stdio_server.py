"""The part that all clients share: read a call from standard input, write its result."""

import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import anyio

Call = Callable[[str, dict[str, Any]], Awaitable[Any]]


async def talk(version: str | None, server: str, tools: Iterable[Any], call: Call) -> None:
    """Talk until there is nothing more to be read."""
    _say({"version": version, "server": server, "tools": [tool.name for tool in tools]})
    while line := await anyio.to_thread.run_sync(sys.stdin.readline):
        call_request = json.loads(line)
        result = await call(call_request["name"], call_request["arguments"])
        _say(result.model_dump(mode="json", by_alias=True))


def run(main: Callable[[str, dict[str, str], str], Awaitable[None]]) -> None:
    """Run a client that takes a URL, headers and a mode."""
    url, mode = sys.argv[1:]
    token = os.environ["HOLDFAST_TOKEN"]
    anyio.run(partial(main, url, {"Authorization": f"Bearer {token}"}, mode))


def _say(what: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(what)}\n")
    sys.stdout.flush()
