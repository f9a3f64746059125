"""Who is calling, what is left of their budget, and what every answer carries."""

import time
import uuid
from email.utils import formatdate
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.local.hub_emulator.errors import error_response
from service.local.hub_emulator.oauth.grants import GrantStore
from service.local.hub_emulator.users import LocalUser

WINDOW_SECONDS: Final = 300
"""Seconds in one window of a request budget."""

_TOO_MANY: Final = 429
_ANONYMOUS: Final = "anonymous"


class AuthRateLimitMiddleware:
    """Counts each request for its caller, and marks each answer for what it comes from."""

    def __init__(
        self, app: ASGIApp, users: list[LocalUser], grants: GrantStore, quota: int
    ) -> None:
        self._app = app
        self._grants = grants
        self._users = {user.token: user for user in users}
        self._quota = quota
        self._request_counts: dict[str, tuple[int, int]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        caller = self._authenticate(Headers(scope=scope))
        left, until_next = self._count_request(caller.id if caller else _ANONYMOUS)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                # Written for each answer: clients compare the times in a log with this one.
                headers["date"] = formatdate(usegmt=True)
                trace = uuid.uuid4()
                headers["x-request-id"] = f"Root=1-{int(time.time()):x}-{trace.hex[:24]};{trace}"
                headers["x-emulator"] = "holdfast-local-hub"
                headers["ratelimit"] = f'"api";r={max(0, left)};t={until_next}'
                headers["ratelimit-policy"] = (
                    f'"fixed window";"api";q={self._quota};w={WINDOW_SECONDS}'
                )
            await send(message)

        if left < 0:
            message = f"You have reached your rate limit; retry in {until_next} seconds"
            spent = error_response(_TOO_MANY, message)
            spent.headers["retry-after"] = str(until_next)
            await spent(scope, receive, with_headers)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, with_headers)

    def _authenticate(self, headers: Headers) -> LocalUser | None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        user = self._users.get(token) or self._grants.find_user(token)
        return None if user is None or user.has_expired() else user

    def _count_request(self, user_id: str) -> tuple[int, int]:
        """Count a request; return how many are left, and the seconds until there are new ones."""
        now = time.time()
        window = int(now // WINDOW_SECONDS)
        counted, spent = self._request_counts.get(user_id, (window, 0))
        spent = spent + 1 if counted == window else 1
        self._request_counts[user_id] = (window, spent)
        return self._quota - spent, WINDOW_SECONDS - int(now % WINDOW_SECONDS)
