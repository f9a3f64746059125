"""Reading what a caller names on the Hub: with their token, at the Hub alone, and pinned."""

from collections.abc import AsyncGenerator, Generator
from datetime import timedelta
from uuid import uuid4

import pytest
from starlette.responses import Response

from schema.accounts.vault import Secret
from schema.hub.client import HubRejected, HubUnreachable
from schema.hub.hub_files import HubFileReader
from schema.hub.url_fetcher import FetchRefused
from schema.specs.inputs.hub_uri import HubUri
from service.local.hub_emulator.users import find_user
from tests.support.fake_web import FakeWeb, raw_response, run_fake_web
from tests.support.hub.emulator_process import HubEmulatorProcess, run_hub_emulator
from tests.support.hub.scripted_hub import ScriptedHub
from workers.hub.client import open_hub_jobs_client

TIMEOUT = timedelta(seconds=10)
TOKEN = Secret("hf_ada")
PATH = HubUri.parse("hf://datasets/ada/cats/a.jsonl")
SHA = "a" * 40
CDN = "https://cdn.example.com/x?sig=1"


@pytest.fixture
async def fake_web() -> AsyncGenerator[FakeWeb]:
    async with run_fake_web() as opened:
        yield opened


@pytest.fixture
async def hub_files(scripted_hub: ScriptedHub, fake_web: FakeWeb) -> AsyncGenerator[HubFileReader]:
    async with open_hub_jobs_client(scripted_hub.url, scripted_hub.url) as opened:
        yield HubFileReader(opened, fake_web.fetcher)


def file_response(content: bytes = b"", status: int = 200, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(content, status, {"x-repo-commit": SHA, **named})


async def read_file(
    files: HubFileReader, path: HubUri = PATH, limit: int = 1000
) -> tuple[bytes, str]:
    return await files.read(path, TOKEN, max_bytes=limit, timeout=TIMEOUT)


async def test_the_token_is_shown_to_the_hub_and_not_to_where_it_leads(
    hub_files: HubFileReader, scripted_hub: ScriptedHub, fake_web: FakeWeb
) -> None:
    """A renamed repository leads elsewhere at the Hub; its bytes are on another host."""
    scripted_hub.answers = [
        file_response(status=307, location="/datasets/ada/lions/resolve/main/a.jsonl"),
        file_response(status=302, location=CDN),
    ]
    fake_web.pages[CDN] = raw_response(b"one\n")

    assert await read_file(hub_files) == (b"one\n", SHA)

    assert [each.headers["authorization"] for each in scripted_hub.requests] == [
        "Bearer hf_ada"
    ] * 2
    assert "authorization" not in fake_web.requests[0].headers


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
    hub_files: HubFileReader, scripted_hub: ScriptedHub, fake_web: FakeWeb, location: str
) -> None:
    """Whoever can make the Hub redirect cannot make us reach what is not public."""
    fake_web.addresses_by_name["private.example.com"] = ["10.0.0.1"]
    scripted_hub.answers = [file_response(status=302, location=location)]

    with pytest.raises(FetchRefused):
        await read_file(hub_files)

    assert (fake_web.dialed_addresses, len(scripted_hub.requests)) == ([], 1)


@pytest.mark.parametrize(
    ("response", "error", "words"),
    [
        (file_response(status=404), HubRejected, "404: hf://datasets/ada/cats/a.jsonl"),
        (file_response(status=401), HubRejected, "401"),
        (file_response(status=401, x_error_code="RepoNotFound"), HubRejected, "404"),
        (file_response(status=403), HubRejected, "403"),
        (file_response(status=429, retry_after="7"), HubRejected, "429"),
        (file_response(status=503), HubUnreachable, "503"),
        (file_response(b"x" * 2000), FetchRefused, "larger than 1,000 bytes"),
        (file_response(b"x", content_encoding="gzip"), HubUnreachable, "compressed"),
        (Response(b"x"), HubUnreachable, "does not say which revision"),
        (
            file_response(status=302, location="/datasets/ada/cats/a"),
            HubUnreachable,
            "more than 3 redirects",
        ),
    ],
)
async def test_what_cannot_be_read_is_said_to_be_gone_or_to_be_tried_again(
    hub_files: HubFileReader,
    scripted_hub: ScriptedHub,
    response: Response,
    error: type[Exception],
    words: str,
) -> None:
    """Reading changes nothing, so nothing that is lost on the way is in doubt."""
    scripted_hub.answers = [response] * 5

    with pytest.raises(error, match=words):
        await read_file(hub_files)


async def test_lines_are_read_as_they_come_and_none_is_too_long(
    hub_files: HubFileReader, scripted_hub: ScriptedHub
) -> None:
    """Where a line is cut by the wire means nothing; empty ones count."""
    scripted_hub.answers = [
        file_response(b'{"a": "\xc3\xa9"}\r\n\n2\n3'),
        file_response(b"1\n" + b"x" * 99),
    ]

    async with hub_files.open(PATH, TOKEN, max_bytes=1000, timeout=TIMEOUT) as file:
        assert [line async for line in file.lines(max_line_bytes=20)] == [
            b'{"a": "\xc3\xa9"}',
            b"",
            b"2",
            b"3",
        ]
    with pytest.raises(FetchRefused, match=r"Line 2 of hf://.* is longer than 20 bytes"):
        async with hub_files.open(PATH, TOKEN, max_bytes=1000, timeout=TIMEOUT) as file:
            _ = [line async for line in file.lines(max_line_bytes=20)]


async def test_a_file_in_a_bucket_that_has_changed_is_not_taken_for_the_one_that_was_read(
    hub_files: HubFileReader, scripted_hub: ScriptedHub
) -> None:
    """A batch that goes on tomorrow would mix the items of two files."""
    path = HubUri.parse("hf://buckets/ada/b/a.jsonl")
    scripted_hub.answers = [Response(b"1", headers={"x-xet-hash": "f" * 64}) for _ in range(2)]
    scripted_hub.answers += [Response(b"2", headers={"x-xet-hash": "e" * 64})]

    _, revision = await read_file(hub_files, path)

    assert await read_file(hub_files, path.at_revision(revision)) == (b"1", "f" * 64)
    with pytest.raises(FetchRefused, match="has changed since"):
        await read_file(hub_files, path.at_revision(revision))


@pytest.fixture(scope="module")
def hub_emulator(tmp_path_factory: pytest.TempPathFactory) -> Generator[HubEmulatorProcess]:
    """The local Hub."""
    with run_hub_emulator(tmp_path_factory.mktemp("hub")) as running:
        yield running


async def test_repositories_and_buckets_of_the_local_hub_are_read_as_those_of_the_hub(
    hub_emulator: HubEmulatorProcess,
) -> None:
    """What the real client has put there, small and large, is what is read, and stays pinned."""
    api, token = hub_emulator.api(), Secret(find_user(hub_emulator.users, "alice").token)
    name, large = f"alice/d-{uuid4().hex[:8]}", b"a line of a large file\n" * 60_000
    api.create_repo(name, repo_type="dataset", private=True)
    api.create_bucket(name, private=True)
    for content, path in ((b"1\n", "a.jsonl"), (large, "b.txt"), (b"2\n", "a.jsonl")):
        api.upload_file(
            path_or_fileobj=content, path_in_repo=path, repo_id=name, repo_type="dataset"
        )
    api.batch_bucket_files(name, add=[(large, "b.txt")])

    async with (
        run_fake_web() as web,
        open_hub_jobs_client(hub_emulator.url, hub_emulator.url) as opened,
    ):
        files = HubFileReader(opened, web.fetcher)

        async def got(text: str, token: Secret = token) -> tuple[bytes, str]:
            path = HubUri.parse(text)
            return await files.read(path, token, max_bytes=10_000_000, timeout=TIMEOUT)

        small, commit = await got(f"hf://datasets/{name}/a.jsonl")
        assert small == b"2\n"
        assert (await got(f"hf://datasets/{name}/b.txt"))[0] == large
        assert (await got(f"hf://buckets/{name}/b.txt"))[0] == large
        assert await got(f"hf://datasets/{name}@{commit}/a.jsonl") == (small, commit)
        stranger = Secret(find_user(hub_emulator.users, "bob").token)
        for kind in ("datasets", "buckets"):
            with pytest.raises(HubRejected, match="404"):
                await got(f"hf://{kind}/{name}/b.txt", stranger)
        assert web.dialed_addresses == []
