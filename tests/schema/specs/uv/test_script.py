"""How a script is carried into a job: whole, within what a kernel takes, or not at all."""

import random
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from schema.specs.hub_job import HubJobSpec
from schema.specs.image import UV_IMAGE
from schema.specs.uv.script import MAX_ENV_BYTES, Script

KERNEL_ARGUMENT_MAX_BYTES = 128 * 1024
"""Bytes of one variable with its name, on Linux: MAX_ARG_STRLEN."""
FAKE_UV_SCRIPT = """#!/bin/sh
for word in "$@"; do
  case "$word" in */script.py) cat "$word" >> "$SEEN.py"; word=SCRIPT ;; esac
  printf '%s\\n' "$word" >> "$SEEN"
done
env | grep -c '^HOLDFAST_SCRIPT' >> "$SEEN"
exit 7
"""


def make_script(**overrides: Any) -> HubJobSpec:
    return HubJobSpec.model_validate({"script": "print(1)"} | overrides)


def make_incompressible_text(length: int) -> str:
    """Make a text that cannot be packed any smaller."""
    return b64encode(random.Random(1).randbytes(length * 3 // 4)).decode()  # noqa: S311  # no secret


@pytest.mark.parametrize(
    "text", ["print(1)", "print('ü')\n" * 90_000, f"x = '{make_incompressible_text(300_000)}'"]
)
def test_a_shell_unpacks_a_script_and_becomes_uv(tmp_path: Path, text: str) -> None:
    """Whatever is in it, and without leaving its pieces to what it starts."""
    uv = tmp_path / "uv"
    uv.write_text(FAKE_UV_SCRIPT)
    uv.chmod(0o755)
    script = Script(text, ["a b", "$X"], ["torch>=2"], "3.12")
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "SEEN": str(tmp_path / "seen"),
        "TMPDIR": str(tmp_path),
    }

    done = subprocess.run(
        script.build_command(), env=environment | script.build_environment(), check=False
    )

    assert done.returncode == 7  # what uv says is what the job says
    assert (tmp_path / "seen.py").read_text() == text
    seen = (tmp_path / "seen").read_text().splitlines()
    assert seen == ["run", "--with=torch>=2", "--python=3.12", "SCRIPT", "a b", "$X", "0"]


def test_no_piece_is_more_than_a_kernel_takes() -> None:
    """One that is fails with "argument list too long", after it has been paid for."""
    pieces = Script(make_incompressible_text(850_000)).build_environment()

    assert len(pieces) > 5
    assert all(len(f"{name}={text}") < KERNEL_ARGUMENT_MAX_BYTES for name, text in pieces.items())


def make_env(size_bytes: int) -> dict[str, str]:
    """Variables of a size that only all together are too large."""
    return {f"BIG_{number}": "x" * 100_000 for number in range(size_bytes // 100_000 + 1)}


def test_a_script_that_does_not_fit_is_refused_with_what_to_do() -> None:
    """Before the launch; what packs well may be far longer than what is carried."""
    assert make_script(script="x = 1\n" * 200_000).uv_script

    with pytest.raises(ValidationError, match="give its https URL, or mount it with volumes"):
        make_script(script=make_incompressible_text(MAX_ENV_BYTES))
    with pytest.raises(ValidationError, match="bytes with env, packed"):
        make_script(script=make_incompressible_text(500_000), env=make_env(450_000))
    with pytest.raises(ValidationError, match="the variables in env come to"):
        HubJobSpec.model_validate({"image": "x", "command": "true", "env": make_env(MAX_ENV_BYTES)})


def test_a_url_is_for_uv_and_nothing_of_it_is_carried() -> None:
    """It is fetched in the job, with what the job may reach, and never here."""
    script = make_script(
        script=" https://example.com/train.py\n", script_args=["--fast", 3]
    ).uv_script

    assert script is not None
    assert script.build_environment() == {}
    assert script.build_command() == ["uv", "run", "https://example.com/train.py", "--fast", "3"]


def test_a_script_runs_where_uv_is_unless_another_image_is_named() -> None:
    """The image that the client library takes."""
    assert make_script().image == UV_IMAGE
    assert make_script(image="my/uv:1").image == "my/uv:1"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"script": "  \n"}, "it is empty"),
        ({"script": "train.py"}, "names a file, and your files cannot be read here"),
        ({"script": "./jobs/train.py --epochs 3"}, "names a file"),
        ({"script": "/etc/passwd.py"}, "names a file"),
        ({"script": "http://example.com/x.py"}, "give an https URL"),
        ({"script": "file:///etc/passwd"}, "give an https URL"),
        ({"script": "hf://datasets/a/b"}, "is not a file of the Hub"),
        ({"script": "hf://datasets/a/../b/x.py"}, "is not a file of the Hub"),
        ({"script": "hf://datasets/a/b/x.sh"}, "uv runs a file whose name ends in .py"),
        (
            {"script": "hf://datasets/a/b/x.py", "volumes": ["hf://a/b:/holdfast-script/x"]},
            "is where the folder of the script goes",
        ),
        ({"script": "https://ada:sesame@example.com/x.py"}, "without a password"),
        ({"script": "https://[::1/x.py"}, "give an https URL"),
        ({"script": "https://github.com/a/b/blob/main/x.py"}, "https://github.com/a/b/raw/main/"),
        ({"script": "https://huggingface.co/a/b/blob/main/x.py"}, "/a/b/resolve/main/x.py"),
        ({"script_args": ["a", ""]}, "no empty words"),
        ({"script_args": "--epochs 3"}, "valid list"),
        ({"dependencies": ["--index-url=http://x"]}, "is not a requirement"),
        ({"dependencies": ["a\nb"]}, "is not a requirement"),
        ({"python": "--isolated"}, "is not a version of Python"),
        ({"python": 3.1}, "valid string"),
        ({"command": ["true"]}, "command and script are both given"),
        ({"script": None}, "nothing to run; give command, and its image, or script"),
        ({"script": None, "image": "x", "command": "true", "python": "3.12"}, "goes with script"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_can(wrong: dict[str, Any], says: str) -> None:
    """Nothing of the server's is read, nothing is run that was not asked for."""
    with pytest.raises(ValidationError, match=says):
        make_script(**wrong)


@pytest.mark.parametrize("line", ["print(1)", "import this", "print('https://a.b/c.py')", "1"])
def test_one_line_is_a_text(line: str) -> None:
    """Only what can be nothing else is taken for a URL, or refused as a path."""
    assert make_script(script=line).uv_script == Script(line, [], [])
