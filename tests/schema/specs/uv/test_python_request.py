"""Which Python runs a script: every form that uv documents, and nothing else."""

import subprocess
from pathlib import Path

import pytest

from schema.specs.hub_job import HubJobSpec

TAKEN = (
    *("3", "3.12", "3.12.3", "312", "3.13t", "3.13+freethreaded", "3.14.0rc1"),
    *(">=3.11", ">=3.12,<3.13", ">=3.12, <3.13", "~=3.12", "==3.12.*", "!=3.11"),
    *("cpython", "cpython@3.12", "cpython3.12", "cp312", "cpython>=3.12,<3.13", "pypy@3.10"),
    *("pypy", "pp310", "graalpy", "pyodide", "pypy@>=3.9", "python3.12", "any", "default"),
    *("cpython-3.12.3-linux-x86_64-gnu", "cpython-3.12", "cpython-3.13+freethreaded-linux"),
    *(
        "/usr/bin/python3",
        "/opt/venv/bin/python3.11",
        "./.venv/bin/python",
        "../env/",
        "env/bin/py",
    ),
    *("/opt/my env/bin/python", "/opt/conda"),
)
REFUSED = (
    *("--isolated", "-p", "--with=evil", "-", "3.12 --with x", "3.12;id", "$(id)", "`id`", "a b"),
    *("3.12\n--with=x", "/usr/bin/python3\nx", "/usr/bin/$X", "~/python", "/a;b", "/a|b", " ", "@"),
    *("C:\\Python\\python.exe", "3.12'", "/a'b", 'x"y', "//", "٣.12", "https://x/python"),
)


@pytest.mark.parametrize("python", TAKEN)
def test_every_form_that_uv_documents_is_taken(python: str) -> None:
    """As it is written: uv knows what it means."""
    spec = HubJobSpec.model_validate({"script": "print(1)", "python": python})

    assert spec.python == python


@pytest.mark.parametrize("python", REFUSED)
def test_nothing_that_uv_could_take_for_something_else_is(python: str) -> None:
    """Neither an option nor what a shell would read."""
    with pytest.raises(ValueError, match=r"is not a version of Python; write one such as"):
        HubJobSpec.model_validate({"script": "print(1)", "python": python})


def test_the_name_of_the_language_in_front_of_a_version_is_left_out() -> None:
    """People say it so; uv looks for a program of that name."""
    spec = HubJobSpec.model_validate({"script": "print(1)", "python": " Python 3.12 "})

    assert spec.python == "3.12"


@pytest.mark.parametrize("python", TAKEN)
def test_uv_gets_it_as_one_word_that_is_no_option_of_its_own(tmp_path: Path, python: str) -> None:
    """Also through the shell that unpacks the script."""
    uv = tmp_path / "uv"
    uv.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$SEEN"\n')
    uv.chmod(0o755)
    script = HubJobSpec.model_validate({"script": "print(1)", "python": python}).uv_script
    assert script is not None
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "SEEN": str(tmp_path / "seen"),
        "TMPDIR": str(tmp_path),
    }

    subprocess.run(script.build_command(), env=environment | script.build_environment(), check=True)

    words = (tmp_path / "seen").read_text().splitlines()
    assert words[:2] == ["run", f"--python={python}"]
