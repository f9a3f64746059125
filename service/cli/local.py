"""The commands that run on one machine: `demo`, `up` and `hub`.

Only this module imports `service.local`. `service.cli.main` imports this module when one of these
commands runs, so `serve` and `worker` load nothing of it and the production image leaves it out.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
from rich.console import Console

from schema.common import log_config
from service.cli import demo
from service.cli.client_config import Connection, print_client_configs
from service.local.hub_emulator import app as hub
from service.local.hub_emulator.users import load_users
from service.local.stack import Stack


def run_demo(options: argparse.Namespace) -> int:
    """Run `holdfast demo`: start the stack, show one job from launch to result, and stop."""
    console = Console()
    with Stack(options.data, report=_build_reporter(console)) as stack:
        connection = get_local_connection(stack.folder, stack.url)
        succeeded = anyio.run(demo.run_demo_job, console, connection, stack.database_url)
        console.print("\nThe same with a client of yours: [bold]python3 -m service up[/], and then")
        print_client_configs(console, connection)
    return 0 if succeeded else 1


def run_up(options: argparse.Namespace) -> int:
    """Run `holdfast up`: start the stack and serve until Ctrl-C."""
    console = Console()
    with Stack(
        options.data, report=_build_reporter(console), port=options.port, hub_url=options.hub
    ) as stack:
        connection = (
            get_local_connection(stack.folder, stack.url)
            if options.hub is None
            else Connection(stack.url, None)
        )
        console.print(f"\nServing MCP at [bold]{connection.endpoint}[/]. Ctrl-C stops everything.")
        print_client_configs(console, connection)
        stack.run_until_interrupted()
    return 0


def run_hub(options: argparse.Namespace) -> int:
    """Run `holdfast hub`: serve the emulated Hub until SIGTERM or SIGINT."""
    log_config.configure_logging()
    anyio.run(partial(hub.serve_hub_emulator, options.data, port=options.port))
    return 0


def get_local_connection(data_dir: Path, url: str) -> Connection:
    """Return the connection to the service at `url` as the first user of the local Hub."""
    return Connection(url, load_users(data_dir / "hub")[0].token)


def _build_reporter(console: Console) -> Callable[[str], None]:
    return lambda sentence: console.print(f"[dim]{sentence}[/]", highlight=False)
