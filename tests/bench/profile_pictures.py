"""The pictures of where the time goes: `python -m tests.bench.profile_pictures [NAME ...]`.

A width is a share of the samples, from the caller above to what it calls below. The colour is whose
code it is; grey above nothing is time in which the program waited.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import PercentFormatter

from service.local.hub_emulator.users import load_users
from service.local.ports import find_free_port
from service.local.stack import Stack
from tests.bench import holdfast_queue, profiled_program
from tests.bench.queue_load import LoadSize
from tests.bench.raw_http import LEGACY, ToolCall, measure_calls
from tests.bench.scenario import BenchRun, Size
from tests.bench.scenarios.queues import QueueProgram, measure_programs
from tests.bench.scenarios.tool_calls import CONNECTIONS, JOB, is_answering, launch_one
from tests.support.paths import DOCS
from tests.support.polling import wait_until
from tests.support.programs import run_program
from tests.support.stack import without_worker

mpl.use("Agg")  # draws into files; no window

_CALLS: Final = 1500
_WARM_UP_CALLS: Final = 200
_JOBS: Final = 20
_WRITE_TIMEOUT: Final = timedelta(minutes=2)
"""How long a program may take to write its samples."""
_SUBMITS: Final = LoadSize(concurrent=6000)
_LEAST_SHARE: Final = 0.004
"""A narrower frame is not drawn."""
_LEAST_NAMED_SHARE: Final = 0.02
_MOST_DEPTH: Final = 40
_ONE_WAY_SHARE: Final = 0.9
_IMPORT: Final = "_find_and_load"
_NAME_STYLE: Final[dict[str, Any]] = {"ha": "center", "va": "center", "fontsize": 6}
_OWNERS: Final = {
    "Holdfast": ("#4c9f70", ("/service/", "/workers/", "/schema/")),
    "MCP SDK": ("#e07a5f", ("/mcp/", "/mcp_types/", "/sse_starlette/")),
    "Starlette, uvicorn": ("#f2cc8f", ("/starlette/", "/uvicorn/", "/httptools/")),
    "pydantic": ("#b388c9", ("/pydantic/", "/pydantic_core/")),
    "asyncpg": ("#5f8ac7", ("/asyncpg/",)),
    "Redis, arq": ("#d46a8a", ("/redis/", "/arq/", "/hiredis/")),
    "standard library and others": ("#c9c9c9", ("",)),
}
"""By the name of the owner, the colour, and parts of the paths."""

Frame = dict[str, Any]


def main(names: Sequence[str]) -> None:
    """Draw the pictures with these names; all of them if there is none."""
    with TemporaryDirectory(prefix="holdfast-profile-") as parent:
        for name, profile in PROFILES.items():
            if names and name not in names:
                continue
            folder = Path(parent) / name
            folder.mkdir()
            frame = profile(folder)
            picture = DOCS / "images" / f"profile-{name}.png"
            draw(frame, picture, title=name.replace("-", " "))
            print(f"Written: {picture}")  # noqa: T201


def profile_queue(folder: Path) -> Frame:
    """Sample the program that submits jobs which do nothing, and then carries them out."""
    out = folder / "samples.json"
    program = [sys.executable, "-m", profiled_program.__name__, str(out)]
    command = [*program, holdfast_queue.__name__, "1"]
    run = BenchRun(folder, Size.QUICK, print)
    measure_programs(run, [QueueProgram("holdfast", command, _SUBMITS)], rounds=1)
    return _read(out)


def profile_tool(tool: str, **arguments: Any) -> Callable[[Path], Frame]:
    """Make what samples the service while a tool is called on a few connections."""

    def profile(folder: Path) -> Frame:
        out = folder / "samples.json"
        with ExitStack() as running:
            # The limit of calls a minute would be reached in a second.
            environment = running.enter_context(pytest.MonkeyPatch.context())
            environment.setenv("HOLDFAST_CALLS_PER_MINUTE", "0")
            stack = running.enter_context(Stack(folder, report=print))
            running.enter_context(without_worker(stack))  # the service alone is measured
            url, service = running.enter_context(_run_profiled_service(stack, out))
            token = load_users(stack.folder / "hub")[0].token
            launch = ToolCall(f"{url}/mcp", "launch_job", JOB, LEGACY, token)
            handles = [launch_one(launch) for _ in range(_JOBS)]
            if tool == "job_status":
                arguments["job_ids"] = handles[:1]
            call = ToolCall(f"{url}/mcp", tool, arguments, LEGACY, token)
            asyncio.run(measure_calls([call] * _WARM_UP_CALLS, connections=CONNECTIONS))
            service.send_signal(profiled_program.BEGIN)
            asyncio.run(measure_calls([call] * _CALLS, connections=CONNECTIONS))
            service.send_signal(profiled_program.END)
            wait_until(out.exists, timeout=_WRITE_TIMEOUT)
        return _read(out)

    return profile


@contextmanager
def _run_profiled_service(
    stack: Stack, out: Path
) -> Generator[tuple[str, "subprocess.Popen[bytes]"]]:
    port = find_free_port()
    url = f"http://127.0.0.1:{port}"
    program = (profiled_program.__name__, str(out), "service", "serve", "--port", str(port))
    with run_program(*program, environment=stack.environment) as process:
        wait_until(lambda: is_answering(url))
        yield url, process


def _read(out: Path) -> Frame:
    frame: Frame = json.loads(out.read_text("utf-8"))["root_frame"]
    return frame


def draw(frame: Frame, path: Path, *, title: str) -> None:
    """Draw the frames below the one in which the program begins to do different things."""
    root = _skip_start(frame)
    drawn: tuple[Any, Any] = plt.subplots(figsize=(14, 8), layout="constrained")
    figure, axis = drawn
    boxes = list(_place(root, 0.0, 0, root["time"]))
    for left, width, depth, each in boxes:
        colour = _colour(each)
        axis.add_patch(Rectangle((left, depth), width, 1, facecolor=colour, edgecolor="white"))
        if width >= _LEAST_NAMED_SHARE:
            text = axis.text(left + width / 2, depth + 0.5, each["function"], **_NAME_STYLE)
            text.set_clip_path(Rectangle((left, depth), width, 1, transform=axis.transData))
    axis.set_xlim(0, 1)
    axis.set_ylim(max(depth for _, _, depth, _ in boxes) + 1, 0)  # callers above
    axis.set_yticks([])
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    axis.set_title(f"{title}: share of {root['time']:.1f} s of the main thread")
    legend = [Patch(color=colour, label=name) for name, (colour, _) in _OWNERS.items()]
    axis.legend(handles=legend, loc="lower right", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _skip_start(frame: Frame) -> Frame:
    """Go down to the first frame that has more than one way of note below it."""
    largest = max(frame["children"], key=itemgetter("time"), default=None)
    while largest is not None and largest["time"] >= _ONE_WAY_SHARE * frame["time"]:
        frame = largest
        largest = max(frame["children"], key=itemgetter("time"), default=None)
    return frame


def _place(
    frame: Frame, left: float, depth: int, whole: float
) -> Iterator[tuple[float, float, int, Frame]]:
    """Yield what is drawn: left edge and width as shares, depth, frame."""
    width = frame["time"] / whole
    if width < _LEAST_SHARE or depth > _MOST_DEPTH:
        return
    yield left, width, depth, frame
    for child in sorted(frame["children"], key=itemgetter("time"), reverse=True):
        if child["function"] != _IMPORT:
            yield from _place(child, left, depth + 1, whole)
            left += child["time"] / whole


def _colour(frame: Frame) -> str:
    path = f"/{frame['file_path']}"
    return next(colour for colour, parts in _OWNERS.values() if any(part in path for part in parts))


PROFILES: Final[dict[str, Callable[[Path], Frame]]] = {
    "queue": profile_queue,
    "job-status": profile_tool("job_status"),
    "list-jobs": profile_tool("list_jobs", limit=20),
    "list-hardware": profile_tool("list_hardware"),
    "dry-run": profile_tool("launch_job", **JOB, dry_run=True),
}
"""By the name of the picture, what is sampled."""

if __name__ == "__main__":
    main(sys.argv[1:])
