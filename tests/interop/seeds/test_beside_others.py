"""Holdfast behind a FastMCP proxy, and beside a Gradio app in the configuration of one client."""

import json
import os
from collections.abc import Generator
from typing import Any

import anyio
import pytest

from service.local.ports import find_free_port
from service.local.stack import Stack
from tests.interop import node_packages, python_environments
from tests.interop.seeds.capabilities import FASTMCP, GRADIO
from tests.interop.seeds.conftest import run_server, seeds_only

pytestmark = [seeds_only, pytest.mark.xdist_group("stack"), pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def gradio_url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """A Gradio app, started with `mcp_server=True`."""
    python = python_environments.install_interpreter(python_environments.lock_path("gradio"))
    script = python_environments.CLIENTS_FOLDER / "gradio_server.py"
    port = find_free_port()
    folder = tmp_path_factory.mktemp("gradio")
    environment = os.environ | {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder),
    }
    url = f"http://127.0.0.1:{port}"
    with run_server(
        "Gradio", (python, script, str(port)), environment, folder / "log", url, folder=folder
    ):
        yield f"{url}/gradio_api/mcp/"


@pytest.mark.capability(FASTMCP, "a proxy in front of Holdfast lists, launches and has resources")
async def test_a_fastmcp_proxy_passes_everything_on(stack: Stack, hub_token: str) -> None:
    """With the headers of whoever set it up."""
    report = await run_fastmcp(hub_token, "proxy", f"{stack.url}/mcp")

    assert "launch_job" in report["tools"]
    assert report["job"]["job_id"].startswith("job_")
    assert "job://{id}" in report["resources"]


@pytest.mark.capability(GRADIO, "both servers in the configuration of one client (FastMCP)")
async def test_a_client_has_a_gradio_app_beside_holdfast(
    stack: Stack, hub_token: str, gradio_url: str
) -> None:
    """Each tool is reached under the name of its server."""
    report = await run_fastmcp(hub_token, "config", f"{stack.url}/mcp", gradio_url)

    assert "holdfast_launch_job" in report["tools"]
    assert report["job"]["job_id"].startswith("job_")
    assert json.loads(report["counted"]) == 4


async def run_fastmcp(hub_token: str, *arguments: str) -> dict[str, Any]:
    python = python_environments.install_interpreter(python_environments.lock_path("fastmcp4"))
    script = str(python_environments.CLIENTS_FOLDER / "fastmcp_beside.py")
    environment = node_packages.make_environment({"HOLDFAST_TOKEN": hub_token})
    done = await anyio.run_process([python, script, *arguments], env=environment, check=False)
    assert done.returncode == 0, done.stderr.decode()
    report: dict[str, Any] = json.loads(done.stdout)
    return report
