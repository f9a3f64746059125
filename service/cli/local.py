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

DEFAULT_PORT: Final = 8765


def run_demo(options: argparse.Namespace) -> int:
    """Run everything on this machine, show one job from launch to result, and stop."""
    console = Console()
    with Stack(options.data, report=_build_reporter(console)) as stack:
        connection = _get_local_connection(stack.folder, stack.url)
        succeeded = anyio.run(demo.run_demo_job, console, connection, stack.database_url)
        console.print("\nThe same with a client of yours: [bold]python3 -m service up[/], and then")
        demo.print_client_configs(console, connection)
    return 0 if succeeded else 1


def run_up(options: argparse.Namespace) -> int:
    """Run everything on this machine until Ctrl-C."""
    console = Console()
    with Stack(
        options.data, report=_build_reporter(console), port=options.port, hub_url=options.hub
    ) as stack:
        local = options.hub is None
        connection = (
            _get_local_connection(stack.folder, stack.url) if local else Connection(stack.url, None)
        )
        console.print(f"\nServing MCP at [bold]{connection.endpoint}[/]. Ctrl-C stops everything.")
        demo.print_client_configs(console, connection)
        stack.run_until_interrupted()
    return 0


def run_hub(options: argparse.Namespace) -> int:
    """Run the local Hub: jobs as processes of this machine, on the loopback address only."""
    log_config.configure_logging()
    anyio.run(partial(hub.serve_hub_emulator, options.data, port=options.port))
    return 0


def run_connect(options: argparse.Namespace) -> int:
    """Print the configuration to paste into Claude, Cursor or VS Code."""
    if options.url:
        connection = Connection(options.url, options.token)
    else:
        connection = _get_local_connection(options.data, f"http://127.0.0.1:{DEFAULT_PORT}")
    demo.print_client_configs(Console(), connection)
    return 0


def _get_local_connection(data_dir: Path, url: str) -> Connection:
    """Say how the first user of the local Hub reaches the service."""
    return Connection(url, load_users(data_dir / "hub")[0].token)


def _build_reporter(console: Console) -> Callable[[str], None]:
    return lambda said: console.print(f"[dim]{said}[/]", highlight=False)
