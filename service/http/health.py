"""Health endpoints for supervisors and load balancers: is the process alive, can it serve."""

import os
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from schema.common.errors import Unavailable
from schema.db.failures import explain_database_failure
from schema.messaging.failures import explain_redis_failure
from service.runtime.context import App

_COUNT_WORKERS: Final = "SELECT workers_connected()"


async def answer_live(_: Request) -> Response:
    """Say that the process runs."""
    return PlainTextResponse("ok")


async def answer_ready(request: Request) -> Response:
    """Say whether calls can be served; without Redis they can, and workers start a little later."""
    app: App = request.app.state.app
    try:
        revision = await app.database.read_revision()
        async with app.database.transaction() as tx:
            workers: int = await tx.fetchval(_COUNT_WORKERS)
    except Unavailable as error:
        return JSONResponse(
            {"status": "unavailable", "error": str(error)}
            | _name_cause(explain_database_failure(error)),
            HTTPStatus.SERVICE_UNAVAILABLE,
        )
    redis_failure = await app.wakeups.find_failure()
    return JSONResponse(
        {
            "status": "ready" if redis_failure is None else "degraded",
            "revision": revision,
            "redis": redis_failure is None,
            "workers": workers,
            "process": os.getpid(),
        }
        | _name_cause(None if redis_failure is None else explain_redis_failure(redis_failure))
    )


def _name_cause(sentence: str | None) -> dict[str, str]:
    return {} if sentence is None else {"cause": sentence}


ROUTES: Final = [Route("/health/live", answer_live), Route("/health/ready", answer_ready)]
