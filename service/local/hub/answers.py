"""How the Hub answers: its error bodies, its headers, and how many requests a user has."""

import time
import uuid
from email.utils import formatdate
from typing import Any, Final

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

WINDOW: Final = 300
"""Seconds in one window of a request budget."""

_TOO_MANY: Final = 429


class Refusal(Exception):
    """An answer that says no, in the Hub's words."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        self.status = status
        self.message = message
        self.headers = headers
        super().__init__(message)


async def refuse(_: Request, error: Exception) -> Response:
    """Write a refusal as the Hub does: the message in the body, and in a header."""
    assert isinstance(error, Refusal)  # noqa: S101  # registered for nothing else
    return _error(error.status, error.message, error.headers)


async def refuse_unknown(_: Request, error: Exception) -> Response:
    """Write what the router refused in the same form."""
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for nothing else
    return _error(error.status_code, error.detail, {})


class Budgets:
    """How many requests each user has left in the running window."""

    def __init__(self, quota: int) -> None:
        self._quota = quota
        self._spent: dict[str, tuple[int, int]] = {}

    def spend(self, user_id: str) -> dict[str, str]:
        """Count a request and return the headers that say what is left.

        Raises:
            Refusal: nothing was left.
        """
        now = time.time()
        window, left = int(now // WINDOW), int(WINDOW - now % WINDOW)
        counted, spent = self._spent.get(user_id, (window, 0))
        spent = spent + 1 if counted == window else 1
        self._spent[user_id] = (window, spent)
        headers = {
            "ratelimit": f'"api";r={max(0, self._quota - spent)};t={left}',
            "ratelimit-policy": f'"fixed window";"api";q={self._quota};w={WINDOW}',
        }
        if spent > self._quota:
            message = f"You have reached your rate limit; retry in {left} seconds"
            raise Refusal(_TOO_MANY, message, **headers | {"retry-after": str(left)})
        return headers


class HubHeaders:
    """Puts on every answer what every answer of the Hub carries, and what this Hub is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limits: dict[str, str] = {}
        scope.setdefault("state", {})["limits"] = limits

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                # Written for each answer: clients compare the times in a log with this one.
                headers["date"] = formatdate(usegmt=True)
                headers["x-request-id"] = f"Root=1-{uuid.uuid4()}"
                headers["x-emulator"] = "holdfast-local-hub"
                for name, value in limits.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers)


def _error(status: int, message: str, headers: dict[str, Any]) -> Response:
    said = {"x-error-message": message} | headers
    return JSONResponse({"error": message}, status_code=status, headers=said)
