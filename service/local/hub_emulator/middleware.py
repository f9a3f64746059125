"""ASGI middleware: it authenticates, counts requests, and adds the headers of every answer."""

import uuid
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.local.hub_emulator.errors import error_response
from service.local.hub_emulator.oauth.grants import GrantStore
from service.local.hub_emulator.shared.clock import read_unix_clock
from service.local.hub_emulator.users import LocalUser

WINDOW_SECONDS: Final = 300
"""Length of the window in which a user's requests are counted."""

_ANONYMOUS: Final = "anonymous"


class AuthRateLimitMiddleware:
    """Finds the user of each request and counts it against the user's quota."""

    def __init__(
        self, app: ASGIApp, users: list[LocalUser], grants: GrantStore, quota: int
    ) -> None:
        self._app = app
        self._grants = grants
        self._users = {user.token: user for user in users}
        self._quota = quota
        self._request_counts: dict[str, tuple[int, int]] = {}
        """For each user id the number of a window, and the requests counted in it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        user = self._authenticate(Headers(scope=scope))
        remaining, seconds_left = self._count_request(user.id if user else _ANONYMOUS)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                # Set anew on each answer: clients compare the times in a log with this header.
                headers["date"] = formatdate(read_unix_clock(), usegmt=True)
                trace = uuid.uuid4()
                headers["x-request-id"] = (
                    f"Root=1-{int(read_unix_clock()):x}-{trace.hex[:24]};{trace}"
                )
                headers["x-emulator"] = "holdfast-local-hub"
                headers["ratelimit"] = f'"api";r={max(0, remaining)};t={seconds_left}'
                headers["ratelimit-policy"] = (
                    f'"fixed window";"api";q={self._quota};w={WINDOW_SECONDS}'
                )
            await send(message)

        if remaining < 0:
            message = f"You have reached your rate limit; retry in {seconds_left} seconds"
            response = error_response(HTTPStatus.TOO_MANY_REQUESTS, message)
            response.headers["retry-after"] = str(seconds_left)
            await response(scope, receive, send_with_headers)
            return
        scope.setdefault("state", {})["user"] = user
        await self._app(scope, receive, send_with_headers)

    def _authenticate(self, headers: Headers) -> LocalUser | None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        user = self._users.get(token) or self._grants.find_user(token)
        return None if user is None or user.has_expired() else user

    def _count_request(self, user_id: str) -> tuple[int, int]:
        """Count a request; return how many remain, and the seconds until the next window."""
        now = read_unix_clock()
        window = int(now // WINDOW_SECONDS)
        counted_window, count = self._request_counts.get(user_id, (window, 0))
        count = count + 1 if counted_window == window else 1
        self._request_counts[user_id] = (window, count)
        return self._quota - count, WINDOW_SECONDS - int(now % WINDOW_SECONDS)
