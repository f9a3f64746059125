"""What the header of a script says about its launch: obeyed, or named where it cannot be."""

from typing import Any

import pytest

from schema.common.errors import Invalid
from schema.specs.uv.script_header import read_header_defaults
from schema.specs.volumes import parse_volume

TABLE = """\
image = "vllm/vllm-openai:latest"
flavor = "l4x1"
timeout = "2h"
python = "/usr/bin/python3"
name = "nightly"
namespace = "acme"
env = { A1 = "script", B2 = "script" }
labels = { team = "nlp", stage = "script" }
volumes = ["hf://datasets/ada/set:/data", "hf://buckets/ada/out:/out"]
secrets = ["HF_TOKEN", "WANDB_API_KEY"]
"""


DATA = str(parse_volume("hf://datasets/ada/set:/data"))
OUT = str(parse_volume("hf://buckets/ada/out:/out"))
OTHER_DATA = str(parse_volume("hf://datasets/ada/other:/data"))


def make_script(table: str, *, before: str = "dependencies = []") -> str:
    """Write a script whose header has a table."""
    lines = [*before.splitlines(), "[tool.hf-jobs]", *table.splitlines()]
    block = "\n".join(f"# {line}".rstrip() for line in lines)
    return f"#!/usr/bin/env python\n# /// script\n{block}\n# ///\nprint(1)\n"


def test_a_header_gives_what_the_call_leaves_open() -> None:
    """As `hf jobs uv run` does; a note says what came from where."""
    defaults = read_header_defaults(make_script(TABLE), {})

    arguments = defaults.arguments
    assert arguments["image"] == "vllm/vllm-openai:latest"
    assert arguments["flavor"] == "l4x1"
    assert arguments["timeout"].total_seconds() == 7200
    assert arguments["python"] == "/usr/bin/python3"
    assert (arguments["name"], arguments["namespace"]) == ("nightly", "acme")
    assert arguments["env"] == {"A1": "script", "B2": "script"}
    assert arguments["labels"] == {"team": "nlp", "stage": "script"}
    assert arguments["volumes"] == [DATA, OUT]
    notes = " ".join(defaults.notes)
    assert "flavor l4x1, " in notes
    assert "timeout 2h" in notes
    assert "asks for 'WANDB_API_KEY': give what it needs in secrets" in notes


@pytest.mark.parametrize(
    ("call", "is_asked_for"),
    [({}, True), ({"pass_token": True}, False), ({"secrets": {"HF_TOKEN": "x"}}, False)],
)
def test_no_header_hands_over_the_token_of_the_caller(
    call: dict[str, Any], *, is_asked_for: bool
) -> None:
    """Whoever launches a script may not have read it; a note says how the call does."""
    defaults = read_header_defaults(make_script('secrets = ["HF_TOKEN"]'), call)

    assert defaults.arguments == {}
    requests = [
        note for note in defaults.notes if "give pass_token=true if it may have it." in note
    ]
    assert len(requests) == len(defaults.notes) == is_asked_for


def test_what_the_call_gives_wins_entry_by_entry() -> None:
    """Whoever launches a script knows more than whoever wrote it."""
    call_arguments: dict[str, Any] = {
        "image": "python:3.12",
        "flavor": "cpu-basic",
        "timeout": "5m",
        "python": "3.12",
        "name": "mine",
        "namespace": "ada",
        "env": {"A1": "call"},
        "labels": {"stage": "call"},
        "volumes": [OTHER_DATA],
        "secrets": {"WANDB_API_KEY": "x", "B2": "y"},
        "pass_token": False,
    }

    defaults = read_header_defaults(make_script(TABLE), call_arguments)

    assert defaults.arguments == {
        "labels": {"team": "nlp", "stage": "call"},
        "volumes": [OUT, OTHER_DATA],
    }
    assert "WANDB_API_KEY" not in " ".join(defaults.notes)


@pytest.mark.parametrize(
    "script",
    [
        None,
        "print(1)",
        "https://example.com/x.py",
        "# /// script\n# dependencies = []\n# ///\nprint(1)",
        "# /// script\n# [tool.uv]\n# index = 'hf-jobs'\n# ///\n",
        "# /// script\n# [tool.hf-jobs]\n# flavor = 'l4x1'\nprint('# ///')",
        "# /// other\n# [tool.hf-jobs]\n# flavor = 'l4x1'\n# ///",
        'text = """\n# [tool.hf-jobs]\n# flavor = "l4x1"\n"""',
        "# /// script\r\n# dependencies = []\r\n# ///\r\nprint('hf-jobs')",
    ],
)
def test_a_script_without_the_table_changes_nothing(script: str | None) -> None:
    """What only looks like one is none."""
    defaults = read_header_defaults(script, {})

    assert (defaults.arguments, defaults.notes) == ({}, [])


@pytest.mark.parametrize("line", ['tool = "hf-jobs"', "tool.hf-jobs = 5"])
def test_a_table_that_is_none_is_refused(line: str) -> None:
    """Its author meant something by it."""
    with pytest.raises(Invalid, match="hf-jobs in its header is no table"):
        read_header_defaults(f"# /// script\n# {line}\n# ///\n", {})


def test_line_ends_of_another_system_are_no_matter() -> None:
    """A header that is passed over without a word costs an hour on the wrong hardware."""
    script = make_script('flavor = "l4x1"').replace("\n", "\r\n")

    assert read_header_defaults(script, {}).arguments == {"flavor": "l4x1"}


def test_what_is_not_known_here_is_named() -> None:
    """Not obeyed, and not passed over without a word."""
    table = 'network_group = "g"\nnetwork_aliases = ["a"]\nfuture = 1'

    defaults = read_header_defaults(make_script(table), {})

    assert defaults.arguments == {}
    [note] = defaults.notes
    assert all(key in note for key in ("network_group", "network_aliases", "future"))


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("flavor = 5", "flavor"),
        ('timeout = "soon"', "timeout"),
        ('python = "--isolated"', "python"),
        ('volumes = ["/tmp:/data"]', "volumes"),
        ('secrets = { HF_TOKEN = "hf_x" }', "secrets"),
        ('flavor = "l4x1', "not valid TOML"),
        pytest.param(f"a = {'[' * 5000}{']' * 5000}", "nests too deep", id="brackets"),
    ],
)
def test_a_header_with_a_value_that_no_job_takes_is_refused(table: str, says: str) -> None:
    """Before anything is launched, with the name of the key."""
    with pytest.raises(Invalid, match=r"^script: ") as refused:
        read_header_defaults(make_script(table), {})

    assert says in str(refused.value)
    assert "hf_x" not in str(refused.value)
