"""What is copied along with a command line or a script is named, and left out of the correction."""

import json
from typing import Any, Final

import pytest
from pydantic import TypeAdapter, ValidationError

from schema.common.errors import CorrectableError
from schema.specs.command import Command
from schema.specs.uv.script import ScriptText

COMMAND: Final[TypeAdapter[list[str]]] = TypeAdapter(Command)
SCRIPT: Final[TypeAdapter[str]] = TypeAdapter(ScriptText)
TRAIN: Final = ["python", "train.py"]
TRAIN_WITH_LR: Final = ["python", "train.py", "--lr", "1"]


def read_correction(adapter: TypeAdapter[Any], written: object) -> object:
    """Have a value refused, and return the right one."""
    with pytest.raises(ValidationError) as refused:
        adapter.validate_python(written)
    [details] = refused.value.errors()
    error = details.get("ctx", {})["error"]
    assert isinstance(error, CorrectableError), error
    return error.value


@pytest.mark.parametrize(
    ("written", "words"),
    [
        *(
            (f"{prompt}python train.py", TRAIN)
            for prompt in ("$ ", "% ", "> ", "  $ ", "PS C:\\> ")
        ),
        *((f"{prompt}python train.py", TRAIN) for prompt in ("root@a:/# ", "(b) me@h:~/x$ ")),
        *((f"{mark}python train.py", TRAIN) for mark in ("!",)),
        ("%pip install torch", ["pip", "install", "torch"]),
        ("!pip install x\n!x y", ["sh", "-c", "pip install x\nx y"]),
        ("%%bash\npip install x\npython y.py", ["sh", "-c", "pip install x\npython y.py"]),
        ("```bash\npython train.py\n```", TRAIN),
        ("~~~\npython train.py --lr 1\n~~~\n", TRAIN_WITH_LR),
        ("`python train.py`", TRAIN),
        ("$ a \\\n>  --b\nprinted\n$ c", ["sh", "-c", "a  --b\nc"]),
        ("python\u00a0train.py", TRAIN),
        ("python train.py\u200b --lr\u202f1", TRAIN_WITH_LR),
        ("python train.py \u2014lr 1", TRAIN_WITH_LR),
        ("python train.py \u2013l 1", ["python", "train.py", "-l", "1"]),
        ("python -c \u201cprint(1)\u201d", ["python", "-c", "print(1)"]),
        ("x --name \u201cmy run\u201d", ["x", "--name", "my run"]),
        ("python train.py ^\n --lr 1", TRAIN_WITH_LR),
        ("nohup python train.py &", ["nohup", *TRAIN]),
        ("python train.py > log 2>&1 &", ["sh", "-c", "python train.py > log 2>&1"]),
        ("sh -c 'python train.py &'", ["sh", "-c", "python train.py"]),
        ("#!/bin/bash\nset -e\nx", ["bash", "-c", "#!/bin/bash\nset -e\nx"]),
        (["$", *TRAIN], TRAIN),
        (["!python", "train.py"], TRAIN),
        ([*TRAIN, "&"], TRAIN),
        (["bash", "-c", "python train.py & "], ["bash", "-c", "python train.py"]),
    ],
)
def test_what_is_copied_along_is_no_part_of_a_command(written: object, words: list[str]) -> None:
    """The Hub would look for a program of that name. The correction is a command that is taken."""
    assert read_correction(COMMAND, written) == words
    assert COMMAND.validate_python(words) == words


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (">>> import os", "Python with its prompt"),
        ("In [1]: import os", "Python with its prompt"),
        ("```python\nprint(1)\n```", "that is Python"),
        ("%%writefile x.py\nprint(1)", "%%writefile is for a notebook"),
        ("!pip install x\nimport x", "cell of a notebook"),
        ("%matplotlib inline", "cell of a notebook"),
        ("print(1)", "that is Python"),
        ("x = load('a')\nx.run()", "that is Python"),
        ("#!/usr/bin/env python3\nprint(1)", "that is Python"),
        ("0 9 * * 1 python x.py", "call create_schedule"),
        ("*/5 0-3,7 1 JAN MON-FRI x", "call create_schedule"),
        ("@daily python x.py", "call create_schedule"),
        ("FROM python:3.12\nRUN pip install x", "a Dockerfile"),
        ('CMD ["python", "x.py"]', "a Dockerfile"),
        ("#!/bin/bash\n#SBATCH --gres=gpu:1\nsrun x", "a script for a cluster"),
        ("$env:KEY='sesame'; python x.py", "that is PowerShell"),
        (r"python C:\Users\me\x.py", "a path of Windows"),
        (r"python .\x.py", "a path of Windows"),
        (["python", r"C:\Users\me\x.py"], "a path of Windows"),
        ("# python x.py", "all of it is a comment"),
        ("$ hf jobs run img cmd", 'call launch_job with {"image": "img"'),
    ],
)
def test_what_is_no_command_line_is_refused_with_where_it_goes(written: object, says: str) -> None:
    """The advice to give it to a shell led to a job that failed, or did nothing."""
    with pytest.raises(ValidationError) as refused:
        COMMAND.validate_python(written)

    [error] = refused.value.errors()
    assert says in error["msg"]
    assert "sesame" not in error["msg"]
    assert '"sh", "-c"' not in error["msg"]


@pytest.mark.parametrize(
    "line",
    [
        *(
            "echo \u201chi\u201d",
            "echo \u201chi there\u201d",
            "x --name=\u201cy\u201d",
            "x '\u2014y'",
        ),
        *("echo a \\& b", "grep '[a-z]\\w' f", "sed 's:\\w+:x:' f", "x 'a &'", "printf \u2014x"),
        *("make train", "torchrun --nproc 2 x.py", "python -", "5 x", "x 'a\u00a0b'", "%x"),
        ["sh", "-c", "server & client"],
        ["sh", "-c", "cat <<E\nprint(1)\nE"],
        ["python", "-c", "print(1)\n"],
        ["sh", "-c", "echo a '&'"],
    ],
)
def test_what_works_is_taken(line: object) -> None:
    """A mark of typography may be meant as it is."""
    assert COMMAND.validate_python(line)


def test_a_program_of_one_word_with_a_document_is_for_a_shell() -> None:
    """Its lines could be read as Python."""
    line = "x <<EOF\nprint(1)\nEOF"

    assert read_correction(COMMAND, line) == ["sh", "-c", line]


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (">>> print(1)", "the prompts of Python"),
        ("!pip install x\nimport x", "line 1 is for a notebook"),
        ("import x\n%matplotlib inline\n", "line 2 is for a notebook"),
        ("docker run -e KEY=sesame img", "a command line of docker"),
        ("sbatch x.sh", "a command line of sbatch"),
        ("python train.py", "give it as command"),
        ("pip install x && python y.py", "give it as command"),
    ],
)
def test_what_is_no_script_is_refused(script: str, says: str) -> None:
    """Python would not read it."""
    with pytest.raises(ValidationError) as refused:
        SCRIPT.validate_python(script)

    [error] = refused.value.errors()
    assert says in error["msg"]
    assert "sesame" not in error["msg"]


@pytest.mark.parametrize("opening", ["```python", "```", "~~~py"])
def test_a_script_is_taken_out_of_its_fence(opening: str) -> None:
    """As it stands in an answer of a model."""
    script = f"{opening}\nprint(1)\n{opening[:3]}\n"

    assert read_correction(SCRIPT, script) == "print(1)"


@pytest.mark.parametrize(
    "script",
    [
        *("x = '''\n!pip install x\n'''", "git = 1", "def f[T](x: T): pass", "type X = int"),
        *("sh", "time = 5", "python", "make = print\nmake ()", "f'{x!r}'"),
    ],
)
def test_python_that_looks_like_a_line_of_a_shell_is_a_script(script: str) -> None:
    """Also of a newer version than ours."""
    assert SCRIPT.validate_python(script) == script


def test_a_refusal_of_a_long_text_is_short() -> None:
    """Whatever is copied along."""
    with pytest.raises(ValidationError) as refused:
        COMMAND.validate_python("$ " + "x " * 100_000 + "| y")

    assert len(json.dumps(refused.value.errors()[0]["msg"])) < 2000
