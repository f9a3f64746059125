"""The files that one real launch goes through, from the tool to the POST, and on to job_status.

    python3 -m tests.bench.call_path [--list]

A service, a worker's claim loop and the Hub emulator run on real servers. Two counts are printed
for each way. `on the way` are the files on the call stack, from the call of the tool or the claim
loop down, when a statement is executed or the request is sent: those a reader steps through.
`entered` are all files of which a function is called below the tool or the claim loop, leaf
functions included. `--list` names them.
"""

import argparse
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, Final

import anyio
import asyncpg
from rich.console import Console
from rich.table import Table

from schema.db import revisions
from schema.settings import Settings
from service.app import create_app
from service.local.hub_emulator.users import find_user
from tests.support.database.servers import run_postgres, run_valkey
from tests.support.http_server import serve_app
from tests.support.hub.emulator_process import run_hub_emulator
from tests.support.mcp.client import call_for_result
from tests.support.paths import REPOSITORY
from workers.loops.claim_jobs import ClaimLoop
from workers.worker import build_worker

_PACKAGES: Final = ("schema", "service", "workers")
_DRIVER: Final = str(Path(asyncpg.__file__).with_name("connection.py"))
_STATEMENTS: Final = frozenset({"fetch", "fetchrow", "fetchval", "execute"})
_POST: Final = ("workers/hub/client.py", "create_job")
_CLAIM_LOOP: Final = "workers/loops/claim_jobs.py"
_ROOTS: Final = frozenset(
    {
        ("service/mcp/tool.py", "run"),
        (_CLAIM_LOOP, "claim_due_jobs"),
        (_CLAIM_LOOP, "_run_attempt"),
    }
)
"""Where a tool call, a claim and an attempt begin."""
_POST_TIMEOUT_SECONDS: Final = 30


class CallRecorder:
    """Records the files of ours that are called below a tool or the claim loop, up to the POST."""

    def __init__(self) -> None:
        self.entered: list[str] = []
        self.on_the_way: list[str] = []
        self.posted = False

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Look at a call, as `sys.setprofile` reports it."""
        if event != "call" or self.posted:
            return
        is_statement = frame.f_code.co_filename == _DRIVER and frame.f_code.co_name in _STATEMENTS
        if not (is_statement or _own_path(frame)) or (stack := _stack_below_root(frame)) is None:
            return
        _add(self.entered, stack[-1:])
        self.posted = (_own_path(frame), frame.f_code.co_name) == _POST
        if self.posted or is_statement:
            _add(self.on_the_way, stack)

    def reset(self) -> None:
        """Forget what was recorded."""
        self.entered, self.on_the_way, self.posted = [], [], False


def _stack_below_root(frame: FrameType | None) -> list[str] | None:
    stack: list[str] = []
    while frame is not None:
        if (path := _own_path(frame)) is not None:
            stack.append(path)
        if (path, frame.f_code.co_name) in _ROOTS:
            return stack[::-1]
        frame = frame.f_back
    return None


def _own_path(frame: FrameType) -> str | None:
    path = Path(frame.f_code.co_filename)
    if not path.is_relative_to(REPOSITORY) or frame.f_code.co_name == "<module>":
        return None
    relative = path.relative_to(REPOSITORY)
    return str(relative) if relative.parts[0] in _PACKAGES else None


def _add(paths: list[str], more: list[str]) -> None:
    paths += [path for path in dict.fromkeys(more) if path not in paths]


async def record_launch(settings: Settings, token: str) -> dict[str, tuple[list[str], list[str]]]:
    """Launch a job, send it to the Hub, read its status; return the files of both ways."""
    recorder = CallRecorder()
    threading.setprofile(recorder)
    ways: dict[str, tuple[list[str], list[str]]] = {}
    try:
        with serve_app(create_app(settings)) as url:
            # So that prices are cached: a launch does not fetch them.
            await call_for_result(url, "list_hardware", caller_token=token)
            recorder.reset()
            view = await call_for_result(
                url, "launch_job", caller_token=token, image="python:3.12", command=["true"]
            )
            async with build_worker(settings) as worker, anyio.create_task_group() as attempts:
                loop = ClaimLoop(worker, attempts)
                sys.setprofile(recorder)
                await loop.claim_due_jobs()
                with anyio.fail_after(_POST_TIMEOUT_SECONDS):
                    while not recorder.posted:  # noqa: ASYNC110  # a profile sets it
                        await anyio.sleep(0.01)  # until the attempt has come to its POST
                sys.setprofile(None)
            ways["launch_job to the POST"] = ([*recorder.on_the_way], [*recorder.entered])
            recorder.posted = False
            await call_for_result(url, "job_status", caller_token=token, job_ids=view["job_id"])
            ways["and on to job_status"] = (recorder.on_the_way, recorder.entered)
    finally:
        threading.setprofile(None)
        sys.setprofile(None)
    return ways


def main() -> None:
    """Start servers, launch one job, print the counts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--list", action="store_true", help="name the files")
    options = parser.parse_args()
    with (
        TemporaryDirectory() as folder,
        run_postgres(Path(folder) / "postgres") as postgres,
        run_valkey(Path(folder) / "valkey") as valkey,
        run_hub_emulator(Path(folder) / "hub") as hub,
    ):
        revisions.upgrade_to_revision(postgres)
        settings = Settings.model_validate(
            {
                "HOLDFAST_DATABASE_URL": postgres,
                "HOLDFAST_REDIS_URL": valkey,
                "vault_keys": f"1:{'A' * 43}=",
                "hub_url": hub.url,
                "router_url": hub.url,
            }
        )
        token = find_user(hub.users, "alice").token
        ways = anyio.run(record_launch, settings, token)
    table = Table("way", "files on the way", "files entered")
    for name, (on_the_way, entered) in ways.items():
        table.add_row(name, str(len(on_the_way)), str(len(entered)))
    console = Console()
    console.print(table)
    if options.list:
        for name, (on_the_way, entered) in ways.items():
            console.print(f"{name}, on the way:", *on_the_way, sep="\n  ", highlight=False)
            others = [path for path in entered if path not in on_the_way]
            console.print("only entered:", *others, sep="\n  ", highlight=False)


if __name__ == "__main__":
    main()
