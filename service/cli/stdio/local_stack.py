"""The bridge to a local stack, which lives as long as the client that started the bridge.

    main thread: lock ─▶ Stack, or the stack of whoever has the lock ─▶ its end ─▶ lock …
    own thread:  the bridge; a call waits while there is no stack

Linux ends the children of a stack when the thread that started them ends, and Python takes signals
on the main thread, so the stack is there. The end of the bridge is a signal for it. However this
process dies, the kernel ends the children, and the folder has what it had.

Clients start the same program twice, for two windows. The second one uses the stack of the first,
and starts its own on the same folder when the first one ends.
"""

import os
import signal
import time
from argparse import Namespace
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from types import FrameType
from typing import Final

import anyio
from anyio import from_thread
from anyio.lowlevel import EventLoopToken, current_token

from service.cli.stdio.service_client import ExchangeFailed, Target, TargetFinder
from service.cli.stdio.tokens import TokenSource
from service.local.data_dir import HUB_FOLDER, is_locked
from service.local.errors import AlreadyRunning, CannotStart
from service.local.hub_emulator.users import load_users
from service.local.last_start import LastStart
from service.local.stack import Stack

_LOCK_CHECK_INTERVAL: Final = timedelta(milliseconds=200)
_OWN_VARIABLES: Final = ("HOLDFAST_TOKEN",)
"""The token of the caller is none of the service's business, as HF_TOKEN is not."""
_OUTAGE_ADVICE: Final = "It is being started again; call again in a few seconds."

RunBridge = Callable[[TargetFinder], Awaitable[None]]


class LocalService:
    """The local stack that serves now; known in the loop of the bridge."""

    is_on_this_machine = True

    def __init__(self) -> None:
        self._target: Target | None = None
        self._problem: str | None = None
        self._changed = anyio.Event()

    def publish(self, target: Target | None, problem: str | None = None) -> None:
        """Make a stack known, or that there is none now.

        Args:
            target: the stack; None while there is none.
            problem: why there will be none.
        """
        self._target, self._problem = target, problem
        self._changed.set()
        self._changed = anyio.Event()

    async def find_target(self) -> Target:
        """Return the stack, after waiting for it.

        Raises:
            ExchangeFailed: it cannot start.
        """
        while self._target is None:
            if self._problem is not None:
                raise ExchangeFailed(self._problem, code="cannot_start")
            await self._changed.wait()
        return self._target


class _BridgeThread:
    """The thread of the bridge, and the way to tell it which stack serves."""

    def __init__(self, run_bridge: RunBridge) -> None:
        self._run_bridge = run_bridge
        self._ready = SimpleQueue[tuple[LocalService, EventLoopToken]]()
        Thread(target=self._run, daemon=True).start()
        self._service, self._token = self._ready.get()

    def publish(self, target: Target | None, problem: str | None = None) -> None:
        """See `LocalService`; after the end of the bridge it does nothing."""
        with suppress(anyio.RunFinishedError):
            from_thread.run_sync(self._service.publish, target, problem, token=self._token)

    def _run(self) -> None:
        async def serve() -> None:
            service = LocalService()
            self._ready.put((service, current_token()))
            await self._run_bridge(service)

        try:
            anyio.run(serve)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)


def run_beside_stack(
    options: Namespace,
    tokens: TokenSource,
    choices: dict[str, str],
    run_bridge: RunBridge,
    report: Callable[[str], None],
) -> int:
    """Run a bridge and a local stack until the input of the bridge ends.

    Args:
        options: those of the command line.
        tokens: who calls, if the stack has a real Hub; else it is the first local user.
        choices: headers that choose tools.
        run_bridge: serves until the input ends.
        report: is told what happens.

    Returns:
        The exit code.
    """
    exit_code = 0
    with suppress(KeyboardInterrupt):
        _interrupt_once()
        bridge = _BridgeThread(run_bridge)

        def publish(url: str | None, hub_url: str | None = None) -> None:
            if url is None:
                bridge.publish(None)
                return
            users = load_users(options.data / HUB_FOLDER) if hub_url is None else []
            sent = {"authorization": f"Bearer {users[0].token}"} if users else tokens.read_headers()
            bridge.publish(Target(f"{url}/mcp", {**sent, **choices}, tokens.advice, _OUTAGE_ADVICE))

        try:
            _supervise(options.data, options.hub, publish, report)
        except CannotStart as error:
            exit_code = 1
            report(str(error))
            # The client shows the answer to its first request, and nobody reads the log.
            bridge.publish(None, str(error))
            while True:
                signal.pause()
    return exit_code


def _supervise(
    folder: Path,
    hub_url: str | None,
    publish: Callable[..., None],
    report: Callable[[str], None],
) -> None:
    """Run the stack, or follow the one that runs on the folder, until the interrupt."""
    while True:
        try:
            with Stack(folder, report=report, hub_url=hub_url, uninherited=_OWN_VARIABLES) as stack:
                publish(stack.url, hub_url)
                stack.run_until_interrupted()
                return
        except AlreadyRunning:
            _follow_other_stack(folder, hub_url, publish, report)


def _follow_other_stack(
    folder: Path,
    hub_url: str | None,
    publish: Callable[..., None],
    report: Callable[[str], None],
) -> None:
    """Use the stack of another process until that ends.

    Raises:
        CannotStart: it has another Hub.
    """
    report(f"Another Holdfast runs on {folder}; using that.")
    is_published = False
    while is_locked(folder):
        last_start = LastStart.load(folder)
        if not is_published and last_start is not None and last_start.is_running:
            if last_start.hub_url != hub_url:
                raise CannotStart(
                    f"The Holdfast that runs on {folder} has the Hub "
                    f"{last_start.hub_url or 'of this machine'}. Choose the same with --hub, or "
                    f"another folder with --data."
                )
            publish(last_start.url, hub_url)
            is_published = True
        time.sleep(_LOCK_CHECK_INTERVAL.total_seconds())
    report("The other Holdfast has ended; starting one here.")
    publish(None)


def _interrupt_once() -> None:
    """Let the first signal interrupt the main thread; later ones leave it to stop the stack.

    A client closes the input, and sends SIGTERM if the stack has not ended within two seconds.
    """
    is_interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal is_interrupted
        if not is_interrupted:
            is_interrupted = True
            raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # nohup ignores SIGHUP, and that must stay so.
        if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)
