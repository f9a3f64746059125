"""The profiles of the benchmarks, and their pictures."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from matplotlib import image

from tests.bench import profiled_program
from tests.bench.profile_pictures import draw
from tests.support.paths import REPOSITORY


def make_frame(function: str, time: float, *children: dict[str, Any], path: str = "x.py") -> Any:
    return {"function": function, "file_path": path, "time": time, "children": list(children)}


def find_functions(frame: dict[str, Any]) -> set[str]:
    return {frame["function"]}.union(*map(find_functions, frame["children"]))


def test_a_program_is_sampled_to_its_end(tmp_path: Path) -> None:
    """Its arguments are its own, and what it calls is in the samples."""
    out = tmp_path / "samples.json"
    program = ["timeit", "-n", "1", "-r", "1", "sum(i % 7 for i in range(2_000_000))"]

    subprocess.run(
        [sys.executable, "-m", profiled_program.__name__, str(out), *program],
        cwd=REPOSITORY,
        env=os.environ,
        check=True,
        stdout=subprocess.DEVNULL,
    )

    assert "timeit" in find_functions(json.loads(out.read_text("utf-8"))["root_frame"])


def test_a_picture_begins_where_the_program_does_different_things(tmp_path: Path) -> None:
    """The way to there is the same in each profile; what is narrow is left out."""
    picture = tmp_path / "profile.png"
    fork = make_frame(
        "fork",
        9.9,
        make_frame("ours", 6.0, path="/a/service/x.py"),
        make_frame("theirs", 3.0, path="/a/mcp/server.py"),
        make_frame("narrow", 0.001),
    )

    draw(make_frame("<module>", 10.0, make_frame("main", 10.0, fork)), picture, title="a profile")

    pixels = image.imread(picture)
    colours = {tuple(round(255 * part) for part in pixel[:3]) for row in pixels for pixel in row}
    assert {(0x4C, 0x9F, 0x70), (0xE0, 0x7A, 0x5F)} <= colours
