"""Every call gets a result or a refusal in words, whatever its arguments are.

The arguments come from the schema that each tool publishes: what fits it, what is at its limits,
and what nobody can have meant. To try thousands takes less than a minute:

    .venv/bin/python -m pytest -n 0 --hypothesis-profile=thorough -k answered_in_words
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import anyio.to_thread
import httpx2
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.support.factories import StartService
from tests.support.http_clients import HttpClient
from tests.support.subjects import ADA_TOKEN

UNKNOWN_JOB: Final = "job_01krz4c0s0e5xv4k6w2q8ntb7m"
HEADERS: Final = {
    "authorization": f"Bearer {ADA_TOKEN}",
    "accept": "application/json, text/event-stream",
    "content-type": "application/json",
}
PROTOCOL_REFUSALS: Final = frozenset({-32700, -32600, -32602})
"""What the protocol says of a message that is none, and of an unknown tool."""
MEANT: Final[dict[str, list[Any]]] = {
    "command": ["true", ["echo", "a b"], '["echo"]'],
    "script": ["print(1)", "https://example.com/x.py"],
    "image": ["python:3.12", "hf.co/spaces/ada/app"],
    "inputs": ["Hi", ["a"], [{"role": "user", "content": "Hi"}], '{"url": "https://a.org/x"}'],
    "items": [[{"custom_id": "1", "inputs": "Hi"}]],
    "items_from": ["hf://datasets/a/b/c.jsonl"],
    "model": ["m/m"],
    "space": ["ada/asleep"],
    "timeout": ["1h", 60],
    "env": [{"LR": 1}, ["LR=1"]],
    "secrets": [{"KEY": "x"}],
    "volumes": [["hf://datasets/a/b:/data"]],
    "outputs": [["model.bin"], "plots/"],
    "labels": [{"a": "b"}],
    "cron": ["0 9 * * 1", "@daily"],
    "timezone": ["Europe/Paris"],
    "defaults": [{"flavor": "cpu-basic"}, {"flavor": None}],
    "overrides": [{"timeout": "2h"}, {"env": {"A1": None}}],
    "since": ["2h", "2026-11-21", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"],
    "until": ["1s", "9999-12-31T23:59:59", 1e300],
    "timeout_seconds": [0.01, "0.01"],
}
"""Values that a caller means, by argument: without them few calls would get far."""
NESTED_CALLS: Final = {
    "job": "launch_job",
    "inference": "launch_inference",
    "space": "launch_space_call",
}
"""Arguments of create_schedule that are the arguments of another tool."""

ODD_TEXTS: Final = st.sampled_from(
    [
        *("", " ", "\0", "a\0b", "\ud800", "\udc00x", "\ufeff", "\u202e", "é" * 300, "👍" * 100),
        *("x" * 10_000, "null", "true", "[]", "{}", '["a"]', '{"a": 1}', '"x"', '["\\u0000"]'),
        *("[" * 2000, '{"a":' * 2000, "1" * 5000, "-1", "1e999", "inf", "NaN", "0x10", "1_000"),
        *("../../etc/passwd", "job_", "job_" + "z" * 26, "ws_" + "0" * 26, "sched_x", UNKNOWN_JOB),
        *("%s %n {0} {x}", "'; DROP TABLE job; --", "\r\nSet-Cookie: a=b", "<script>", "$HF_TOKEN"),
        *("2026-99-99", "P1Y", "1e400d", "9" * 400 + "h", "0000-00-00T00:00:00Z", "99999-01-01"),
    ]
)
NUMBERS: Final = st.sampled_from(
    [
        *(0, -1, 1, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**400),
        *(0.0, -0.0, 0.5, 1e-320, 1e300, 1e308, float("inf"), float("-inf"), float("nan")),
    ]
)
LEAVES: Final = st.one_of(st.none(), st.booleans(), NUMBERS, ODD_TEXTS, st.text(max_size=20))
HOSTILE: Final = st.one_of(
    LEAVES,
    NUMBERS.map(str),
    st.recursive(
        LEAVES,
        lambda inside: st.one_of(
            st.lists(inside, max_size=4), st.dictionaries(st.text(max_size=8), inside, max_size=4)
        ),
        max_leaves=8,
    ),
    st.sampled_from([50, 150, 900]).map(lambda levels: json.loads("[" * levels + "]" * levels)),
    st.sampled_from([50, 150, 400]).map(lambda n: json.loads('{"a":' * n + "1" + "}" * n)),
)


NO_ARGUMENTS: Final[SearchStrategy[dict[str, Any]]] = st.just({})
UNKNOWN_ARGUMENTS: Final = st.one_of(
    NO_ARGUMENTS, NO_ARGUMENTS, st.dictionaries(st.text(max_size=6), HOSTILE, max_size=1)
)


class Tools:
    """The tools as a client sees them, and calls of them."""

    def __init__(self, listed: list[dict[str, Any]], handles: dict[str, str]) -> None:
        self.schemas = {tool["name"]: tool["inputSchema"] for tool in listed}
        self._handles = handles

    def calls(self) -> SearchStrategy[tuple[str, dict[str, Any]]]:
        """Call any tool with any arguments."""
        return st.one_of(
            *(st.tuples(st.just(name), self._arguments(name)) for name in self.schemas)
        )

    def _arguments(self, tool: str) -> SearchStrategy[dict[str, Any]]:
        schema = self.schemas[tool]
        fields: dict[str, Any] = schema["properties"]
        values = {name: self._field(name, fields[name], schema, tool) for name in fields}
        names = st.lists(st.sampled_from(sorted(values) or [""]), max_size=4, unique=True)

        @st.composite
        def arguments(draw: st.DrawFn) -> dict[str, Any]:
            required: list[str] = schema.get("required", [])
            meant = {name: draw(self._meant(name, fields[name], schema)) for name in required}
            chosen = {name: draw(values[name]) for name in draw(names) if name}
            return self._limit_wait(tool, {**draw(UNKNOWN_ARGUMENTS), **meant, **chosen})

        return arguments()

    def _limit_wait(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if tool == "wait_for_jobs" and arguments.get("timeout_seconds") is None:
            return {**arguments, "timeout_seconds": 0.01}
        return arguments

    def _field(
        self, name: str, schema: Mapping[str, Any], root: Mapping[str, Any], tool: str
    ) -> SearchStrategy[Any]:
        if tool == "create_schedule" and name in NESTED_CALLS:
            return self._arguments(NESTED_CALLS[name]) | HOSTILE
        if name == "overrides":
            return self._arguments("launch_job") | self._arguments("launch_inference") | HOSTILE
        if name == "timeout_seconds":
            return st.sampled_from([0.01, "0.01", 0, -1, 46, float("nan"), "x", [], True, 10**400])
        return st.one_of(self._meant(name, schema, root), self._fitting(schema, root), HOSTILE)

    def _meant(
        self, name: str, schema: Mapping[str, Any], root: Mapping[str, Any]
    ) -> SearchStrategy[Any]:
        values: list[Any] = MEANT.get(name, [])
        if name.removesuffix("s") in self._handles:
            handle = self._handles[name.removesuffix("s")]
            values = [handle, UNKNOWN_JOB, *([[handle, UNKNOWN_JOB]] if name == "job_ids" else [])]
        return st.sampled_from(values) if values else self._fitting(schema, root)

    def _fitting(self, schema: Mapping[str, Any], root: Mapping[str, Any]) -> SearchStrategy[Any]:
        """Make values that a schema allows, and those at its limits."""
        if (reference := schema.get("$ref")) is not None:
            return self._fitting(root["$defs"][reference.rpartition("/")[2]], root)
        if members := schema.get("anyOf"):
            return st.one_of(*(self._fitting(member, root) for member in members))
        match schema:
            case {"enum": choices}:
                values: SearchStrategy[Any] = st.sampled_from(choices)
            case {"type": "string"}:
                values = st.text(max_size=40) | ODD_TEXTS
            case {"type": "integer" | "number"}:
                low, high = schema.get("minimum", -1), schema.get("maximum", 10**9)
                values = st.sampled_from([low, high, low - 1, high + 1, low + 0.5, str(high)])
            case {"type": "boolean"}:
                values = st.sampled_from([True, False, "true", "no", 1, 2])
            case {"type": "array"}:
                values = st.lists(self._fitting(schema.get("items", {}), root), max_size=3)
            case {"type": "object", "properties": parts}:
                fields = {name: self._fitting(part, root) for name, part in parts.items()}
                values = st.fixed_dictionaries({}, optional=fields)
            case {"type": "object"}:
                values = st.dictionaries(st.text(max_size=8), LEAVES, max_size=2)
            case _:
                values = HOSTILE
        return values


def call(client: httpx2.Client, tool: str, arguments: object) -> httpx2.Response:
    """Call a tool as a client of the older protocol does: one message, one answer."""
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    body = json.dumps(message | {"params": {"name": tool, "arguments": arguments}})
    return client.post("/mcp", content=body)


def expect_words(response: httpx2.Response) -> None:
    """Check that an answer is a result or a refusal, each in words."""
    assert response.status_code < 500, response.text
    answer = response.json()
    if "error" in answer:
        assert answer["error"]["code"] in PROTOCOL_REFUSALS, answer
        return
    result = answer["result"]
    text = "\n".join(part.get("text", "") for part in result["content"])
    assert text, answer
    assert "Error executing tool" not in text, text
    assert "Traceback" not in text, text
    if result.get("isError"):
        assert result["_meta"]["holdfast/error"]["code"], answer
    else:
        assert result["structuredContent"], answer


@pytest.fixture
def client(start_service: StartService) -> Any:
    """A client of a service that takes any number of jobs."""
    with (
        start_service(open_jobs=1_000_000) as url,
        HttpClient(base_url=url, headers=HEADERS, timeout=60) as opened,
    ):
        yield opened


async def test_every_call_is_answered_in_words(client: httpx2.Client) -> None:
    """No call ends in "Error executing tool", in an internal error, or in no answer."""
    listing = client.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    tools = Tools(listing.json()["result"]["tools"], make_handles(client))

    @settings(
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(tools.calls())
    def answer_in_words(made: tuple[str, dict[str, Any]]) -> None:
        expect_words(call(client, *made))

    await anyio.to_thread.run_sync(answer_in_words)


def make_handles(client: httpx2.Client) -> dict[str, str]:
    """Make a job that is over, a workspace and a schedule, to be named in calls."""

    def read(tool: str, arguments: dict[str, Any], field: str) -> str:
        handle: str = call(client, tool, arguments).json()["result"]["structuredContent"][field]
        return handle

    job = read("launch_job", {"command": "true"}, "job_id")
    call(client, "cancel_job", {"job_id": job})
    schedule = {"cron": "0 9 * * 1", "job": {"command": "true"}}
    return {
        **dict.fromkeys(("job_id", "rerun_of", "after", "cursor"), job),
        "workspace_id": read("create_workspace", {"name": "w"}, "workspace_id"),
        "schedule_id": read("create_schedule", schedule, "schedule_id"),
    }


@pytest.mark.parametrize(
    "arguments",
    [
        '{"name": "x", "defaults": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"name": ' + "1" * 5000 + "}",
        '{"name": "\\ud800"}',
        '{"name": NaN}',
        '{"name": "x", "name": "y"}',
        '{"name": 1' + "0" * 400 + ".5}",
        '"x"',
        "[1]",
        "null",
        "{",
    ],
)
async def test_a_body_that_no_client_builds_is_answered_in_words(
    client: httpx2.Client, arguments: str
) -> None:
    """Deep nesting, huge numbers and half of a character are texts until they are parsed."""
    body = (
        '{"jsonrpc": "2.0", "id": 1, "method": "tools/call",'
        f' "params": {{"name": "create_workspace", "arguments": {arguments}}}}}'
    )

    expect_words(await anyio.to_thread.run_sync(lambda: client.post("/mcp", content=body)))
