"""A tool is one module: the example of the documentation works as it is printed."""

import re
from collections.abc import Callable, Generator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Final

import pytest

from schema.db.database import Database
from schema.settings import Settings
from service.app import assemble_app, build_all_tools
from service.mcp.tool import McpTool
from tests.support.http_server import serve_app
from tests.support.hub.fake_hub import FakeHub
from tests.support.jobs.retention import keep_for_a_month
from tests.support.mcp.client import answer_text, call_for_result, call_tool, post_message
from tests.support.paths import DOCS

EXAMPLE: Final = re.compile(r"```python\n(\"{3}The tool .*?)```", re.DOTALL)


def load_example(folder: Path) -> list[McpTool]:
    """Save the module as the page says, and ask it for its tools."""
    example = EXAMPLE.search((DOCS / "executors.md").read_text(encoding="utf-8"))
    assert example is not None
    path = folder / "launch_pause.py"
    path.write_text(example[1], encoding="utf-8")
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    tools: list[McpTool] = module.build_tools()
    return tools


@pytest.fixture
def url(
    make_settings: Callable[..., Settings], fake_hub: FakeHub, tmp_path: Path
) -> Generator[str]:
    """A service that has the tool beside ours."""
    tools = [*build_all_tools(keep_for_a_month), *load_example(tmp_path)]
    with serve_app(assemble_app(make_settings(hub_url=fake_hub.url), tools, [])) as served:
        yield served


async def test_the_tool_of_the_page_is_listed_and_launches(url: str, database: Database) -> None:
    """What it stores is what the executor on the same page reads; `test_discovery` runs that."""
    listed = (await post_message(url, "tools/list")).json()["result"]["tools"]
    launched = await call_for_result(url, "launch_pause", steps=3)
    status = await call_for_result(url, "job_status", job_ids=launched["job_id"])

    assert "launch_pause" in [tool["name"] for tool in listed]
    assert launched["job_id"].startswith("job_")
    [job] = status["jobs"]
    assert (job["kind"], job["state"], job["title"]) == ("pause", "queued", "pause of 3 steps")
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT spec FROM job_payload") == {"steps": 3}


@pytest.mark.parametrize("steps", [0, 100_001, "many"])
async def test_its_limits_are_refused_in_words(url: str, steps: object) -> None:
    """Of the argument that is wrong, before there is a job."""
    answer = await call_tool(url, "launch_pause", steps=steps)

    assert answer.is_error
    assert answer_text(answer).startswith("steps: input should be ")
