"""A server that forks the processes of the crash tests, with every module imported already.

Run as a program: it reads a JSON object a line (`role`, `environment`, `arguments`, `log`), answers
with `{"pid"}`, and says `{"pid", "code"}` when a child has ended. A child dies with it.
"""

import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import uvicorn

from schema.common.observability import log_config
from service.cli.server import serve
from service.local.hub_emulator.app import create_hub_emulator
from tests.crash.faulty_hub import Fault, FaultyHub
from tests.support.hub.model_router import CountingRouter
from workers.__main__ import main as work

_PR_SET_PDEATHSIG: Final = 1


def _run_worker() -> int:
    return work()


def _run_service(port: int) -> int:
    serve("127.0.0.1", port)
    return 0


def _run_hub(folder: str, port: int, fault: str) -> int:
    log_config.configure_logging()
    hub = create_hub_emulator(Path(folder), scheduling_delay=timedelta(seconds=0.2))
    listener = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(
        FaultyHub(hub, Fault(fault)), log_config=None, timeout_graceful_shutdown=1
    )
    uvicorn.Server(config).run(sockets=[listener])
    return 0


def _run_router(folder: str, port: int, ledger: str) -> int:
    log_config.configure_logging()
    router = CountingRouter(
        create_hub_emulator(Path(folder)), delay_seconds=0.02, prompt_log=Path(ledger)
    )
    listener = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(router, log_config=None, timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])
    return 0


_ROLES: Final[dict[str, Callable[..., int]]] = {
    "worker": _run_worker,
    "service": _run_service,
    "hub": _run_hub,
    "router": _run_router,
}


def _run_child(request: dict[str, Any]) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.setsid()
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(request["environment"])
    code = 1
    try:
        code = _ROLES[request["role"]](*request["arguments"])
    except BaseException:
        traceback.print_exc()  # `_exit` below ends the process before Python would
        raise
    finally:
        os._exit(code)


def _write_message(**fields: int) -> None:
    sys.stdout.write(f"{json.dumps(fields)}\n")
    sys.stdout.flush()


def main() -> None:
    """Fork what is asked for until the input ends, and end what is left then."""
    gc.freeze()
    children: set[int] = set()
    unread = b""
    while True:
        readable, _, _ = select.select([0], [], [], 0.02)
        if readable:
            read = os.read(0, 65536)
            if not read:
                break
            *lines, unread = (unread + read).split(b"\n")
            for line in lines:
                if (pid := os.fork()) == 0:
                    _run_child(json.loads(line))
                children.add(pid)
                _write_message(pid=pid)
        for pid in list(children):
            with suppress(ChildProcessError):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    children.discard(pid)
                    _write_message(pid=pid, code=os.waitstatus_to_exitcode(status))
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
