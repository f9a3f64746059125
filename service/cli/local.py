"""The commands that start the local stack, `demo` and `up`, its Hub, and how others find a stack.

What a command needs only when its stack is up is imported while the servers start.

Only this module and `service.cli.stdio.local_stack` import `service.local`. `service.cli.main`
imports them when such a command runs, so `serve` and `worker` load nothing of it and the production
image leaves it out.
"""

import argparse
import shlex
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Final

import anyio
from rich.console import Console

from schema.common.http import DEFAULT_PORT, LOOPBACK
from schema.common.process.imports import no_collections
from service.cli.options import COMMAND, DEFAULT_DATA_DIR
from service.local.data_dir import HUB_FOLDER, create_data_dir
from service.local.environment import running_environment
from service.local.errors import CannotStart
from service.local.hub_emulator.users import has_users, load_users
from service.local.last_start import LastStart
from service.local.stack import Stack
from service.web.client_config import Connection

_TRACING_VARIABLES: Final = ("HOLDFAST_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Many shells name a collector for other programs; `demo` installs nothing that makes traces."""


def run_demo(options: argparse.Namespace) -> int:
    """Run `holdfast demo`: start the stack, show one job from launch to result, and stop."""
    console = Console()
    _import_meanwhile("service.cli.demo")
    with Stack(
        options.data, report=_build_reporter(console), uninherited=_TRACING_VARIABLES
    ) as stack:
        from service.cli import demo  # noqa: PLC0415  # see above

        connection = _connect_as_local_user(stack.folder, stack.url)
        succeeded = anyio.run(demo.run_demo_job, console, connection, stack.database_url)
    _print_next_steps(console, options, "up", "connect")
    return 0 if succeeded else 1


def run_up(options: argparse.Namespace) -> int:
    """Run `holdfast up`: start the stack and serve until Ctrl-C."""
    console = Console()
    _import_meanwhile("schema.accounts.vault_keys")
    with Stack(
        options.data, report=_build_reporter(console), port=options.port, hub_url=options.hub
    ) as stack:
        endpoint = Connection(stack.url, None).endpoint
        anyio.run(_warn_of_missing_keys, console, stack.environment)
        console.print(f"\nServing MCP at [bold]{endpoint}[/]. Ctrl-C stops everything.")
        _print_next_steps(console, options, "connect")
        stack.run_until_interrupted()
    return 0


def run_hub(options: argparse.Namespace) -> int:
    """Run `holdfast hub`: serve the emulated Hub until SIGTERM or SIGINT."""
    from schema.common.observability import log_config  # noqa: PLC0415  # `up` needs neither
    from service.local.hub_emulator import app  # noqa: PLC0415

    create_data_dir(options.data)
    log_config.configure_logging()
    anyio.run(partial(app.serve_hub_emulator, options.data / HUB_FOLDER, port=options.port))
    return 0


def find_local_connection(data_dir: Path, token: str | None) -> Connection:
    """Return the connection to the service of a data folder.

    Args:
        data_dir: the folder that `up`, `demo` or `hub` has used.
        token: what the client is to send; None is the first user of the local Hub, and no token
            if the service uses another Hub.

    Raises:
        CannotStart: nothing has used the folder.
    """
    last_start = LastStart.load(data_dir)
    if last_start is None and not has_users(_hub_folder(data_dir)):
        raise CannotStart(
            f"No Holdfast has run on {data_dir}. Start one with "
            f"`{COMMAND} up{_data_option(data_dir)}`, or name a service with --url."
        )
    if last_start is None or not last_start.is_running:
        Console(stderr=True).print(
            f"No service runs on {data_dir} now. Start it with "
            f"`{COMMAND} up{_data_option(data_dir)}`.",
            style="yellow",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
    url = last_start.url if last_start else f"http://{LOOPBACK}:{DEFAULT_PORT}"
    if token is not None or (last_start and last_start.hub_url is not None):
        return Connection(url, token)
    return _connect_as_local_user(data_dir, url)


def find_stack_environment(data_dir: Path | None) -> Mapping[str, str] | None:
    """Return the settings of the stack that runs on a data folder.

    Args:
        data_dir: the folder; None is the usual one.

    Returns:
        None if no stack runs on the usual folder.

    Raises:
        CannotStart: no stack runs on the folder that was named.
    """
    folder = data_dir or DEFAULT_DATA_DIR
    last_start = LastStart.load(folder)
    if last_start is None or not last_start.is_running:
        if data_dir is None:
            return None
        raise CannotStart(
            f"No Holdfast runs on {data_dir}. Start one with "
            f"`{COMMAND} up{_data_option(data_dir)}`."
        )
    return running_environment(
        folder.resolve(),
        last_start.servers,
        hub_is_local=last_start.hub_url is None,
        public_url=last_start.url,
    )


async def _warn_of_missing_keys(console: Console, environment: Mapping[str, str]) -> None:
    """Say that the keys of the vault are not those that sealed what the database has."""
    from schema.accounts.row_security import open_worker_database  # noqa: PLC0415  # see above
    from schema.accounts.vault import Vault  # noqa: PLC0415
    from schema.accounts.vault_keys import (  # noqa: PLC0415
        compare_vault_keys,
        describe_missing_keys,
    )

    vault = Vault.from_key_ring(environment["HOLDFAST_VAULT_KEYS"])
    async with (
        open_worker_database(
            environment["HOLDFAST_DATABASE_URL"], application_name="holdfast-up", pooled=False
        ) as database,
        database.transaction() as tx,
    ):
        if missing := await compare_vault_keys(tx, vault):
            console.print(describe_missing_keys(missing), style="red", highlight=False)


def _import_meanwhile(module: str) -> None:
    """Import a module in a thread; an `import` of it later waits for the rest of that."""

    def import_it() -> None:
        with no_collections():
            import_module(module)

    Thread(target=import_it, daemon=True).start()


def _connect_as_local_user(data_dir: Path, url: str) -> Connection:
    return Connection(url, load_users(_hub_folder(data_dir))[0].token)


def _hub_folder(data_dir: Path) -> Path:
    return data_dir / HUB_FOLDER


def _print_next_steps(console: Console, options: argparse.Namespace, *commands: str) -> None:
    """Say which commands come next."""
    purposes = {
        "up": "runs the same until Ctrl-C",
        "connect": "prints what to paste into Claude, ChatGPT, Cursor, VS Code, Codex or Gemini",
    }
    console.print("\nNext:")
    for command in commands:
        line = f"  {COMMAND} {command}{_data_option(options.data)}"
        console.print(line, style="bold", soft_wrap=True, highlight=False, markup=False)
        console.print(f"    {purposes[command]}", highlight=False, markup=False)


def _data_option(data_dir: Path) -> str:
    return "" if data_dir == DEFAULT_DATA_DIR else f" --data {shlex.quote(str(data_dir))}"


def _build_reporter(console: Console) -> Callable[[str], None]:
    return lambda sentence: console.print(f"[dim]{sentence}[/]", highlight=False)
