"""One trace from the call of a client to the request at the Hub, at a real collector."""

import secrets
import subprocess
import sys
from typing import Any, Final

import pytest

from schema.settings import Settings
from tests.operate.deployments import PATIENCE, Deployment
from tests.support.hub.emulator_process import HubEmulatorProcess
from tests.support.mcp.client import post_message
from tests.support.paths import REPOSITORY
from tests.support.polling import eventually
from tests.support.trace_collector import CollectedSpan, TraceCollector, run_trace_collector

CANARY: Final = "canary-of-an-argument"
EXPORT_SOON: Final = {"OTEL_BSP_SCHEDULE_DELAY": "200"}
"""Milliseconds between two exports."""


async def call(
    url: str, hub: HubEmulatorProcess, tool: str, arguments: dict[str, Any], **headers: str
) -> dict[str, Any]:
    """Call a tool as Alice; return the whole result."""
    params = {"name": tool, "arguments": arguments}
    answer = await post_message(
        url, "tools/call", params, authorization=f"Bearer {hub.api().token}", **headers
    )
    result: dict[str, Any] = answer.json()["result"]
    return result


async def launch(url: str, hub: HubEmulatorProcess, *command: str, **headers: str) -> str:
    """Launch a job, and return its handle."""
    arguments = {"image": "python:3.12", "command": command, "env": {"CANARY": CANARY}}
    result = await call(url, hub, "launch_job", arguments, **headers)
    return str(result["structuredContent"]["job_id"])


async def wait_for_spans(collector: TraceCollector, **facts: Any) -> list[CollectedSpan]:
    """Wait until a span of which these facts hold has arrived."""

    async def look() -> list[CollectedSpan]:
        return collector.find(**facts)

    return await eventually(look, bool, timeout=PATIENCE)


@pytest.mark.timeout(300)
async def test_one_trace_leads_from_the_client_through_service_and_worker_to_the_hub(
    deployment: Deployment, hub: HubEmulatorProcess
) -> None:
    """Whoever asks why a launch was slow sees where its time went, in two processes."""
    trace_id, client_span = secrets.token_hex(16), secrets.token_hex(8)
    with run_trace_collector() as collector:
        deployment.environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url} | EXPORT_SOON
        url = await deployment.start_service()
        deployment.start_worker()

        handle = await launch(
            url, hub, "sleep", "600", traceparent=f"00-{trace_id}-{client_span}-01"
        )
        [create] = await wait_for_spans(
            collector, trace_id=trace_id, name="POST /api/jobs/{namespace}"
        )
        [attempt] = await wait_for_spans(collector, trace_id=trace_id, name="process hub_job")
        await call(url, hub, "cancel_job", {"job_id": handle})
        [kill, *_] = await wait_for_spans(collector, trace_id=trace_id, name="kill run")
        await call(url, hub, "cancel_job", {"job_id": CANARY})
        [refused] = await wait_for_spans(collector, name="tools/call cancel_job", is_error=True)

    [tool] = collector.find(trace_id=trace_id, kind="server")
    [wake] = collector.find(trace_id=trace_id, kind="producer")
    chain = [
        (span.service, span.name, span.kind, span.parent_id)
        for span in (tool, wake, attempt, create, kill)
    ]
    assert chain == [
        ("holdfast-service", "tools/call launch_job", "server", client_span),
        ("holdfast-service", "send wake", "producer", tool.span_id),
        ("holdfast-worker", "process hub_job", "consumer", tool.span_id),
        ("holdfast-worker", "POST /api/jobs/{namespace}", "client", attempt.span_id),
        ("holdfast-worker", "kill run", "internal", tool.span_id),
    ]
    assert tool.attributes["gen_ai.tool.name"] == "launch_job"
    assert {span.attributes["holdfast.handle"] for span in (tool, attempt, kill)} == {handle}
    assert create.attributes["http.response.status_code"] == 200
    assert create.attributes["http.request.method"] == "POST"
    assert refused.attributes["error.type"] == "Invalid"
    assert not any(span.is_error for span in (tool, wake, attempt, create, kill))
    [job] = hub.api().list_jobs(namespace="alice")
    assert (job.labels or {})["holdfast-trace"] == trace_id
    everything = b"".join(collector.bodies).decode("latin-1")
    token = hub.api().token
    assert isinstance(token, str)
    for secret in (CANARY, token, "alice", hub.users[0].id):
        assert secret not in everything


@pytest.mark.timeout(300)
async def test_a_collector_that_is_away_delays_no_call_and_is_one_line(
    deployment: Deployment, hub: HubEmulatorProcess
) -> None:
    """Traces are for looking at what happens; they must not be what happens."""
    nowhere = {"HOLDFAST_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    deployment.environment |= nowhere | EXPORT_SOON | {"OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    url = await deployment.start_service()

    handles = {await launch(url, hub, "true") for _ in range(20)}

    await eventually(_read_log(deployment), lambda log: "Failed to export" in log, timeout=PATIENCE)
    assert len(handles) == 20
    assert deployment.read_log("service").count("Failed to export") == 1


def _read_log(deployment: Deployment) -> Any:
    async def read() -> str:
        return deployment.read_log("service")

    return read


@pytest.mark.parametrize(
    ("module", "allowed"),
    [("workers.worker", set[str]()), ("service.app", {"opentelemetry-api"})],
)
def test_without_a_collector_nothing_of_opentelemetry_is_imported(
    module: str, allowed: set[str]
) -> None:
    """Off costs nothing. The SDK of MCP imports the API by itself, so the service has that."""
    program = (
        f"import {module}, sys\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    assert "opentelemetry.sdk" not in ran.stdout
    assert "opentelemetry.exporter" not in ran.stdout
    assert bool(allowed) == ("opentelemetry" in ran.stdout)


async def test_an_empty_address_is_no_collector(make_settings: Any) -> None:
    """Compose passes an unset variable on as an empty one."""
    settings: Settings = make_settings(HOLDFAST_OTLP_ENDPOINT="")

    assert settings.trace_collector is None
