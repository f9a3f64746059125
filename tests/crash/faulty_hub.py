"""A Hub with one fault: what an intermediary, a bug or an outage does to requests and answers.

It wraps the Hub emulator: whatever it does to the answers, the emulator's own listing stays the
ledger of what was really created.
"""

import asyncio
import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.local.hub_emulator.errors import error_response
from tests.support.asgi import read_body, replay_body

MAX_FAULTY_REQUESTS: Final = 3
"""How many requests of a kind fail; later ones are answered properly."""
LISTING_LAG: Final = timedelta(seconds=0.8)
"""How long the listing does not show what has been created."""
LATE_ARRIVAL_SECONDS: Final = 4.0
"""Seconds until a request is carried out that was answered with 504: past the settle window."""
CALM_PATH: Final = "/_crash/calm"
"""Ends the fault, and waits for the requests that are still to be carried out."""
ARRIVALS_PATH: Final = "/_crash/arrivals"
"""Says which late requests were carried out, and after how long somebody listed them."""
JUDGE_HEADER: Final = "x-crash-judge"
"""Marks a request of the judge: it meets no fault, and is not what a worker has seen."""


class Fault(StrEnum):
    """What goes wrong in one scenario."""

    NONE = "none"
    CREATE_500_BEFORE = "create_500_before"
    CREATE_500_AFTER = "create_500_after"
    CREATE_RESET_BEFORE = "create_reset_before"
    CREATE_RESET_AFTER = "create_reset_after"
    CREATE_HANG = "create_hang"
    CREATE_MALFORMED = "create_malformed"
    CREATE_REPEATED = "create_repeated"
    CREATE_429 = "create_429"
    UNAUTHORIZED = "unauthorized"
    LATE_ARRIVAL = "late_arrival"
    LIST_LAG = "list_lag"
    LIST_5XX = "list_5xx"
    CANCEL_5XX = "cancel_5xx"
    REDIS_GONE = "redis_gone"
    POSTGRES_RESTARTED = "postgres_restarted"
    ZOMBIE = "zombie"


@dataclass(frozen=True, slots=True)
class Arrivals:
    """The late requests that were carried out."""

    unlisted_count: int
    """How many no listing can have shown yet."""
    listing_delays: list[float]
    """Seconds until a listing could show the others."""


NO_ARRIVALS: Final = Arrivals(0, [])


class _CapturedAnswer:
    """An answer that is held back, to be looked at or dropped."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message["headers"])
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")


class FaultyHub:
    """The Hub behind one fault."""

    def __init__(self, hub: ASGIApp, fault: Fault) -> None:
        self._hub = hub
        self._fault = fault
        self._fault_counts: Counter[str] = Counter()
        self._late_requests: set[asyncio.Task[None]] = set()
        self._unlisted_arrivals: list[float] = []
        """When late requests were carried out that no listing has been answered since."""
        self._listing_delays: list[float] = []
        """Seconds from the others to the answer of the first listing that was begun since."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._hub(scope, receive, send)
        elif scope["path"] == CALM_PATH:
            self._fault = Fault.NONE
            await asyncio.gather(*self._late_requests)
            await Response("calm")(scope, receive, send)
        elif scope["path"] == ARRIVALS_PATH:
            arrivals = Arrivals(len(self._unlisted_arrivals), self._listing_delays)
            await JSONResponse(asdict(arrivals))(scope, receive, send)
        elif JUDGE_HEADER.encode() in dict(scope["headers"]):
            await self._hub(scope, receive, send)
        else:
            kind = _classify_request(scope)
            arrivals_before = list(self._unlisted_arrivals)
            fault_app = self._choose_fault(kind)
            await (fault_app or self._hub)(scope, receive, send)
            if kind == "list" and (fault_app is None or fault_app == self._delay_listing):
                self._record_listing(arrivals_before)

    def _record_listing(self, arrivals_before: list[float]) -> None:
        for arrived_at in arrivals_before:
            if arrived_at in self._unlisted_arrivals:
                self._unlisted_arrivals.remove(arrived_at)
                self._listing_delays.append(time.monotonic() - arrived_at)

    def _choose_fault(self, kind: str) -> ASGIApp | None:
        if kind == "list" and self._fault is Fault.LIST_LAG:
            return self._delay_listing
        # A listing, or its answer, matters most where an answer was lost.
        also = self._fault in (Fault.LIST_LAG, Fault.LIST_5XX)
        fault_apps: dict[str, dict[Fault, ASGIApp]] = {
            "create": {
                Fault.CREATE_500_BEFORE: _error_app(500),
                Fault.CREATE_500_AFTER: self._lose_answer,
                Fault.CREATE_RESET_BEFORE: _reset_connection,
                Fault.CREATE_RESET_AFTER: self._reset_after,
                Fault.CREATE_HANG: self._hang,
                Fault.CREATE_MALFORMED: self._garble,
                Fault.CREATE_REPEATED: self._repeat,
                Fault.CREATE_429: _error_app(429, **{"retry-after": "1"}),
                Fault.UNAUTHORIZED: _error_app(401),
                Fault.LATE_ARRIVAL: self._delay,
                **({self._fault: self._lose_answer} if also else {}),
            },
            "list": {Fault.LIST_5XX: _error_app(503)},
            "cancel": {Fault.CANCEL_5XX: _error_app(500)},
        }
        fault_app = fault_apps.get(kind, {}).get(self._fault)
        if fault_app is None or self._fault_counts[kind] >= MAX_FAULTY_REQUESTS:
            return None
        self._fault_counts[kind] += 1
        return fault_app

    async def _lose_answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._hub(scope, receive, _CapturedAnswer().send)
        await _error_app(502)(scope, receive, send)

    async def _reset_after(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._hub(scope, receive, _CapturedAnswer().send)
        await _reset_connection(scope, receive, send)

    async def _hang(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._hub(scope, receive, _CapturedAnswer().send)
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _garble(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._hub(scope, receive, _CapturedAnswer().send)
        await Response(b'{"id": ', media_type="application/json")(scope, receive, send)

    async def _repeat(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        await self._hub(scope, replay_body(body), _CapturedAnswer().send)
        await self._hub(scope, replay_body(body), send)

    async def _delay(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)

        async def arrive() -> None:
            await asyncio.sleep(
                LATE_ARRIVAL_SECONDS
            )  # the fault itself: a request that is carried out late
            await self._hub(scope, replay_body(body), _CapturedAnswer().send)
            self._unlisted_arrivals.append(time.monotonic())

        self._late_requests.add(asyncio.create_task(arrive()))
        await _error_app(504)(scope, receive, send)

    async def _delay_listing(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _CapturedAnswer()
        await self._hub(scope, receive, answer.send)
        listed: list[dict[str, Any]] = json.loads(answer.body)
        shown = [job for job in listed if _job_age(job) > LISTING_LAG]
        headers = {k.decode(): v.decode() for k, v in answer.headers if k != b"content-length"}
        await JSONResponse(shown, answer.status, headers)(scope, receive, send)


def _classify_request(scope: Scope) -> str:
    method, path = scope["method"], scope["path"]
    if path == "/v1/chat/completions" or (method == "POST" and path.count("/") == 3):
        return "create"
    if path.endswith("/cancel"):
        return "cancel"
    if path == "/api/jobs/hardware":
        return ""  # a price list, not a list of jobs
    return "list" if path.startswith("/api/jobs/") and path.count("/") == 3 else ""


def _error_app(status: int, **headers: str) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        response = error_response(status, "a fault of the test's")
        response.headers.update(headers)
        await response(scope, receive, send)

    return answer


async def _reset_connection(_: Scope, __: Receive, send: Send) -> None:
    # ASGI has no word for it; uvicorn's own `send` belongs to the connection.
    connection: Any = getattr(send, "__self__")  # noqa: B009  # typed as any callable
    connection.transport.abort()


def _job_age(job: dict[str, Any]) -> timedelta:
    return datetime.now(UTC) - datetime.fromisoformat(job["createdAt"])
