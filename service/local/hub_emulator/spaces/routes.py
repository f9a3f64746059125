"""The Spaces of the local Hub, and the proxy that stands before every Space.

    local/tiny     everybody may call it; asleep until somebody does
    USER/own       the same app, private to one user
    local/paused   its owner has paused it

The proxy does what the real one does: it looks at `X-HF-Authorization`, answers for a private Space
only to whoever may see it, and takes that header away. `Authorization` reaches the app.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import httpx2
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from service.local.hub_emulator.current_user import hub_url
from service.local.hub_emulator.errors import Refusal
from service.local.hub_emulator.spaces.app_process import SpaceApp
from service.local.hub_emulator.users import LocalUser

EDGE: Final = "/_emulator/spaces"
"""Stands for `https://{subdomain}.hf.space`, which this machine has no names for."""
PUBLIC: Final = "local/tiny"
PAUSED: Final = "local/paused"
_OWN: Final = "own"
_METHODS: Final = ["GET", "POST", "HEAD"]
_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "upgrade", "content-length", "date", "server"}
)
_WITHHELD: Final = _HOP_BY_HOP | {"host", "x-hf-authorization"}


@dataclass(frozen=True, slots=True)
class _Space:
    id: str
    owner: str | None
    """Who alone may see it, if it is private."""
    stage: str

    @property
    def subdomain(self) -> str:
        return self.id.replace("/", "-").lower()

    def visible_to(self, user: LocalUser | None) -> bool:
        return self.owner is None or (user is not None and user.name == self.owner)

    def described(self, address: str) -> dict[str, Any]:
        hardware = {"current": "cpu-basic", "requested": "cpu-basic"}
        return {
            "_id": "a" * 24,
            "id": self.id,
            "author": self.id.partition("/")[0],
            "sha": "0" * 40,
            "private": self.owner is not None,
            "gated": False,
            "disabled": False,
            "host": address,
            "subdomain": self.subdomain,
            "sdk": "gradio",
            "tags": ["gradio"],
            "likes": 0,
            "runtime": {
                "stage": self.stage,
                "hardware": hardware,
                "gcTimeout": 172_800,
                "replicas": {"current": 1, "requested": 1},
            },
        }


class Spaces:
    """Answers for Spaces, as the Hub and as their proxy."""

    def __init__(self, users: list[LocalUser]) -> None:
        self._users = {user.token: user for user in users if not user.has_expired()}
        self._owners = {user.name for user in users}
        self._app = SpaceApp()
        self._way = httpx2.AsyncClient(timeout=None, trust_env=False)

    def routes(self) -> list[Route]:
        """Say what is answered where."""
        return [
            Route("/api/spaces/{owner}/{name}", self._describe),
            Route(f"{EDGE}/{{subdomain}}/{{path:path}}", self._pass_on, methods=_METHODS),
        ]

    async def close(self) -> None:
        """End what runs."""
        await self._app.close()
        await self._way.aclose()

    async def _describe(self, request: Request) -> Response:
        found = self._find("{owner}/{name}".format(**request.path_params))
        if found is None or not found.visible_to(request.state.caller):
            raise Refusal(HTTPStatus.NOT_FOUND, "Repository not found", code="RepoNotFound")
        address = f"{hub_url(request)}{EDGE}/{found.subdomain}"
        return JSONResponse(found.described(address))

    async def _pass_on(self, request: Request) -> Response:
        found = self._at(request.path_params["subdomain"])
        user = self._users.get(
            request.headers.get("x-hf-authorization", "").removeprefix("Bearer ")
        )
        if found is None or not found.visible_to(user):
            return HTMLResponse("Sorry, we can't find the page.", HTTPStatus.NOT_FOUND)
        if found.id == PAUSED:
            return HTMLResponse("This Space is paused.", HTTPStatus.SERVICE_UNAVAILABLE)
        self._app.wake()
        if self._app.stage != "RUNNING":
            return HTMLResponse("Preparing Space.", HTTPStatus.SERVICE_UNAVAILABLE)
        return await self._answer(request)

    async def _answer(self, request: Request) -> Response:
        path = request.scope["raw_path"].decode("ascii").split("/", 4)[4]
        query = request.url.query
        asked = self._way.build_request(
            request.method,
            f"{self._app.url}/{path}{f'?{query}' if query else ''}",
            headers=_without(request.headers, _WITHHELD),
            content=await request.body(),
        )
        answer = await self._way.send(asked, stream=True)
        return StreamingResponse(
            _through(answer),
            answer.status_code,
            _without(answer.headers, _HOP_BY_HOP),
            background=BackgroundTask(answer.aclose),
        )

    def _find(self, name: str) -> _Space | None:
        if not SpaceApp.is_there():
            return None
        if name == PAUSED:
            return _Space(name, None, "PAUSED")
        owner, _, last = name.partition("/")
        if name == PUBLIC:
            return _Space(name, None, self._app.stage)
        if last == _OWN and owner in self._owners:
            return _Space(name, owner, self._app.stage)
        return None

    def _at(self, subdomain: str) -> _Space | None:
        names = [PUBLIC, PAUSED, *(f"{owner}/{_OWN}" for owner in self._owners)]
        spaces = filter(None, map(self._find, names))
        return next((each for each in spaces if each.subdomain == subdomain), None)


async def _through(answer: httpx2.Response) -> AsyncGenerator[bytes]:
    try:
        async for part in answer.aiter_raw():
            yield part
    finally:
        # Whoever hangs up here hangs up there too: that is how a Space learns of it.
        await answer.aclose()


def _without(headers: Mapping[str, str], withheld: frozenset[str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in withheld}
