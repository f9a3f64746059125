"""The command `python -m workers`: a worker that starts without Redis, and survives its loss."""

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

import anyio
import structlog
from arq.worker import Worker as ArqWorker
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, WatchError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rich.console import Console

from schema.common.errors import HoldfastError, Unavailable
from schema.common.observability import log_config
from schema.common.process import shutdown
from schema.common.process.background import run_in_background
from schema.db.revisions import WrongRevision
from schema.settings import Settings
from workers.context import Worker
from workers.loops import engine, reconcile_command
from workers.loops.heartbeats import probe_host
from workers.worker import arq_settings, build_worker, receive_wakeups

PROBE_OPTION: Final = "--probe"
_HAS_UVLOOP: Final = sys.platform != "win32"
_RETRY_PAUSE_SECONDS = 1.0
_CONNECTION_ERRORS = (RedisConnectionError, RedisTimeoutError, WatchError, OSError)

log = structlog.stdlib.get_logger()


async def run_worker(settings: Settings) -> None:
    """Carry out jobs until SIGTERM or SIGINT; wait for the database if it cannot be reached."""
    stop = anyio.Event()
    async with anyio.create_task_group() as signal_tasks:
        signal_tasks.start_soon(_stop_on_signal, stop)
        while not stop.is_set():
            try:
                await _run_once(settings, stop)
            except WrongRevision:
                raise  # it does not mend itself: an operator has to migrate, or to start another
            except Unavailable as error:
                log.warning("worker.waiting", error=str(error))
                with anyio.move_on_after(_RETRY_PAUSE_SECONDS):
                    await stop.wait()
        signal_tasks.cancel_scope.cancel()


async def _run_once(settings: Settings, stop: anyio.Event) -> None:
    async with AsyncExitStack() as resources:
        async with _cut_off_by(stop):  # a database that hangs may not hold up the stop
            worker = await resources.enter_async_context(build_worker(settings))
        if stop.is_set():
            return
        arq_tasks = await resources.enter_async_context(anyio.create_task_group())
        arq_tasks.start_soon(_receive_wakeups, worker, stop)
        await engine.run_loops(worker, stop)
        arq_tasks.cancel_scope.cancel()
    worker.activity.require_usable_revision()


@asynccontextmanager
async def _cut_off_by(stop: anyio.Event) -> AsyncGenerator[None]:
    """Cancel the block as soon as `stop` is set."""
    with anyio.CancelScope() as block:

        async def cancel_block() -> None:
            await stop.wait()
            block.cancel()

        async with run_in_background(cancel_block()):
            yield


async def _stop_on_signal(stop: anyio.Event) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            shutdown.end_within(shutdown.GRACE)
            stop.set()
            return


async def _receive_wakeups(worker: Worker, stop: anyio.Event) -> None:
    """Run arq, and wait for what it would find later, until the worker stops."""
    async with _cut_off_by(stop), run_in_background(receive_wakeups(worker)):
        await _run_arq(worker)


async def _run_arq(worker: Worker) -> None:
    """Run arq, and start it again whenever it fails: arq ends when Redis is lost, we do not."""
    is_disconnected = False
    while True:
        arq_worker = ArqWorker(**arq_settings(worker.settings, worker))
        try:
            await arq_worker.async_run()
        except Exception as error:  # anybody may have left bytes in the queue that arq cannot read
            if arq_worker.pool and not isinstance(error, _CONNECTION_ERRORS):
                log.exception("doorbell.broken")
                await _delete_unreadable_queue(arq_worker)
            elif arq_worker.pool or not is_disconnected:  # logged once, not every second
                log.warning("doorbell.lost", error=type(error).__name__)
            is_disconnected = True
        finally:
            await _close_arq_worker(arq_worker)
        await anyio.sleep(_RETRY_PAUSE_SECONDS)


async def _delete_unreadable_queue(arq_worker: ArqWorker) -> None:
    """Empty a queue that would break arq again; the sweep does without the wake-ups in it."""
    with anyio.move_on_after(_RETRY_PAUSE_SECONDS), suppress(RedisError, OSError):
        await arq_worker.pool.delete(arq_worker.queue_name)


async def _close_arq_worker(arq_worker: ArqWorker) -> None:
    """Close arq without a command to Redis: arq's own `close` would wait for the answer."""
    with anyio.move_on_after(_RETRY_PAUSE_SECONDS, shield=True), suppress(RedisError, OSError):
        for task in arq_worker.tasks.values():
            task.cancel()
        await asyncio.gather(*arq_worker.tasks.values(), return_exceptions=True)
        if arq_worker.pool:  # arq has none before Redis has answered
            await arq_worker.pool.aclose(close_connection_pool=True)


def _report_probe(settings: Settings) -> int:
    is_alive, sentence = anyio.run(probe_host, settings)
    sys.stdout.write(f"{sentence}\n")
    return 0 if is_alive else 1


async def _reconcile(settings: Settings, arguments: Sequence[str]) -> int:
    async with build_worker(settings) as worker:
        options = reconcile_command.parse_arguments(arguments)
        return await reconcile_command.run_reconcile(worker, options, Console(highlight=False))


def main() -> int:
    """Run a worker, probe the one of this host, or reconcile; say in a sentence why it cannot."""
    gc.freeze()  # modules stay: to look through them would take a third of a second at the end
    log_config.configure_logging()
    exit_code = 0
    try:
        settings = Settings.from_env()
        if sys.argv[1:] == [PROBE_OPTION]:
            return _report_probe(settings)
        if sys.argv[1:2] == [reconcile_command.NAME]:
            return anyio.run(_reconcile, settings, sys.argv[2:])
        anyio.run(run_worker, settings, backend_options={"use_uvloop": _HAS_UVLOOP})
    except* HoldfastError as group:
        exit_code = 1
        for error in group.exceptions:
            sys.stderr.write(f"{error}\n")
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
