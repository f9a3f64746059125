"""The metrics of a service process at `/metrics`, for whoever has the token of the operator.

The service listens where clients reach it, often behind a proxy that makes every caller look local.
So an address proves nothing here. Without a token in the settings there is no such page.
"""

import hmac
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from schema.accounts.vault import Secret
from schema.common.observability.metrics import CONTENT_TYPE
from service.runtime.call_metrics import ServiceMetrics

METRICS_PATH: Final = "/metrics"


def build_metrics_route(metrics: ServiceMetrics, token: Secret) -> Route:
    """Build the route; its reader sends the token as a bearer token."""
    expected = f"Bearer {token.reveal()}".encode()

    async def answer(request: Request) -> Response:
        sent = request.headers.get("authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(sent, expected):
            return PlainTextResponse(
                "Send the token of HOLDFAST_METRICS_TOKEN.\n",
                HTTPStatus.UNAUTHORIZED,
                {"www-authenticate": "Bearer"},
            )
        return Response(metrics.render(), headers={"content-type": CONTENT_TYPE})

    return Route(METRICS_PATH, answer)
