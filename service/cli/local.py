"""service.cli.local."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import anyio
from rich.console import Console

from schema.common import log_config
from service.cli import demo
from service.cli.client_config import Connection
from service.local.hub_emulator import app as hub
from service.local.hub_emulator.users import load_users
from service.local.stack import Stack

_PORT: Final = 8765


def _demo(chosen: argparse.Namespace) -> int:
    """Run everything on this machine, show one job from launch to result, and stop."""
    console = Console()
    with Stack(chosen.data, report=_reporter(console)) as stack:
        connection = _local_connection(stack.folder, stack.url)
        succeeded = anyio.run(demo.show, console, connection, stack.database_url)
        console.print("\nThe same with a client of yours: [bold]python3 -m service up[/], and then")
        demo.show_recipes(console, connection)
    return 0 if succeeded else 1


def _up(chosen: argparse.Namespace) -> int:
    """Run everything on this machine until Ctrl-C."""
    console = Console()
    with Stack(
        chosen.data, report=_reporter(console), port=chosen.port, hub_url=chosen.hub
    ) as stack:
        local = chosen.hub is None
        connection = (
            _local_connection(stack.folder, stack.url) if local else Connection(stack.url, None)
        )
        console.print(f"\nServing MCP at [bold]{connection.endpoint}[/]. Ctrl-C stops everything.")
        demo.show_recipes(console, connection)
        stack.wait()
    return 0


def _hub(chosen: argparse.Namespace) -> int:
    """Run the local Hub: jobs as processes of this machine, on the loopback address only."""
    log_config.configure()
    anyio.run(partial(hub.serve, chosen.data, port=chosen.port))
    return 0


def _connect(chosen: argparse.Namespace) -> int:
    """Print the configuration to paste into Claude, Cursor or VS Code."""
    if chosen.url:
        connection = Connection(chosen.url, chosen.token)
    else:
        connection = _local_connection(chosen.data, f"http://127.0.0.1:{_PORT}")
    demo.show_recipes(Console(), connection)
    return 0


def _local_connection(folder: Path, url: str) -> Connection:
    """Say how the first user of the local Hub reaches the service."""
    return Connection(url, load_users(folder / "hub")[0].token)


def _reporter(console: Console) -> Callable[[str], None]:
    return lambda said: console.print(f"[dim]{said}[/]", highlight=False)
