"""`python -m workers`: a worker that needs no Redis to be there, and none to stay."""

import asyncio
import signal
import sys
from contextlib import suppress

import anyio
import structlog
from arq.worker import Worker as Listener
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, WatchError
from redis.exceptions import TimeoutError as RedisTimeoutError

from schema.common import log_config
from schema.common.errors import HoldfastError, Unavailable
from schema.settings import Settings
from workers.context import Worker
from workers.loops import engine
from workers.worker import arq_settings, build_worker

_RETRY_PAUSE_SECONDS = 1.0
_CONNECTION_ERRORS = (RedisConnectionError, RedisTimeoutError, WatchError, OSError)

log = structlog.stdlib.get_logger()


async def run_worker(settings: Settings) -> None:
    """Carry jobs until SIGTERM or SIGINT."""
    stop = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_stop_on_signal, stop)
        while not stop.is_set():
            try:
                async with build_worker(settings) as worker, anyio.create_task_group() as beside:
                    beside.start_soon(_run_arq_listener, worker)
                    await engine.run_loops(worker, stop)
                    beside.cancel_scope.cancel()
            except Unavailable as error:
                log.warning("worker.waiting", error=str(error))
                await anyio.sleep(_RETRY_PAUSE_SECONDS)
        tasks.cancel_scope.cancel()


async def _stop_on_signal(stop: anyio.Event) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            stop.set()
            return


async def _run_arq_listener(worker: Worker) -> None:
    """Answer the doorbell for as long as there is one; arq gives up where we do not."""
    away = False
    while True:
        listener = Listener(**arq_settings(worker.settings, worker))
        try:
            await listener.async_run()
        except Exception as error:  # arq, over bytes that anyone may have left there
            if listener.pool and not isinstance(error, _CONNECTION_ERRORS):
                log.exception("doorbell.broken")
                await _delete_unreadable_queue(listener)
            elif listener.pool or not away:  # said when it goes, not each second until it returns
                log.warning("doorbell.lost", error=type(error).__name__)
            away = True
        finally:
            await _close_listener(listener)
        await anyio.sleep(_RETRY_PAUSE_SECONDS)


async def _delete_unreadable_queue(listener: Listener) -> None:
    """Empty a queue that cannot be read: it would break us again, and the sweep needs no wake."""
    with anyio.move_on_after(_RETRY_PAUSE_SECONDS), suppress(RedisError, OSError):
        await listener.pool.delete(listener.queue_name)


async def _close_listener(listener: Listener) -> None:
    """Close a listener without a word to Redis, whose answer arq's own `close` would wait for."""
    with anyio.move_on_after(_RETRY_PAUSE_SECONDS, shield=True), suppress(RedisError, OSError):
        for task in listener.tasks.values():
            task.cancel()
        await asyncio.gather(*listener.tasks.values(), return_exceptions=True)
        if listener.pool:  # there is none before Redis has answered
            await listener.pool.aclose(close_connection_pool=True)


def main() -> int:
    """Run a worker; what keeps it from running is said in a sentence."""
    log_config.configure_logging()
    code = 0
    try:
        anyio.run(run_worker, Settings.from_env())
    except* HoldfastError as wrong:
        code = 1
        for error in wrong.exceptions:
            sys.stderr.write(f"{error}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
