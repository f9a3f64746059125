"""Every legal form of a message is taken, and every other one refused in words."""

import json
from typing import Any, Final

import anyio.to_thread
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.http.messages import MAX_BATCH_MESSAGES
from tests.support.factories import StartService
from tests.support.http_clients import AsyncHttpClient, HttpClient
from tests.support.hub.fake_hub import FakeHub, whoami_answer
from tests.support.subjects import ADA_TOKEN

LIST_JOBS: Final[dict[str, Any]] = {
    "jsonrpc": "2.0",
    "method": "tools/call",
    "params": {"name": "list_jobs", "arguments": {}},
}
WITH_PROGRESS: Final[dict[str, Any]] = LIST_JOBS | {
    "params": LIST_JOBS["params"] | {"_meta": {"progressToken": 1}}
}
PING: Final = {"jsonrpc": "2.0", "method": "ping"}
NOTIFICATION: Final = {"jsonrpc": "2.0", "method": "notifications/initialized"}


async def post(url: str, body: object, path: str = "/mcp", **headers: str) -> httpx2.Response:
    """Post a body with the headers of Ada's client; an empty one is left out."""
    defaults = {"authorization": f"Bearer {ADA_TOKEN}", "content-type": "application/json"}
    sent = {name.replace("_", "-"): value for name, value in (defaults | headers).items() if value}
    async with AsyncHttpClient(headers=sent) as http:
        if "accept" not in sent:
            del http.headers["accept"]
        content = body if isinstance(body, str | bytes) else json.dumps(body)
        return await http.post(f"{url}{path}", content=content)


async def test_a_slash_at_the_end_of_the_path_changes_nothing(service_url: str) -> None:
    """A redirect would be built from the request: http, behind a proxy that ends TLS."""
    for path in ("/mcp", "/mcp/", "/mcp//"):
        answer = await post(service_url, PING | {"id": 1}, path, x_forwarded_proto="https")

        assert (answer.status_code, answer.json()["result"]) == (200, {}), path


async def test_no_path_is_redirected(service_url: str) -> None:
    """With its slash it is answered as without it."""
    metadata = "/.well-known/oauth-protected-resource/mcp/"
    async with AsyncHttpClient() as http:
        for path, status in {
            "/health/live/": 200,
            metadata: 200,
            "/files/x/": 404,
            "/x/": 404,
        }.items():
            answers = [await http.get(f"{service_url}{each}") for each in (path, path.rstrip("/"))]

            assert [answer.status_code for answer in answers] == [status, status], path
            assert answers[0].content == answers[1].content


@pytest.mark.parametrize("wants_progress", [False, True])
async def test_a_client_that_takes_json_is_answered(
    service_url: str,
    wants_progress: bool,  # noqa: FBT001  # a parameter
) -> None:
    """No `Accept` is every media type (RFC 9110); progress needs a stream, an answer does not."""
    message = WITH_PROGRESS if wants_progress else LIST_JOBS
    for accept in ("", "*/*", "application/json", "application/*;q=0.5, x/y"):
        answer = await post(service_url, message | {"id": 1}, accept=accept)

        as_stream = wants_progress and accept in {"", "*/*"}
        media_type = "text/event-stream" if as_stream else "application/json"
        assert answer.status_code == 200, accept
        assert answer.headers["content-type"].startswith(media_type), accept


async def test_a_client_that_takes_only_a_stream_is_answered_by_one(service_url: str) -> None:
    """The protocol lets us choose, so we choose what the client takes."""
    answer = await post(service_url, LIST_JOBS | {"id": 1}, accept="text/event-stream")

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")


async def test_a_client_that_takes_neither_is_told_so(service_url: str) -> None:
    """It could read no answer of ours."""
    assert (await post(service_url, PING | {"id": 1}, accept="text/html")).status_code == 406


@pytest.mark.parametrize("version", ["2025-03-26", "2025-06-18", "2025-11-25"])
async def test_every_legal_id_comes_back_as_it_was(service_url: str, version: str) -> None:
    """A client finds its request by it, and compares exactly."""
    for name in (1, 0, -7, 2**53 + 1, 10**40, "", "a", "ünï", "1", '"\n', "x" * 5000):
        answer = await post(service_url, PING | {"id": name}, mcp_protocol_version=version)

        returned = json.loads(answer.content)["id"]
        assert (answer.status_code, returned, type(returned)) == (200, name, type(name))


async def test_an_id_that_the_protocol_forbids_is_refused_in_words(service_url: str) -> None:
    """It was taken for a notification: accepted, and never answered."""
    for name in ("null", "1.5", "1.0", "1e3", "true", "[]", '{"a": 1}'):
        body = f'{{"jsonrpc": "2.0", "id": {name}, "method": "ping"}}'
        for answer in (await post(service_url, body), await post(service_url, f"[{body}]")):
            assert answer.status_code == 400, name
            assert answer.json()["error"]["code"] == -32600
            assert "a string or an integer" in answer.json()["error"]["message"]
            assert answer.json()["id"] is None


@pytest.mark.parametrize("version", ["", "2025-03-26"])
async def test_the_version_that_has_batches_is_answered_in_one(
    service_url: str, version: str
) -> None:
    """Each request has its answer, a notification has none."""
    batch = [PING | {"id": 1}, NOTIFICATION, LIST_JOBS | {"id": "two"}]

    answer = await post(service_url, batch, mcp_protocol_version=version)
    silent = await post(service_url, [NOTIFICATION], mcp_protocol_version=version)

    assert answer.status_code == 200
    assert [each["id"] for each in answer.json()] == [1, "two"]
    assert answer.json()[1]["result"]["structuredContent"]["jobs"] == []
    assert (silent.status_code, silent.content) == (202, b"")


async def test_a_version_without_batches_refuses_one_in_words(service_url: str) -> None:
    """They were taken out of the protocol; the client learns what to do instead."""
    for version in ("2025-06-18", "2025-11-25", "2026-07-28"):
        answer = await post(service_url, [PING | {"id": 1}], mcp_protocol_version=version)

        assert answer.status_code == 400
        assert "one message in each request" in answer.json()["error"]["message"]


async def test_an_empty_batch_and_a_handshake_in_a_batch_are_refused(service_url: str) -> None:
    """As JSON-RPC and protocol 2025-03-26 say."""
    handshake: dict[str, Any] = PING | {"id": 1, "method": "initialize", "params": {}}

    assert (await post(service_url, [])).json()["error"]["code"] == -32600
    assert "by itself" in (await post(service_url, [handshake])).json()["error"]["message"]


async def test_each_message_of_a_batch_counts_as_a_call(
    start_service: StartService, fake_hub: FakeHub
) -> None:
    """A batch is no way around the limit of a person."""
    fake_hub.whoami_by_token["hf_batch"] = whoami_answer("5e9ecfc04957053f60648a55", "batch")
    batch = [PING | {"id": number} for number in range(4)]
    with start_service(calls_per_minute=3) as url:
        answer = await post(url, batch, authorization="Bearer hf_batch")

    assert answer.status_code == 429


@pytest.mark.parametrize(
    "malformed", ['{"method": 1}', "1", "null", "[]", '{"method": "ping", "params": []}']
)
async def test_a_malformed_message_hides_no_other_of_its_batch(
    start_service: StartService, fake_hub: FakeHub, malformed: str
) -> None:
    """`parse_calls` reads each by itself: a batch was one call, whatever followed the first."""
    subject_id = f"5e9ecfc04957053f6065{len(malformed):04x}"
    fake_hub.whoami_by_token["hf_hidden"] = whoami_answer(subject_id, "hidden")
    following = json.dumps([PING | {"id": number} for number in range(3)])[1:]
    handshake = '{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": []}'
    with start_service(calls_per_minute=3) as url:
        refused = await post(url, f"[{malformed}, {handshake}]", authorization="Bearer hf_hidden")
        version = await post(
            url,
            f"[{malformed}]",
            authorization="Bearer hf_hidden",
            mcp_protocol_version="2025-11-25",
        )
        counted = await post(url, f"[{malformed}, {following}", authorization="Bearer hf_hidden")

    assert (refused.status_code, version.status_code, counted.status_code) == (400, 400, 429)
    assert "by itself" in refused.json()["error"]["message"]
    assert "one message in each request" in version.json()["error"]["message"]


async def test_a_malformed_message_of_a_batch_is_answered_beside_the_others(
    service_url: str,
) -> None:
    """As JSON-RPC says; each is one call."""
    answer = await post(service_url, [1, {"method": 1}, PING | {"id": 3}])

    assert answer.status_code == 200
    assert [each.get("error", {}).get("code") for each in answer.json()] == [-32602, -32602, None]


async def test_a_batch_has_a_greatest_length(service_url: str) -> None:
    """All its answers are held at a time; the refusal names the number."""
    longest = [PING | {"id": number} for number in range(MAX_BATCH_MESSAGES)]

    answered = await post(service_url, longest)
    refused = await post(service_url, [{"method": 1}, *longest])

    assert len(answered.json()) == MAX_BATCH_MESSAGES
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == -32600
    assert "at most 50 messages, and this one has 51" in refused.json()["error"]["message"]


async def test_a_list_that_is_no_json_is_refused_in_words(service_url: str) -> None:
    """It is no batch."""
    answer = await post(service_url, '[{"method": ')

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32700)


IDS: Final = st.none() | st.booleans() | st.floats() | st.integers() | st.text()
MESSAGES: Final = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.sampled_from(["2.0", "1.0", 2]),
        "id": IDS,
        "method": st.sampled_from(["ping", "tools/list", "tools/call", "initialize", "x", 1]),
        "params": st.none() | st.dictionaries(st.text(max_size=5), IDS, max_size=2) | st.lists(IDS),
    },
)
BODIES: Final = st.one_of(
    (MESSAGES | st.lists(MESSAGES, max_size=3) | IDS).map(json.dumps),
    st.binary(max_size=20),
    st.sampled_from([1, 4300, 4301, 9000]).map(
        lambda digits: f'{{"jsonrpc":"2.0","id":{"1" * digits},"method":"ping"}}'
    ),
)
HEADER_TEXT: Final = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20).map(
    str.strip
)
HEADERS: Final = st.fixed_dictionaries(
    {},
    optional={
        "accept": st.sampled_from(["*/*", "application/json", "text/event-stream;q=0", ",,"])
        | HEADER_TEXT,
        "content-type": st.sampled_from(["application/json; charset=utf-8", "text/plain"]),
        "mcp-protocol-version": st.sampled_from(["2025-03-26", "2025-11-25", "2026-07-28"])
        | HEADER_TEXT,
        "mcp-method": HEADER_TEXT,
        "mcp-session-id": HEADER_TEXT,
        "origin": st.sampled_from(["http://localhost:1", "https://evil.example", "null", ""])
        | HEADER_TEXT,
        "host": st.sampled_from(["evil.example", "localhost", "127.0.0.1:80"]) | HEADER_TEXT,
        "x-forwarded-proto": st.sampled_from(["https", "http", "x"]),
        "x-forwarded-host": st.sampled_from(["evil.example", "hold.example"]),
        "access-control-request-method": st.sampled_from(["POST", "x"]),
    },
)
PATHS: Final = st.sampled_from(
    [
        "/mcp",
        "/mcp/",
        "/mcp//",
        "//mcp",
        "//evil.example/",
        "/",
        "/mcp/x/",
        "/health/live/",
        "/a/..",
    ]
)
METHODS: Final = st.sampled_from(
    ["POST", "POST", "POST", "GET", "OPTIONS", "DELETE", "PUT", "HEAD"]
)


async def test_no_request_meets_a_bug_or_is_sent_elsewhere(service_url: str) -> None:
    """Whatever the path, the headers and the body: an answer in words, and never a redirect."""
    with HttpClient() as http:

        @given(METHODS, PATHS, HEADERS, BODIES)
        def request(method: str, path: str, headers: dict[str, str], body: str | bytes) -> None:
            defaults = {"authorization": f"Bearer {ADA_TOKEN}", "content-type": "application/json"}
            url = httpx2.URL(service_url).copy_with(raw_path=path.encode())

            answer = http.request(
                method, url, content=body, headers=defaults | headers, follow_redirects=False
            )

            assert answer.status_code < 500
            assert "location" not in answer.headers
            assert not answer.is_redirect

        await anyio.to_thread.run_sync(request)
