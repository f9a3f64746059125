"""The Hub emulator with a router that counts its calls and fails as the test decides."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.local.hub_emulator.app import create_hub_emulator
from service.local.hub_emulator.users import LocalUser, find_user, load_users
from tests.support.asgi import read_body, replay_body
from tests.support.http_server import serve_app

_CHAT_PATH = "/v1/chat/completions"
RouterRule = Callable[[str, int], Response | None]
"""What is answered to a prompt in place of the Hub, the nth time it is asked; none: the Hub."""


@dataclass(slots=True)
class CountingRouter:
    """Stands around the local Hub."""

    hub: ASGIApp
    rule: RouterRule = lambda _, __: None
    delay_seconds: float = 0.0
    """Seconds a call takes."""
    prompt_log: Path | None = None
    """Where each prompt is written down as it comes, so that the count outlives everybody."""
    calls_by_prompt: Counter[str] = field(default_factory=Counter[str])
    call_times: list[float] = field(default_factory=list[float])
    calls_in_flight: int = 0
    max_calls_in_flight: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != _CHAT_PATH:
            await self.hub(scope, receive, send)
            return
        body = await read_body(receive)
        prompt: str = json.loads(body)["messages"][-1]["content"]
        self.calls_by_prompt[prompt] += 1
        self.call_times.append(time.monotonic())
        if self.prompt_log is not None:
            with self.prompt_log.open("a") as ledger:
                ledger.write(f"{prompt}\n")
        self.calls_in_flight += 1
        self.max_calls_in_flight = max(self.max_calls_in_flight, self.calls_in_flight)
        try:
            await asyncio.sleep(self.delay_seconds)  # what a model takes
            refusal = self.rule(prompt, self.calls_by_prompt[prompt])
            await (refusal or self.hub)(scope, replay_body(body), send)
        finally:
            self.calls_in_flight -= 1


@dataclass(frozen=True, slots=True)
class RunningRouter:
    """A router that answers, and a user it knows."""

    url: str
    router: CountingRouter
    users: list[LocalUser]

    def token(self, name: str = "alice") -> str:
        """Return a token of a user's."""
        return find_user(self.users, name).token


@contextmanager
def run_router(folder: Path) -> Generator[RunningRouter]:
    """Serve a router of one's own for the length of a block."""
    users = load_users(folder)
    router = CountingRouter(create_hub_emulator(folder))
    with serve_app(router) as url:
        yield RunningRouter(url, router, users)
