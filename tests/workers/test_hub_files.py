"""Reading what a caller names on the Hub: with their token, at the Hub alone, and pinned."""

from collections.abc import AsyncGenerator, Generator
from datetime import timedelta
from uuid import uuid4

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from schema.accounts.vault import Secret
from schema.specs.inputs.hub_uri import HubPath
from service.local.hub_emulator.users import user_with
from tests.service.local.hub.conftest import RunningHub, running_hub
from tests.service.stand_in import serving
from tests.web import Web, page, public_web
from workers.hub.client import Answered4xx, Unreached, hub
from workers.inputs.hub_files import HubFiles
from workers.inputs.url_fetcher import FetchRefused

SOON = timedelta(seconds=10)
TOKEN = Secret("hf_ada")
PATH = HubPath.read("hf://datasets/ada/cats/a.jsonl")
SHA = "a" * 40
CDN = "https://cdn.example.com/x?sig=1"


class Scripted:
    """A Hub that gives the answers it was told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: list[Response] = []
        self.requests: list[Request] = []

    async def answer(self, request: Request) -> Response:
        self.requests.append(request)
        return self.answers.pop(0)


@pytest.fixture
def server() -> Generator[Scripted]:
    scripted = Scripted()
    with serving(Starlette(routes=[Route("/{path:path}", scripted.answer)])) as scripted.url:
        yield scripted


@pytest.fixture
async def web() -> AsyncGenerator[Web]:
    async with public_web() as opened:
        yield opened


@pytest.fixture
async def files(server: Scripted, web: Web) -> AsyncGenerator[HubFiles]:
    async with hub(server.url, server.url) as opened:
        yield HubFiles(opened, web.fetcher)


def answer(content: bytes = b"", status: int = 200, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(content, status, {"x-repo-commit": SHA, **named})


async def read(files: HubFiles, path: HubPath = PATH, limit: int = 1000) -> tuple[bytes, str]:
    return await files.read(path, TOKEN, limit_bytes=limit, within=SOON)


async def test_the_token_is_shown_to_the_hub_and_not_to_where_it_leads(
    files: HubFiles, server: Scripted, web: Web
) -> None:
    """A renamed repository leads elsewhere at the Hub; its bytes are on another host."""
    server.answers = [
        answer(status=307, location="/datasets/ada/lions/resolve/main/a.jsonl"),
        answer(status=302, location=CDN),
    ]
    web.pages[CDN] = page(b"one\n")

    assert await read(files) == (b"one\n", SHA)

    assert [each.headers["authorization"] for each in server.requests] == ["Bearer hf_ada"] * 2
    assert "authorization" not in web.requests[0].headers


@pytest.mark.parametrize(
    "location",
    [
        "http://cdn.example.com/x",
        "https://127.0.0.1/x",
        "https://169.254.169.254/x",
        "//localhost/x",
        "file:///etc/passwd",
        "https://private.example.com/x",
        "https://ada:hf@cdn.example.com/x",
    ],
)
async def test_where_the_hub_leads_is_judged_like_any_url(
    files: HubFiles, server: Scripted, web: Web, location: str
) -> None:
    """Whoever can make the Hub redirect cannot make us reach what is not public."""
    web.names["private.example.com"] = ["10.0.0.1"]
    server.answers = [answer(status=302, location=location)]

    with pytest.raises(FetchRefused):
        await read(files)

    assert (web.dialed, len(server.requests)) == ([], 1)


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        (answer(status=404), Answered4xx, "404: hf://datasets/ada/cats/a.jsonl"),
        (answer(status=401), Answered4xx, "401"),
        (answer(status=401, x_error_code="RepoNotFound"), Answered4xx, "404"),
        (answer(status=403), Answered4xx, "403"),
        (answer(status=429, retry_after="7"), Answered4xx, "429"),
        (answer(status=503), Unreached, "503"),
        (answer(b"x" * 2000), FetchRefused, "larger than 1,000 bytes"),
        (answer(b"x", content_encoding="gzip"), Unreached, "compressed"),
        (Response(b"x"), Unreached, "does not say which revision"),
        (answer(status=302, location="/datasets/ada/cats/a"), Unreached, "on and on"),
    ],
)
async def test_what_cannot_be_read_is_said_to_be_gone_or_to_be_tried_again(
    files: HubFiles, server: Scripted, said: Response, error: type[Exception], words: str
) -> None:
    """Reading changes nothing, so nothing that is lost on the way is in doubt."""
    server.answers = [said] * 5

    with pytest.raises(error, match=words):
        await read(files)


async def test_lines_are_read_as_they_come_and_none_is_too_long(
    files: HubFiles, server: Scripted
) -> None:
    """Where a line is cut by the wire means nothing; empty ones count."""
    server.answers = [answer(b'{"a": "\xc3\xa9"}\r\n\n2\n3'), answer(b"1\n" + b"x" * 99)]

    async with files.open(PATH, TOKEN, limit_bytes=1000, within=SOON) as file:
        assert [line async for line in file.lines(longest=20)] == [
            b'{"a": "\xc3\xa9"}',
            b"",
            b"2",
            b"3",
        ]
    with pytest.raises(FetchRefused, match=r"Line 2 of hf://.* is longer than 20 bytes"):
        async with files.open(PATH, TOKEN, limit_bytes=1000, within=SOON) as file:
            _ = [line async for line in file.lines(longest=20)]


async def test_a_file_in_a_bucket_that_has_changed_is_not_taken_for_the_one_that_was_read(
    files: HubFiles, server: Scripted
) -> None:
    """A batch that goes on tomorrow would mix the items of two files."""
    path = HubPath.read("hf://buckets/ada/b/a.jsonl")
    server.answers = [Response(b"1", headers={"x-xet-hash": "f" * 64}) for _ in range(2)]
    server.answers += [Response(b"2", headers={"x-xet-hash": "e" * 64})]

    _, revision = await read(files, path)

    assert await read(files, path.at(revision)) == (b"1", "f" * 64)
    with pytest.raises(FetchRefused, match="has changed since"):
        await read(files, path.at(revision))


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningHub]:
    """The local Hub."""
    with running_hub(tmp_path_factory.mktemp("hub")) as running:
        yield running


async def test_repositories_and_buckets_of_the_local_hub_are_read_as_those_of_the_hub(
    local: RunningHub,
) -> None:
    """What the real client has put there, small and large, is what is read, and stays pinned."""
    api, token = local.api(), Secret(user_with(local.users, "alice").token)
    name, large = f"alice/d-{uuid4().hex[:8]}", b"a line of a large file\n" * 60_000
    api.create_repo(name, repo_type="dataset", private=True)
    api.create_bucket(name, private=True)
    for content, path in ((b"1\n", "a.jsonl"), (large, "b.txt"), (b"2\n", "a.jsonl")):
        api.upload_file(
            path_or_fileobj=content, path_in_repo=path, repo_id=name, repo_type="dataset"
        )
    api.batch_bucket_files(name, add=[(large, "b.txt")])

    async with public_web() as web, hub(local.url, local.url) as opened:
        files = HubFiles(opened, web.fetcher)

        async def got(text: str, token: Secret = token) -> tuple[bytes, str]:
            path = HubPath.read(text)
            return await files.read(path, token, limit_bytes=10_000_000, within=SOON)

        small, commit = await got(f"hf://datasets/{name}/a.jsonl")
        assert small == b"2\n"
        assert (await got(f"hf://datasets/{name}/b.txt"))[0] == large
        assert (await got(f"hf://buckets/{name}/b.txt"))[0] == large
        assert await got(f"hf://datasets/{name}@{commit}/a.jsonl") == (small, commit)
        stranger = Secret(user_with(local.users, "bob").token)
        for kind in ("datasets", "buckets"):
            with pytest.raises(Answered4xx, match="404"):
                await got(f"hf://{kind}/{name}/b.txt", stranger)
        assert web.dialed == []
