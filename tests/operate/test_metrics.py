"""The numbers of a real service and a real worker, scraped as a Prometheus does."""

import json
import re
import socket
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import asyncpg
import pytest
from ruamel.yaml import YAML

from service.local.hub_emulator.users import find_user, load_users
from service.local.ports import find_free_port
from service.local.stack import Stack
from tests.support.http_clients import AsyncHttpClient
from tests.support.metrics import METRICS_TOKEN, Scrape, scrape
from tests.support.paths import REPOSITORY
from tests.support.polling import HTTP_TIMEOUT_SECONDS, eventually, wait_until

pytestmark = [pytest.mark.xdist_group("metrics")]

OPERATE_DOCS: Final = REPOSITORY / "docs" / "operate"
METRICS_PAGE: Final = REPOSITORY / "docs" / "metrics.md"
ANY_TIME_LABELS: Final = frozenset({"instance", "le"})
"""Labels that Prometheus adds, or that are only in buckets."""
CLAUDE: Final = "claude-code/2.1 (cli)"


@dataclass(frozen=True, slots=True)
class MeteredStack:
    """A stack whose processes serve their metrics."""

    stack: Stack
    worker_url: str

    @property
    def token(self) -> str:
        """The token of somebody who may launch."""
        return find_user(load_users(self.stack.folder / "hub"), "alice").token

    async def call(self, tool: str, user_agent: str = CLAUDE, **arguments: Any) -> dict[str, Any]:
        """Call a tool in the newest protocol without a session; return the answer."""
        message = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": tool, "arguments": arguments},
        }
        headers = {
            "authorization": f"Bearer {self.token}",
            "accept": "application/json, text/event-stream",
            "user-agent": user_agent,
            "mcp-protocol-version": "2025-11-25",
        }
        async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
            answer = await http.post(f"{self.stack.url}/mcp", json=message, headers=headers)
        body: dict[str, Any] = answer.json()
        return body

    async def launch(self, *command: str) -> str:
        """Launch a job, and return its handle."""
        answer = await self.call("launch_job", image="python:3.12", command=list(command))
        return str(answer["result"]["structuredContent"]["job_id"])

    async def wait_until_finished(self, handle: str) -> None:
        """Wait for a job to be over."""

        async def is_finished() -> bool:
            answer = await self.call("job_status", job_ids=[handle])
            job = answer["result"]["structuredContent"]["jobs"][0]
            return job["finished_at"] is not None

        await eventually(is_finished, bool)

    async def wait_until_idle(self) -> None:
        """Wait until no job of another test is open, and no run of one."""
        count_open = """
            SELECT (SELECT count(*) FROM job WHERE finished_at IS NULL)
                 + (SELECT count(*) FROM remote_run WHERE state IN ('posting', 'unknown', 'bound'))
        """
        await eventually(lambda: self.query(count_open), lambda count: count == 0)

    async def query(self, statement: str) -> object:
        """Read or change the database, as an operator could."""
        connection = await asyncpg.connect(self.stack.database_url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()


@pytest.fixture(scope="module")
def metered(tmp_path_factory: pytest.TempPathFactory) -> Generator[MeteredStack]:
    """A stack whose processes serve their metrics."""
    port = find_free_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HOLDFAST_CALLS_PER_MINUTE", "0")
        environment.setenv("HOLDFAST_METRICS_TOKEN", METRICS_TOKEN)
        environment.setenv("HOLDFAST_WORKER_METRICS_PORT", str(port))
        with Stack(tmp_path_factory.mktemp("stack"), report=print, durable=False) as running:
            wait_until(partial(_accepts_connections, port))
            yield MeteredStack(running, f"http://127.0.0.1:{port}")


def _accepts_connections(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


async def test_calls_are_counted_by_tool_outcome_client_and_protocol(metered: MeteredStack) -> None:
    """An operator asks which tool fails, for whom, and with what."""
    before = await scrape(metered.stack.url)

    await metered.call("list_jobs")
    await metered.call("list_jobs")
    await metered.call("job_status", job_ids=["job_1"])
    await metered.call("no_such_tool")

    after = await scrape(metered.stack.url)
    labels = {"client": "claude", "protocol": "2025-11-25"}
    calls = "holdfast_tool_calls_total"
    for tool, outcome, count in (
        ("list_jobs", "ok", 2),
        ("job_status", "Invalid", 1),
        ("other", "Protocol", 1),
    ):
        series = labels | {"tool": tool, "outcome": outcome}
        assert after.value(calls, **series) - before.value(calls, **series) == count, series
    seconds = "holdfast_tool_call_duration_seconds_count"
    assert after.value(seconds, tool="list_jobs") - before.value(seconds, tool="list_jobs") == 2
    answers = ("holdfast_http_responses_total", {"status": "200"})
    assert after.value(answers[0], **answers[1]) - before.value(answers[0], **answers[1]) >= 3


async def test_a_launch_is_counted_from_its_claim_to_its_end(metered: MeteredStack) -> None:
    """Claims, launches and ends are what a deployment is for; each is counted once."""
    await metered.wait_until_idle()
    before = await scrape(metered.worker_url)
    ends = "holdfast_job_ends_total"

    for command in (("true",), ("false",)):
        handle = await metered.launch(*command)
        await metered.wait_until_finished(handle)

    # The last commit and its count are two moments.
    after = await eventually(
        lambda: scrape(metered.worker_url),
        lambda page: page.total(ends, state="failed") == before.total(ends, state="failed") + 1,
    )
    moved = {
        (name, *sorted(labels)): value - before.samples.get((name, labels), 0)
        for (name, labels), value in after.samples.items()
        if name in {"holdfast_job_transitions_total", "holdfast_job_ends_total"}
    }
    events = {"claimed": 2, "bound": 2, "ended": 2}
    for event, count in events.items():
        key = ("holdfast_job_transitions_total", ("event", event), ("kind", "hub_job"))
        assert moved[key] == count, moved
    kind = ("kind", "hub_job")
    assert moved[(ends, kind, ("reason", "none"), ("state", "succeeded"))] == 1
    assert moved[(ends, kind, ("reason", "exit_nonzero"), ("state", "failed"))] == 1
    requests = ("holdfast_hub_requests_total", "POST /api/jobs/{namespace}")
    series = {"route": requests[1], "status": "200"}
    assert after.value(requests[0], **series) - before.value(requests[0], **series) == 2
    assert after.value("holdfast_worker_slots_in_use", kind="hub_job") == 0
    assert after.value("holdfast_worker_last_sweep_timestamp_seconds") > 1e9
    assert after.value("holdfast_unowned_rows") == 0
    assert after.value("holdfast_database_up") == 1
    assert after.value("holdfast_database_pool_connections") >= 1


async def test_the_service_counts_what_its_callers_submit_and_cancel(metered: MeteredStack) -> None:
    """Half of the transitions are made by the service; they are in its own numbers."""
    before = await scrape(metered.stack.url)

    handle = await metered.launch("sleep", "60")
    await metered.call("cancel_job", job_id=handle)

    after = await scrape(metered.stack.url)
    for event in ("created", "cancelled"):
        labels = {"event": event, "kind": "hub_job"}
        name = "holdfast_job_transitions_total"
        assert after.value(name, **labels) - before.value(name, **labels) == 1
    cancelled = {"kind": "hub_job", "state": "cancelled", "reason": "none"}
    ends = "holdfast_job_ends_total"
    assert after.value(ends, **cancelled) - before.value(ends, **cancelled) == 1


async def test_held_jobs_are_seen_with_their_money(metered: MeteredStack) -> None:
    """A held job waits for a person: it is no sign of too few workers."""
    await metered.call("list_jobs")
    await metered.query("UPDATE subject SET hold = 'operator', held_at = now()")
    try:
        handle = await metered.launch("true")

        page = await eventually(
            lambda: scrape(metered.worker_url),
            lambda page: page.value("holdfast_queued_jobs", kind="hub_job", waits_for="held") == 1,
        )
    finally:
        await metered.query("UPDATE subject SET hold = NULL, held_at = NULL")

    assert page.value("holdfast_held_subjects", hold="operator") == 1
    assert page.value("holdfast_queue_oldest_wait_seconds", kind="hub_job") == 0
    assert page.value("holdfast_money_held_usd") > 0
    await metered.call("cancel_job", job_id=handle)


async def test_no_caller_makes_a_series(metered: MeteredStack) -> None:
    """One series for each name that a stranger can think of ends the Prometheus that scrapes it."""
    await metered.call("no_such_tool", user_agent="a stranger")
    before = await scrape(metered.stack.url)

    for number in range(20):
        await metered.call(f"tool_{number}", user_agent=f'client{number}"}} 1 #')

    after = await scrape(metered.stack.url)
    assert after.series == before.series
    stranger = {"tool": "other", "client": "other", "protocol": "2025-11-25", "outcome": "Protocol"}
    calls = "holdfast_tool_calls_total"
    assert after.value(calls, **stranger) - before.value(calls, **stranger) == 20


async def test_no_page_names_a_person_a_job_or_a_token(metered: MeteredStack) -> None:
    """Whoever may read the numbers of a deployment may not read who does what on it."""
    handle = await metered.launch("true")
    await metered.call("cancel_job", job_id=handle)

    pages: list[Scrape] = [await scrape(metered.stack.url), await scrape(metered.worker_url)]

    user = find_user(load_users(metered.stack.folder / "hub"), "alice")
    for page in pages:
        for private in (handle, user.token, user.name, user.id, METRICS_TOKEN):
            assert private not in page.text


@pytest.mark.parametrize("token", ["", "wrong-token-of-somebody", f"{METRICS_TOKEN}x"])
async def test_only_the_token_of_the_operator_opens_a_page(
    metered: MeteredStack, token: str
) -> None:
    """The numbers of a deployment are not for its users, and no address proves who asks."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        for url in (metered.stack.url, metered.worker_url):
            answer = await http.get(f"{url}/metrics", headers=headers)

            assert (answer.status_code, "holdfast_" in answer.text) == (401, False)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /other HTTP/1.1\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\n\r\n",
        b"\x00\xff\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 10_000,
        b"",
    ],
)
async def test_a_worker_survives_whatever_its_port_is_sent(
    metered: MeteredStack, request_bytes: bytes
) -> None:
    """A port scan is no reason to stop working."""
    port = urlsplit(metered.worker_url).port
    assert port is not None
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        try:
            await stream.send(request_bytes)
            await stream.send_eof()
            answer = b"".join([chunk async for chunk in stream])
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            answer = b""

    assert b"200 OK" not in answer
    assert (await scrape(metered.worker_url)).value("holdfast_database_up") == 1


def read_rules() -> list[dict[str, Any]]:
    """Return the alert rules."""
    yaml: Any = YAML(typ="safe")  # untyped
    rules: list[dict[str, Any]] = yaml.load(OPERATE_DOCS / "alerts.yaml")["groups"][0]["rules"]
    return rules


def read_expressions() -> dict[str, str]:
    """Return each expression of the dashboard and of the alert rules, by its title."""
    dashboard = json.loads((OPERATE_DOCS / "grafana-dashboard.json").read_text())
    rules = read_rules()
    panels = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel["targets"]
    }
    return panels | {rule["alert"]: rule["expr"] for rule in rules}


def test_each_panel_and_alert_says_which_question_it_answers() -> None:
    """At night nobody remembers what a line on a dashboard was for."""
    dashboard = json.loads((OPERATE_DOCS / "grafana-dashboard.json").read_text())
    rules = read_rules()

    descriptions = [panel["description"] for panel in dashboard["panels"]]
    descriptions += [rule["annotations"]["description"] for rule in rules]

    assert [text for text in descriptions if "?" not in text] == []
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def read_documented_names() -> tuple[set[str], set[str]]:
    """Return the metrics and the labels in the table of the page about metrics."""
    rows = re.findall(
        r"^\| (`holdfast_.*)\|.*\|(.*)\|.*\|$", METRICS_PAGE.read_text(), re.MULTILINE
    )
    names: set[str] = set()
    for cell, _ in rows:
        first, *others = re.findall(r"`(\w+)`", cell)
        prefix = first.removesuffix("_max_connections")
        names |= {first, *(prefix + name if name[0] == "_" else name for name in others)}
    return names, {label for _, cell in rows for label in re.findall(r"`(\w+)`", cell)}


async def test_the_page_about_metrics_names_all_that_is_served(metered: MeteredStack) -> None:
    """What is not written down is not used, and what is not there cannot be."""
    pages = [await scrape(metered.stack.url), await scrape(metered.worker_url)]

    served = {name for page in pages for name in find_families(page)}
    labels = {label for page in pages for _, pairs in page.series for label, _ in pairs}
    documented_names, documented_labels = read_documented_names()
    assert {name for name in served if not name.endswith("_created")} == documented_names
    assert labels <= documented_labels | ANY_TIME_LABELS


def find_families(page: Scrape) -> list[str]:
    """Return the names of the metrics of a page, with series or without."""
    return re.findall(r"^# TYPE (\S+)", page.text, re.MULTILINE)


def test_what_the_dashboard_and_the_alerts_ask_for_exists() -> None:
    """A renamed metric makes an alert that never fires, and nobody notices."""
    documented_names, documented_labels = read_documented_names()

    for title, expression in read_expressions().items():
        names = set(re.findall(r"holdfast_\w+", expression))
        assert names, title
        assert {name.removesuffix("_bucket") for name in names} <= documented_names, title
        used = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", expression))
        used |= {
            label.strip()
            for group in re.findall(r"by \(([^)]*)\)", expression)
            for label in group.split(",")
        }
        assert used - ANY_TIME_LABELS <= documented_labels, title
        assert expression.count("(") == expression.count(")"), title
