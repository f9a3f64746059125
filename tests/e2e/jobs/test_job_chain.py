"""A chain of jobs on the whole stack, as docs/chains.md shows it."""

import re
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.paths import DOCS
from tests.support.stack import McpCaller

pytestmark = pytest.mark.xdist_group("stack")

PAGE: Final = DOCS / "chains.md"
NAMES: Final = ("train", "evaluate", "publish", "report")


async def launch_all(alice: McpCaller, **changed: dict[str, Any]) -> dict[str, str]:
    """Launch what the documentation shows, with another request for some of them."""
    example = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert example is not None
    calls: list[dict[str, Any]] = []

    def launch_job(**arguments: Any) -> str:
        calls.append(arguments)
        return str(arguments["name"])

    exec(example[1], {"launch_job": launch_job})  # noqa: S102  # our own page
    handles: dict[str, str] = {}
    for arguments in calls:
        name = arguments["name"]
        after = [handles[parent] for parent in arguments.get("after", [])]
        request = arguments | changed.get(name, {}) | ({"after": after} if after else {})
        handles[name] = (await alice.call_tool("launch_job", **request))["job_id"]
    return handles


async def test_train_then_evaluate_then_publish(alice: McpCaller) -> None:
    """Each begins when the one before it has ended, without anybody asking for it."""
    handles = await launch_all(alice)

    last = await alice.wait_until_finished(handles["report"])

    views = [await alice.read_job(handles[name]) for name in NAMES]
    assert [view["state"] for view in views] == ["succeeded"] * 4
    assert [view["after"] for view in views] == [[], *([handles[name]] for name in NAMES[:-1])]
    ended = [view["finished_at"] for view in views]
    assert ended == sorted(ended)
    assert await alice.read_log(last["job_id"]) == ["done, one way or the other"]


async def test_what_waits_for_a_failure_fails_with_the_reason_and_the_rest_goes_on(
    alice: McpCaller, tmp_path: Path
) -> None:
    """Nothing of it is started; what only had to see it finished runs."""
    seen = tmp_path / "seen"
    wait_then_fail = f"until [ -e {seen} ]; do sleep 0.05; done; exit 3"
    handles = await launch_all(alice, train={"command": ["sh", "-c", wait_then_fail]})
    waiting = await alice.read_job(handles["evaluate"])
    seen.touch()

    last = await alice.wait_until_finished(handles["report"])

    assert (waiting["state"], waiting["hold"]) == ("queued", "dependency")
    assert waiting["summary"].startswith(f"Queued until {handles['train']} has succeeded.")
    evaluate, publish = [await alice.read_job(handles[name]) for name in ("evaluate", "publish")]
    assert (evaluate["state"], evaluate["reason"]) == ("failed", "dependency_failed")
    assert handles["train"] in evaluate["summary"]
    assert "exit_nonzero" in evaluate["summary"]
    assert (publish["reason"], publish["started_at"]) == ("dependency_failed", None)
    assert handles["evaluate"] in publish["summary"]
    assert (last["state"], evaluate["cost"]["so_far_usd"]) == ("succeeded", 0)
