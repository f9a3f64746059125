"""Scripts, volumes, secrets and other features of Hugging Face Jobs, through the public tools."""

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from service.local.hub_emulator.users import load_users
from service.local.stack import Stack
from tests.support.stack import McpCaller

pytestmark = pytest.mark.xdist_group("stack")

SUCCEEDS_AT_THIRD_ATTEMPT: list[str] = [
    "sh",
    "-c",
    'echo tried >> "$NOTES"; [ $(wc -l < "$NOTES") -ge 3 ]',
]
"""Fails twice, and then does not; each time in a container of its own."""


def make_wheel(folder: Path, name: str, text: str) -> str:
    """Make a package of one module; return the requirement that installs it without an index."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    about = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", text)
        archive.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        )
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return f"{name} @ {path.as_uri()}"


async def launch(caller: McpCaller, **arguments: Any) -> str:
    return str((await caller.call_tool("launch_job", **arguments))["job_id"])


async def test_one_line_is_a_script_and_runs_again_as_another(alice: McpCaller) -> None:
    """A server that is much used takes a line without a line break for a path."""
    handle = await launch(alice, script="print('one line')")

    view = await alice.wait_until_finished(handle)

    assert (view["state"], view["title"]) == ("succeeded", "uv run script.py")
    assert await alice.read_log(handle) == ["one line"]
    again = await alice.call_tool(
        "retry_job", job_id=handle, overrides={"script": "print('another')"}
    )
    assert (await alice.wait_until_finished(again["job_id"]))["rerun_of"] == handle
    assert await alice.read_log(again["job_id"]) == ["another"]


async def test_a_script_of_any_length_arrives_whole_and_with_its_arguments(
    alice: McpCaller,
) -> None:
    """It is not the caller's business how it gets there; nor is any of it left in its way."""
    noise = "".join(hashlib.sha256(str(n).encode()).hexdigest() for n in range(4_800))
    source = f"""
import hashlib, os, sys
noise = "{noise}"
print(len(noise), hashlib.sha256(noise.encode()).hexdigest(), sys.argv[1:])
print([name for name in os.environ if name.startswith("HOLDFAST_SCRIPT")])
"""
    arguments = ["--rate", 0.5, "two words", "$HOME", "it's"]
    handle = await launch(alice, script=source, script_args=arguments)

    view = await alice.wait_until_finished(handle)

    assert len(source) > 300_000
    digest = hashlib.sha256(noise.encode()).hexdigest()
    expected = [str(each) for each in arguments]
    assert view["state"] == "succeeded", await alice.read_log(handle)
    assert await alice.read_log(handle) == [f"{len(noise)} {digest} {expected}", "[]"]


async def test_a_script_has_what_its_header_and_its_launch_ask_for(
    alice: McpCaller, tmp_path: Path
) -> None:
    """The header is read by uv, as it is written; dependencies come beside it."""
    header = make_wheel(tmp_path, "of_the_header", "WORD = 'header'")
    wheel_of_launch = make_wheel(tmp_path, "of_the_launch", "WORD = 'launch'")
    source = f"""# /// script
# dependencies = [{json.dumps(header)}]
# ///
import of_the_header, of_the_launch, sys
print(of_the_header.WORD, of_the_launch.WORD, sys.version_info[:2])
"""
    handle = await launch(alice, script=source, dependencies=[wheel_of_launch], python="3.11")

    view = await alice.wait_until_finished(handle)

    log = await alice.read_log(handle)
    assert view["state"] == "succeeded", log
    assert log[-1] == "header launch (3, 11)"


async def test_what_fails_twice_succeeds_at_the_third_attempt(
    alice: McpCaller, tmp_path: Path
) -> None:
    """The Hub starts it anew; for us it is one job, and one that is priced three times."""
    env = {"NOTES": str(tmp_path / "notes")}
    handle = await launch(alice, image="x", command=SUCCEEDS_AT_THIRD_ATTEMPT, env=env, attempts=3)

    view = await alice.wait_until_finished(handle)

    assert (view["state"], view["attempt"]) == ("succeeded", 1)
    assert (tmp_path / "notes").read_text() == "tried\n" * 3
    assert view["cost"]["ceiling_usd"] == pytest.approx(3 * 30 * 0.000167)
    (tmp_path / "notes").unlink()
    again = await alice.call_tool("retry_job", job_id=handle, overrides={"attempts": 2})
    failed = await alice.wait_until_finished(again["job_id"])
    assert (failed["state"], failed["reason"]) == ("failed", "exit_nonzero")


async def test_what_a_job_exposes_is_found_while_it_runs(alice: McpCaller, stack: Stack) -> None:
    """The URLs are the Hub's, and are of no use when the job is over."""
    token = "import os; print(os.environ['HF_TOKEN'] == os.environ['MINE'], flush=True); "
    sleep = "import time; time.sleep(600)"
    handle = await launch(
        alice,
        image="hf.co/spaces/ada/app",
        command=["python", "-c", token + sleep],
        secrets={"HF_TOKEN": "$HF_TOKEN", "MINE": "${HF_TOKEN}"},
        expose=[8080, 8000],
        ssh=True,
    )

    running = await alice.wait_until(handle, lambda view: view["stage"] == "RUNNING")

    assert running["exposed_urls"] == ["http://127.0.0.1:8000", "http://127.0.0.1:8080"]
    assert running["ssh_url"].endswith("@ssh.hf.jobs")
    await alice.call_tool("cancel_job", job_id=handle)
    stopped = await alice.wait_until(handle, lambda view: view["upstream"] == "stopped")
    assert (stopped["exposed_urls"], stopped["ssh_url"]) == ([], None)
    assert await alice.read_log(handle) == ["True"]
    assert load_users(stack.folder / "hub")[0].token not in json.dumps(stopped)
