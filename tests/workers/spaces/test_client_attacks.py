"""Spaces that mean no good, or break off in the middle: where a token goes, what is believed."""

import json
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import uuid4

import anyio
import pytest
from anyio.lowlevel import checkpoint
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from schema.accounts.vault import Secret
from schema.hub.url_fetcher import Fetcher
from schema.jobs.progress import JobProgress
from schema.jobs.tables import Reason
from tests.support.http_server import serve_app
from tests.support.hub.gradio_app import GRADIO_CONFIG, GRADIO_INFO
from workers.artifacts.redaction import Redactor
from workers.executor import Completed, ExecutionRequest, Outcome, Rejected, RetryLater, Unknown
from workers.executors.space import SpaceExecutor
from workers.hub.client import open_hub_jobs_client

TOKEN = "hf_the_callers"
MEGABYTE = 1024 * 1024
COMPLETED_EVENT = {"msg": "process_completed", "success": True, "output": {"data": ["x", None]}}


@dataclass
class HostileSpace:
    """A Space, and the Hub that names it; what it answers is for a test to say."""

    url: str = ""
    stages: list[str] = field(default_factory=lambda: ["RUNNING"])
    configs: list[Response] = field(default_factory=list[Response])
    """Answered before `config`, each once."""
    config: Response = field(default_factory=lambda: JSONResponse(GRADIO_CONFIG))
    join: Response = field(default_factory=lambda: JSONResponse({"event_id": "e"}))
    events: list[str] = field(default_factory=list[str])
    file: Response = field(default_factory=lambda: Response(b"x"))
    api: dict[str, Any] = field(default_factory=lambda: GRADIO_INFO)
    hub_file: Response = field(default_factory=lambda: Response(status_code=404))
    """The answer of the Hub to whoever reads a file of a repository."""
    uploads: list[bytes] = field(default_factory=list[bytes])
    requests: list[tuple[str, dict[str, str]]] = field(
        default_factory=list[tuple[str, dict[str, str]]]
    )
    """Paths, and headers."""

    def return_values(self, *values: Any) -> None:
        """Let the call succeed."""
        output = {"data": [*values, None]}
        self.send_messages({"msg": "process_completed", "success": True, "output": output})

    def send_messages(self, *messages: dict[str, Any]) -> None:
        """Let it say these, and nothing more."""
        self.events = [f"data: {json.dumps(each)}\n\n" for each in messages]

    async def respond(self, request: Request) -> Response:  # noqa: PLR0911  # one for each path
        """Answer whatever comes."""
        path = request.url.path
        self.requests.append((path, dict(request.headers)))
        if path.startswith("/api/spaces/"):
            stage = self.stages.pop(0) if len(self.stages) > 1 else self.stages[0]
            return JSONResponse({"id": "a/b", "subdomain": "a-b", "runtime": {"stage": stage}})
        if path == "/a-b/config":
            return self.configs.pop(0) if self.configs else self.config
        if path.endswith("/info"):
            return JSONResponse(self.api)
        if "/resolve/" in path:
            return self.hub_file
        if path.endswith("/upload"):
            self.uploads.append(await request.body())
            return JSONResponse(["/made/upload"])
        if path.endswith("/queue/join"):
            return self.join
        if path.endswith("/queue/data"):
            return StreamingResponse(iter(self.events), media_type="text/event-stream")
        return self.file if "/file=" in path else JSONResponse({"success": True})

    def requested_paths(self, part: str) -> list[str]:
        return [path for path, _ in self.requests if part in path]


@pytest.fixture(scope="module")
def space_and_other_server() -> Generator[list[HostileSpace]]:
    """A Space, and another machine that has nothing to do with it."""
    liars = [HostileSpace(), HostileSpace()]

    async def answer(request: Request) -> Response:
        return await liars[request.url.port != int(liars[0].url.rpartition(":")[2])].respond(
            request
        )

    methods = ["GET", "POST"]
    app = Starlette(routes=[Route("/{path:path}", answer, methods=methods)])
    with serve_app(app) as url, serve_app(app) as elsewhere:
        liars[0].url, liars[1].url = url, elsewhere
        yield liars


@pytest.fixture
def hostile_space(space_and_other_server: list[HostileSpace]) -> HostileSpace:
    space_and_other_server[0].__init__(space_and_other_server[0].url)  # type: ignore[misc]  # as new
    space_and_other_server[1].__init__(space_and_other_server[1].url)  # type: ignore[misc]  # as new
    return space_and_other_server[0]


@pytest.fixture
def other_server(
    space_and_other_server: list[HostileSpace], hostile_space: HostileSpace
) -> HostileSpace:
    return space_and_other_server[1]


@pytest.fixture
async def executor(hostile_space: HostileSpace) -> AsyncGenerator[SpaceExecutor]:
    async with open_hub_jobs_client(hostile_space.url, hostile_space.url) as gateway:
        yield SpaceExecutor(gateway, f"{hostile_space.url}/{{subdomain}}", Fetcher())


async def call_space(
    executor: SpaceExecutor, report: Callable[[JobProgress], None] = lambda _: None, **more: Any
) -> Outcome:
    spec = {"space": "a/b", "arguments": ["x"], "timeout": 20, **more}
    return await executor.execute(
        ExecutionRequest(
            run_id=uuid4(),
            job_id=uuid4(),
            namespace="ada",
            spec=spec,
            labels={},
            token=Secret(TOKEN),
            secrets={},
            request_timeout=timedelta(seconds=5),
            report_progress=report,
        )
    )


async def test_the_token_goes_to_the_proxy_of_the_space_and_in_its_header_only(
    executor: SpaceExecutor, hostile_space: HostileSpace
) -> None:
    """As Authorization it would reach the code of whoever made the Space."""
    hostile_space.return_values("said")

    assert isinstance(await call_space(executor), Completed)

    [space] = [
        headers for path, headers in hostile_space.requests if path.startswith("/api/spaces")
    ]
    assert space["authorization"] == f"Bearer {TOKEN}"
    for path, headers in hostile_space.requests:
        if not path.startswith("/api/spaces"):
            assert "authorization" not in headers, path
            assert headers["x-hf-authorization"] == f"Bearer {TOKEN}"


async def test_a_space_that_sends_elsewhere_is_not_followed(
    executor: SpaceExecutor, hostile_space: HostileSpace, other_server: HostileSpace
) -> None:
    """A redirect is how a host that may have the token would hand it on."""
    hostile_space.config = RedirectResponse(f"{other_server.url}/a-b/config")

    outcome = await call_space(executor)

    assert isinstance(outcome, Rejected)
    assert "sends elsewhere" in outcome.message
    assert other_server.requests == []


async def test_an_app_whose_prefix_is_another_host_is_not_asked_for_more(
    executor: SpaceExecutor, hostile_space: HostileSpace, other_server: HostileSpace
) -> None:
    """Behind the host, "@…" would make another host of it."""
    hostile_space.config = JSONResponse(
        {**GRADIO_CONFIG, "api_prefix": f"@{other_server.url.removeprefix('http://')}"}
    )

    outcome = await call_space(executor)

    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.INVALID_REQUEST
    assert other_server.requests == []
    assert len(hostile_space.requests) == 2


async def test_a_file_at_another_host_is_a_link_and_not_fetched(
    executor: SpaceExecutor, hostile_space: HostileSpace, other_server: HostileSpace
) -> None:
    """Whoever makes a Space must not make us call others in its caller's name."""
    meta = {"_type": "gradio.FileData"}
    hostile_space.file = RedirectResponse(f"{other_server.url}/stolen")
    linked = {"path": f"{other_server.url}/x", "meta": meta}
    moved = {"path": "/made/moved.txt", "meta": meta, "url": f"{other_server.url}/y"}
    hostile_space.return_values(
        [linked, moved, {"path": "/a/../../b?c#d", "orig_name": "../../e", "meta": meta}]
    )

    outcome = await call_space(executor)

    assert isinstance(outcome, Completed)
    assert outcome.run_result.result is not None
    away, lost, odd = outcome.run_result.result["outputs"][0]["value"]
    assert away == {"url": f"{other_server.url}/x"}
    assert lost == {"file": "moved.txt", "not_kept": "it sends elsewhere: it answered 307"}
    assert odd["file"] == "e"
    assert "leads out of the folder of the app" in odd["not_kept"]
    assert hostile_space.requested_paths("/file=") == ["/a-b/gradio_api/file=/made/moved.txt"]
    assert outcome.files == ()
    assert other_server.requests == []


async def test_a_file_too_large_is_left_there_and_the_rest_is_kept(
    executor: SpaceExecutor, hostile_space: HostileSpace
) -> None:
    """What was computed is not thrown away for one file; and memory is not for a Space to fill."""
    meta = {"_type": "gradio.FileData"}
    hostile_space.file = Response(b"x" * (33 * MEGABYTE))
    hostile_space.return_values({"text": "kept", "file": {"path": "/made/bomb.bin", "meta": meta}})

    outcome = await call_space(executor)

    assert isinstance(outcome, Completed)
    assert outcome.run_result.result is not None
    value = outcome.run_result.result["outputs"][0]["value"]
    assert value["text"] == "kept"
    assert value["file"]["not_kept"].startswith("it answers with more than")
    assert outcome.files == ()


async def test_a_description_without_end_is_not_read_to_it(
    executor: SpaceExecutor, hostile_space: HostileSpace
) -> None:
    hostile_space.config = Response(b"[" * (5 * MEGABYTE))

    outcome = await call_space(executor)

    assert isinstance(outcome, Rejected)
    assert "more than" in outcome.message


@pytest.mark.parametrize(
    "events",
    [
        ["data: " + "x" * (17 * MEGABYTE), f"\n\ndata: {json.dumps(COMPLETED_EVENT)}\n\n"],
        ['data: {"msg": "process_starts"}\n\n'],
        ['data: {"msg": "unexpected_error", "message": "Server stopped unexpectedly."}\n\n'],
        ["data: {\n\n", "nonsense\n", 'data: {"msg": "never heard of"}\n\n'],
        [],
    ],
)
async def test_a_call_that_breaks_off_is_in_doubt_and_not_made_again(
    executor: SpaceExecutor, hostile_space: HostileSpace, events: list[str]
) -> None:
    """It may have been carried out, and charged: nobody here decides to pay twice."""
    hostile_space.events = events

    assert isinstance(await call_space(executor), Unknown)
    assert len(hostile_space.requested_paths("/queue/join")) == 1
    # And if it still goes on, it is told that nobody listens.
    assert len(hostile_space.requested_paths("/cancel")) == 1


@pytest.mark.parametrize(
    ("status", "detail", "outcome"),
    [
        (503, "Queue is full. Max size is 3 and size is 3.", RetryLater),
        (503, "", RetryLater),
        (429, "", RetryLater),
        (401, "", Rejected),
        (404, "", Rejected),
        (400, "no", Rejected),
        (422, "too short", Completed),
        (502, "", Unknown),
        (504, "", Unknown),
        (500, "", Unknown),
    ],
)
async def test_only_a_call_that_was_certainly_not_taken_may_be_tried_again(
    executor: SpaceExecutor,
    hostile_space: HostileSpace,
    status: int,
    detail: str,
    outcome: type[Outcome],
) -> None:
    hostile_space.join = JSONResponse({"detail": detail}, status)

    assert isinstance(await call_space(executor), outcome)
    assert len(hostile_space.requested_paths("/queue/join")) == 1


async def test_what_cannot_be_stored_is_taken_out_of_what_a_space_says(
    executor: SpaceExecutor, hostile_space: HostileSpace
) -> None:
    """A NUL that Postgres cannot keep would lose the whole answer."""
    hostile_space.return_values("a\0b")

    outcome = await call_space(executor)

    assert isinstance(outcome, Completed)
    assert outcome.run_result.result is not None
    assert outcome.run_result.result["outputs"][0]["value"] == "a\ufffdb"


async def test_a_space_that_sleeps_is_waked_and_waited_for(
    executor: SpaceExecutor, hostile_space: HostileSpace
) -> None:
    """That it is asked wakes it; until it is up, a page of the Hub's answers in its place."""
    reports: list[JobProgress] = []
    hostile_space.stages = ["SLEEPING", "APP_STARTING", "RUNNING"]
    hostile_space.configs = [Response("Preparing Space"), Response("Preparing Space", 503)]
    hostile_space.return_values("awake")

    outcome = await call_space(executor, reports.append)

    assert isinstance(outcome, Completed)
    assert [each.message for each in reports] == [
        "The Space is asleep; waiting for it to wake",
        "The Space is starting; waiting for it to wake",
    ]


async def test_a_space_that_does_not_wake_in_time_was_never_called(
    executor: SpaceExecutor, hostile_space: HostileSpace
) -> None:
    """Provably nothing was begun, and the job says so."""
    hostile_space.stages = ["BUILDING"]
    hostile_space.config = Response("Building", 503)

    outcome = await call_space(executor, timeout=1)

    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.HUB_UNAVAILABLE
    assert "was not ready within 1s; nothing was started" in outcome.message
    assert hostile_space.requested_paths("/queue") == []


@pytest.mark.parametrize(
    "event",
    [
        {"msg": "estimation", "rank": 10**4300 - 1},
        {"msg": "estimation", "rank": 1, "rank_eta": float("inf")},
        {"msg": "progress", "progress_data": [{"index": float("nan")}]},
        {"msg": "progress", "progress_data": [{"progress": float("inf")}]},
        {"msg": "process_generating", "output": {"data": [10**4299, None]}},
        {"msg": "process_generating", "output": {"data": [[["add", [10**30], 1]], []]}},
    ],
)
async def test_no_number_of_an_event_ends_the_call(
    executor: SpaceExecutor, hostile_space: HostileSpace, event: dict[str, Any]
) -> None:
    """Events say how far a call is; its result is worth more."""
    first: dict[str, Any] = {"msg": "process_generating", "output": {"data": [[], None]}}
    hostile_space.return_values("done")
    completed = hostile_space.events
    hostile_space.send_messages(first, event)
    hostile_space.events += completed
    texts: list[str | None] = []

    def report(progress: JobProgress) -> None:
        if progress.render_partial is not None:
            texts.append(progress.render_partial(Redactor({})))

    outcome = await call_space(executor, report)

    assert isinstance(outcome, Completed)
    assert outcome.run_result.result is not None
    assert texts[0] == "[]"


async def test_a_flood_of_events_leaves_turns_to_others(
    executor: SpaceExecutor, hostile_space: HostileSpace
) -> None:
    """A chunk has thousands of them; meanwhile the leases of all calls are to be renewed."""
    hostile_space.return_values("done")
    hostile_space.events = ['data: {"msg": "log", "log": "x"}\n\n' * 1000, *hostile_space.events]
    turns = 0
    turns_at_reports: set[int] = set()

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(take_turns)
        await call_space(executor, lambda _: turns_at_reports.add(turns))
        group.cancel_scope.cancel()

    assert len(turns_at_reports) > 500


FILE_INFO = {
    "named_endpoints": {
        "/predict": {
            "parameters": [
                {
                    "parameter_name": "document",
                    "type": {"properties": {"meta": {"const": {"_type": "gradio.FileData"}}}},
                }
            ],
            "returns": [{"label": "Said"}],
        }
    }
}
HUB_FILE = "hf://datasets/ada/cats/old/cat.txt"


def hub_response(content: bytes, status: int = 200) -> Response:
    return Response(content, status, {"x-repo-commit": "a" * 40})


async def test_a_file_of_the_hub_is_read_with_the_callers_token_and_sent_to_the_space(
    executor: SpaceExecutor, hostile_space: HostileSpace
) -> None:
    """The Space gets the bytes and the name, and never the token that they were read with."""
    hostile_space.api, hostile_space.hub_file = FILE_INFO, hub_response(b"a private cat")
    hostile_space.return_values("said")

    outcome = await call_space(executor, arguments={"document": {"url": HUB_FILE}})

    assert isinstance(outcome, Completed), outcome
    [(path, headers)] = [each for each in hostile_space.requests if "/resolve/" in each[0]]
    assert path == "/datasets/ada/cats/resolve/main/old/cat.txt"
    assert headers["authorization"] == f"Bearer {TOKEN}"
    [upload] = hostile_space.uploads
    assert b"a private cat" in upload
    assert b'filename="cat.txt"' in upload


@pytest.mark.parametrize(
    ("response", "reason", "says"),
    [
        (hub_response(b"", 404), Reason.INVALID_REQUEST, "does not exist, or your token may not"),
        (hub_response(b"", 403), Reason.MISSING_PERMISSION, HUB_FILE),
        (hub_response(b"x" * (33 * MEGABYTE)), Reason.INVALID_REQUEST, "is larger than"),
    ],
)
async def test_a_file_of_the_hub_that_cannot_be_sent_is_named_and_nothing_is_started(
    executor: SpaceExecutor,
    hostile_space: HostileSpace,
    response: Response,
    reason: Reason,
    says: str,
) -> None:
    """A 404 for the file is no word about the Space."""
    hostile_space.api, hostile_space.hub_file = FILE_INFO, response

    outcome = await call_space(executor, arguments=[HUB_FILE])

    assert isinstance(outcome, Rejected), outcome
    assert (outcome.reason, HUB_FILE in outcome.message, says in outcome.message) == (
        reason,
        True,
        True,
    ), outcome.message
    assert hostile_space.requested_paths("/queue") == []
