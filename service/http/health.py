"""Health endpoints for supervisors and load balancers: is the process alive, can it serve.

Ready means that a call can be served from end to end: the database is at our revision and takes
a write. Without Redis it can, and workers start a little later. Without workers it can too: jobs
wait, and are safe. Both are shown. The pages are open, so they name no host and no login.
"""

import os
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from schema.common.errors import Unavailable
from schema.db.database import Transaction
from schema.db.failures import TAKES_NO_WRITES, explain_database_failure
from schema.jobs.monitoring import heartbeats
from schema.jobs.monitoring.heartbeats import WorkerPresence
from schema.messaging.failures import explain_redis_failure
from service.runtime.context import App

_COUNT_WORKERS: Final = "SELECT workers_connected()"
_TAKES_WRITES: Final = "SELECT current_setting('transaction_read_only') = 'off'"
_WRITE: Final = "SELECT pg_logical_emit_message(true, 'holdfast', 'ready')"
"""A record in the write-ahead log, which a commit flushes: a write that leaves no row."""


async def answer_live(_: Request) -> Response:
    """Say that the process runs."""
    return PlainTextResponse("ok")


async def answer_ready(request: Request) -> Response:
    """Say whether calls can be served; without Redis they can, and workers start a little later."""
    app: App = request.app.state.app
    try:
        revision = await app.database.read_revision()
        async with app.database.transaction() as tx:
            if not await _probe_write(tx):
                return _unavailable_response(TAKES_NO_WRITES, TAKES_NO_WRITES)
            connected: int = await tx.fetchval(_COUNT_WORKERS)
            workers = await heartbeats.list_workers(tx)
    except Unavailable as error:
        return _unavailable_response(str(error), explain_database_failure(error))
    redis_failure = await app.wakeups.find_failure()
    opens_our_seals = all(app.vault.key_marks[0] in worker.key_marks for worker in workers)
    is_complete = redis_failure is None and opens_our_seals
    return JSONResponse(
        {
            "status": "ready" if is_complete else "degraded",
            "revision": revision,
            "redis": redis_failure is None,
            "workers": connected,
            "process": os.getpid(),
            "heartbeats": _show_workers(workers),
            "key_ring": opens_our_seals,
        }
        | _name_cause(None if redis_failure is None else explain_redis_failure(redis_failure))
    )


async def _probe_write(tx: Transaction) -> bool:
    """Write something that leaves no row; false if the database takes no writes."""
    if not await tx.fetchval(_TAKES_WRITES):
        return False
    await tx.fetchval(_WRITE)
    return True


def _show_workers(workers: Sequence[WorkerPresence]) -> list[dict[str, Any]]:
    return [
        {
            "version": worker.version,
            "age_seconds": round(worker.silent_for.total_seconds(), 1),
            "works": worker.is_working,
        }
        for worker in workers
    ]


def _unavailable_response(message: str, cause: str | None) -> Response:
    body = {"status": "unavailable", "error": message} | _name_cause(cause)
    return JSONResponse(body, HTTPStatus.SERVICE_UNAVAILABLE)


def _name_cause(sentence: str | None) -> dict[str, str]:
    return {} if sentence is None else {"cause": sentence}


ROUTES: Final = [Route("/health/live", answer_live), Route("/health/ready", answer_ready)]
