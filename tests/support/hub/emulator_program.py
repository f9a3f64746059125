"""The Hub emulator as a program, with the delays of its jobs as arguments.

    python3 -m tests.support.hub.emulator_program FOLDER PORT QUOTA SCHEDULING_SECONDS FLUSH_SECONDS

A module of its own, so that the process imports no more than it serves.
"""

import sys
from datetime import timedelta
from functools import partial
from pathlib import Path

import anyio

from service.local.hub_emulator.app import serve_hub_emulator

if __name__ == "__main__":
    folder, port, quota, scheduling_seconds, flush_seconds = sys.argv[1:]
    anyio.run(
        partial(
            serve_hub_emulator,
            Path(folder),
            port=int(port),
            quota=int(quota),
            scheduling_delay=timedelta(seconds=float(scheduling_seconds)),
            flush_delay=timedelta(seconds=float(flush_seconds)),
        )
    )
