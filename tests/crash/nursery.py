"""Starts the processes of the crash tests by forking one that has imported everything already.

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
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import uvicorn

from schema.common import log_config
from service.cli.server import serve
from service.local.hub_emulator.app import create_hub
from tests.crash.faults import Fault, FaultyHub
from tests.routing import CountingRouter
from workers.__main__ import main as work

_PR_SET_PDEATHSIG: Final = 1


def _worker() -> int:
    return work()


def _service(port: int) -> int:
    serve("127.0.0.1", port)
    return 0


def _hub(folder: str, port: int, fault: str) -> int:
    log_config.configure()
    hub = create_hub(Path(folder), scheduling=timedelta(seconds=0.2))
    listener = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(
        FaultyHub(hub, Fault(fault)), log_config=None, timeout_graceful_shutdown=1
    )
    uvicorn.Server(config).run(sockets=[listener])
    return 0


def _router(folder: str, port: int, ledger: str) -> int:
    log_config.configure()
    router = CountingRouter(create_hub(Path(folder)), delay=0.02, ledger=Path(ledger))
    listener = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(router, log_config=None, timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])
    return 0


_ROLES: Final[dict[str, Callable[..., int]]] = {
    "worker": _worker,
    "service": _service,
    "hub": _hub,
    "router": _router,
}


def _become(order: dict[str, Any]) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.setsid()
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(order["environment"])
    code = 1
    try:
        code = _ROLES[order["role"]](*order["arguments"])
    finally:
        os._exit(code)


def _say(**said: int) -> None:
    sys.stdout.write(f"{json.dumps(said)}\n")
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
                    _become(json.loads(line))
                children.add(pid)
                _say(pid=pid)
        for pid in list(children):
            with suppress(ChildProcessError):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    children.discard(pid)
                    _say(pid=pid, code=os.waitstatus_to_exitcode(status))
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
