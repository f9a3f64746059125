"""The local Hub and its router, which counts what it is asked and goes wrong as it is told."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.local.hub_emulator.app import create_hub
from service.local.hub_emulator.users import LocalUser, load_users, user_with
from tests.asgi import read_body, replay
from tests.service.stand_in import serving

_CHAT = "/v1/chat/completions"
Rule = Callable[[str, int], Response | None]
"""What is answered to a prompt in place of the Hub, the nth time it is asked; none: the Hub."""


@dataclass(slots=True)
class CountingRouter:
    """Stands around the local Hub."""

    hub: ASGIApp
    rule: Rule = lambda _, __: None
    delay: float = 0.0
    """Seconds a call takes."""
    ledger: Path | None = None
    """Where each prompt is written down as it comes, so that the count outlives everybody."""
    asked: Counter[str] = field(default_factory=Counter[str])
    moments: list[float] = field(default_factory=list[float])
    at_once: int = 0
    most_at_once: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != _CHAT:
            await self.hub(scope, receive, send)
            return
        body = await read_body(receive)
        prompt: str = json.loads(body)["messages"][-1]["content"]
        self.asked[prompt] += 1
        self.moments.append(time.monotonic())
        if self.ledger is not None:
            with self.ledger.open("a") as ledger:
                ledger.write(f"{prompt}\n")
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.delay)  # what a model takes
            refusal = self.rule(prompt, self.asked[prompt])
            await (refusal or self.hub)(scope, replay(body), send)
        finally:
            self.at_once -= 1


@dataclass(frozen=True, slots=True)
class Routed:
    """A router that answers, and a user it knows."""

    url: str
    router: CountingRouter
    users: list[LocalUser]

    def token(self, name: str = "alice") -> str:
        """Return a token of a user's."""
        return user_with(self.users, name).token


@contextmanager
def routing(folder: Path) -> Generator[Routed]:
    """Serve a router of one's own for the length of a block."""
    users = load_users(folder)
    router = CountingRouter(create_hub(folder))
    with serving(router) as url:
        yield Routed(url, router, users)


def refusal(status: int, message: str = "no", **headers: str) -> Response:
    """Write an answer that says no."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse({"error": message}, status, named)
