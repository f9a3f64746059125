"""The command `hub`: the emulated Hub by itself, a process that the local stack starts."""

import argparse
from functools import partial

import anyio

from schema.common.observability import log_config
from service.local.data_dir import HUB_FOLDER, create_data_dir
from service.local.hub_emulator import app


def run_hub(options: argparse.Namespace) -> int:
    """Run `holdfast hub`: serve the emulated Hub until SIGTERM or SIGINT."""
    create_data_dir(options.data)
    log_config.configure_logging()
    anyio.run(partial(app.serve_hub_emulator, options.data / HUB_FOLDER, port=options.port))
    return 0
