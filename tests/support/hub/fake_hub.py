"""A fake of the Hub's whoami, prices and Spaces, on a port of its own."""

import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import anyio.to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.local.hub_emulator.jobs.hardware import FLAVORS
from tests.support.http_server import serve_app
from tests.support.subjects import ADA_ID, BOB_ID

SLEEPING_SPACE = "ada/asleep"
"""A Space that exists, and sleeps."""


def whoami_answer(subject_id: str, name: str, **auth: Any) -> dict[str, Any]:
    """Return the Hub's whoami answer for a person."""
    auth_facts = auth or {"type": "access_token", "accessToken": {"role": "write"}}
    return {"type": "user", "id": subject_id, "name": name, "auth": auth_facts}


@dataclass
class FakeHub:
    """A Hub that answers whoami, and records the tokens of its callers."""

    url: str = ""
    whoami_by_token: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            "hf_ada": whoami_answer(ADA_ID, "ada"),
            "hf_bob": whoami_answer(BOB_ID, "bob"),
            "hf_reader": whoami_answer(
                ADA_ID, "ada", type="access_token", accessToken={"role": "read"}
            ),
        }
    )
    whoami_tokens: list[str] = field(default_factory=list)
    whoami_gate: Event | None = None
    """Until it is set, whoami does not answer; None: it answers at once."""
    whoami_was_called: Event = field(default_factory=Event)
    """Set when somebody waits at that gate."""
    launch_checks: list[tuple[str, str]] = field(default_factory=list)
    """The token and the namespace of each permission check."""
    denied_namespaces: dict[str, str] = field(default_factory=dict)
    """Messages of refusal, by the namespaces in which nobody may launch."""
    received_cookies: list[str] = field(default_factory=list[str])
    """Names of the cookies that callers sent; each answer sets one."""
    failure_response: Response | None = None
    hardware: list[dict[str, Any]] = field(
        default_factory=lambda: [flavor.to_dict() for flavor in FLAVORS.values()]
    )
    price_request_count: int = 0
    """How often prices were requested."""
    answers_prices: bool = True
    space_lookups: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """The token and the Space of each look-up."""
    answers_spaces: bool = True
    quota_by_token: dict[str, Response] = field(default_factory=dict[str, Response])
    """The answers about ZeroGPU; other tokens may not see theirs."""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """Jobs that every token sees in every namespace, by their ids."""
    visible_repos: set[str] = field(default_factory=set[str])
    """Datasets that every token sees."""

    bucket_files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    """Content by `owner/name/path`, for the token hf_ada alone."""
    file_requests: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """The token and the file of each download."""

    def rename_token(self, token: str, name: str) -> str:
        """Give a token another name, because the service remembers what a token allows."""
        self.whoami_by_token[name] = self.whoami_by_token.pop(token)
        return name

    async def list_tree(self, request: Request) -> Response:
        """Answer like `GET /api/datasets/{owner}/{name}/tree/main`."""
        if "{owner}/{name}".format(**request.path_params) in self.visible_repos:
            return JSONResponse([])
        return JSONResponse({"error": "Repository not found"}, 404)

    async def download_bucket_file(self, request: Request) -> Response:
        """Answer like `GET /buckets/{owner}/{name}/resolve/{path}`."""
        token = request.headers["authorization"].removeprefix("Bearer ")
        file = "{owner}/{name}/{path}".format(**request.path_params)
        self.file_requests.append((token, file))
        content = self.bucket_files.get(file) if token == "hf_ada" else None
        if content is None:
            return JSONResponse({"error": "Entry not found"}, 404)
        return Response(content, headers={"x-xet-hash": hashlib.sha256(content).hexdigest()})

    async def answer_whoami(self, request: Request) -> Response:
        """Answer like `GET /api/whoami-v2`."""
        token = request.headers["authorization"].removeprefix("Bearer ")
        self.whoami_tokens.append(token)
        if self.failure_response is not None:
            return self.failure_response
        if self.whoami_gate is not None:
            self.whoami_was_called.set()
            await anyio.to_thread.run_sync(self.whoami_gate.wait, 20)
        if token not in self.whoami_by_token:
            return JSONResponse({"error": "Invalid credentials in Authorization header"}, 401)
        self.received_cookies += request.cookies
        known = JSONResponse(self.whoami_by_token[token])
        known.set_cookie("token", token)
        return known

    async def answer_quota(self, request: Request) -> Response:
        """Answer like `GET /api/spaces/zero-gpu/quota`."""
        token = request.headers["authorization"].removeprefix("Bearer ")
        hidden = {"error": "missing permissions: user.billing.read"}
        return self.quota_by_token.get(token) or JSONResponse(hidden, 403)

    async def list_jobs(self, _: Request) -> Response:
        """Answer like `GET /api/jobs/{namespace}`."""
        return JSONResponse(list(self.jobs.values()))

    async def inspect_job(self, request: Request) -> Response:
        """Answer like `GET /api/jobs/{namespace}/{job}`."""
        job = self.jobs.get(request.path_params["job"])
        return JSONResponse({"error": "Job not found"}, 404) if job is None else JSONResponse(job)

    async def list_hardware(self, _: Request) -> Response:
        """Answer like `GET /api/jobs/hardware`."""
        self.price_request_count += 1
        return JSONResponse(self.hardware) if self.answers_prices else Response(status_code=503)

    async def check_launch(self, request: Request) -> Response:
        """Answer like `POST /api/jobs/{namespace}/auth-check/write`."""
        namespace = request.path_params["namespace"]
        token = request.headers["authorization"].removeprefix("Bearer ")
        self.launch_checks.append((token, namespace))
        if self.failure_response is not None:
            return self.failure_response
        if token not in self.whoami_by_token:
            return JSONResponse({"error": "Invalid credentials in Authorization header"}, 401)
        if namespace in self.denied_namespaces:
            return JSONResponse({"error": self.denied_namespaces[namespace]}, 403)
        return JSONResponse({"namespace": {"name": namespace}})

    async def describe_space(self, request: Request) -> Response:
        """Answer like `GET /api/spaces/{owner}/{name}`: all there are sleep."""
        name = "{owner}/{name}".format(**request.path_params)
        token = request.headers["authorization"].removeprefix("Bearer ")
        self.space_lookups.append((token, name))
        if not self.answers_spaces:
            return Response(status_code=503)
        if name.startswith("nobody/"):
            return JSONResponse({"error": "Repository not found"}, 404)
        runtime = {"stage": "SLEEPING"}
        return JSONResponse({"id": name, "subdomain": "ada-asleep", "runtime": runtime})


@contextmanager
def run_fake_hub() -> Generator[FakeHub]:
    """Run the fake for the length of a block."""
    hub = FakeHub()
    check = "/api/jobs/{namespace}/auth-check/write"
    routes = [
        Route("/api/whoami-v2", hub.answer_whoami),
        Route(check, hub.check_launch, methods=["POST"]),
        Route("/api/jobs/hardware", hub.list_hardware),
        Route("/api/jobs/{namespace}", hub.list_jobs),
        Route("/api/jobs/{namespace}/{job}", hub.inspect_job),
        Route("/api/spaces/zero-gpu/quota", hub.answer_quota),
        Route("/api/spaces/{owner}/{name}", hub.describe_space),
        Route("/api/datasets/{owner}/{name}/tree/main", hub.list_tree),
        Route("/buckets/{owner}/{name}/resolve/{path:path}", hub.download_bucket_file),
    ]
    with serve_app(Starlette(routes=routes)) as url:
        hub.url = url
        yield hub
