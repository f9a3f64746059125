"""What is taken as a command, and what would need a shell that nobody starts."""

import json
import re

import pytest
from pydantic import TypeAdapter, ValidationError

from schema.specs.command import Command

COMMAND: TypeAdapter[list[str]] = TypeAdapter(Command)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (["python", "-c", "print(1); x | y"], ["python", "-c", "print(1); x | y"]),
        ("python -c 'print(1); x | y'", ["python", "-c", "print(1); x | y"]),
        ('echo "a b" c', ["echo", "a b", "c"]),
        ("python train.py \\\n  --lr 1\n", ["python", "train.py", "--lr", "1"]),
        ("python -c 'print(\"$HOME `x` * ~\")'", ["python", "-c", 'print("$HOME `x` * ~")']),
        (r"echo \$HOME \*", ["echo", "$HOME", "*"]),
        ("echo 5$ a=b x~ #c", ["echo", "5$", "a=b", "x~", "#c"]),
        ("pip install transformers[torch]", ["pip", "install", "transformers[torch]"]),
        ("curl https://hf.co/a?b=1", ["curl", "https://hf.co/a?b=1"]),
        (["sleep", 5], ["sleep", "5"]),
        (["find", ".", "-exec", "rm", "{}", ";"], ["find", ".", "-exec", "rm", "{}", ";"]),
        (["expr", "1", "|", "2"], ["expr", "1", "|", "2"]),
        (["grep", "a$", "f"], ["grep", "a$", "f"]),
        (["sh", "-c", "cd /app && A=1 python x.py > $OUT"], None),
        (["bash", "-c", 'for f in "$@"; do :; done', "--", "a"], None),
        (["/opt/my program", "x"], None),
        ("train", ["train"]),
    ],
)
def test_a_command_is_a_list_or_one_line(written: object, words: list[str] | None) -> None:
    """Quotes mean what they mean to a shell; nothing else does."""
    assert COMMAND.validate_python(written) == (words or written)


@pytest.mark.parametrize(
    "line",
    [
        *("a && b", "a;b", "a | b", "a > f", "a 2>&1", "a < f", "a &", "(a)", "a\nb"),
        *("echo $HOME", "echo ${HOME}", 'echo "$HOME"', "echo $(date)", "echo `date`", "a $1"),
        *("ls *.py", "cat ~/x", "ls ~", "cd /app", "export A", "source x"),
    ],
)
def test_what_needs_a_shell_is_refused_with_the_form_that_calls_one(line: str) -> None:
    """Run without a shell it would do something else, at the caller's cost."""
    form = json.dumps(["sh", "-c", line])

    with pytest.raises(ValidationError, match=re.escape(form)):
        COMMAND.validate_python(line)
    assert COMMAND.validate_python(json.loads(form)) == ["sh", "-c", line]


@pytest.mark.parametrize(
    ("listed", "form"),
    [
        (["cd", "/a b", "&&", "x"], ["sh", "-c", "cd '/a b' && x"]),
        (["python", "x.py", ">", "log"], ["sh", "-c", "python x.py > log"]),
        (["echo", "$HOME", "a b"], ["sh", "-c", "echo $HOME 'a b'"]),
        (["cd", "/app"], ["sh", "-c", "cd /app"]),
        (["sh", "-c", "python", "x.py"], ["sh", "-c", "python x.py"]),
    ],
)
def test_a_list_that_a_shell_should_have_read_is_refused_too(
    listed: list[str], form: list[str]
) -> None:
    """A model that splits a line for a shell into words has not called a shell."""
    with pytest.raises(ValidationError, match=re.escape(json.dumps(form))):
        COMMAND.validate_python(listed)
    assert COMMAND.validate_python(form) == form


@pytest.mark.parametrize("written", ["LR=0.1 python x.py", ["LR=0.1", "python", "x.py"]])
def test_a_variable_in_front_of_a_command_belongs_into_env(written: object) -> None:
    """The Hub would look for a program of that name. Its text may be a secret."""
    with pytest.raises(ValidationError) as refused:
        COMMAND.validate_python(written)

    message = refused.value.errors()[0]["msg"]
    assert 'write command=["python", "x.py"], env={"LR": "…"}' in message
    assert "0.1" not in message


def test_a_line_that_was_put_into_a_list_as_it_is_is_refused() -> None:
    """The Hub would look for a program with spaces in its name, and exit with 127."""
    with pytest.raises(ValidationError, match=r"no program is called 'python x\.py'"):
        COMMAND.validate_python(["python x.py"])


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ([], "at least 1 word"),
        ("", "at least 1 word"),
        (" \n", "at least 1 word"),
        (["a", ""], "empty words"),
        ("'a", "quotes do not match"),
        (["a", None], "valid string"),
        ({"a": "b"}, "valid list"),
    ],
)
def test_what_is_no_command_is_refused(written: object, says: str) -> None:
    """Each with what is missing."""
    with pytest.raises(ValidationError, match=says):
        COMMAND.validate_python(written)


@pytest.mark.parametrize("lines", [20, 60, 120])
def test_a_form_to_be_copied_is_never_cut(lines: int) -> None:
    """A script whose end is missing is another script, and nobody sees that."""
    script = "\n".join(["set -e", *(f"python stage.py --number {n}" for n in range(lines)), "x"])

    with pytest.raises(ValidationError) as refused:
        COMMAND.validate_python(script)

    message = refused.value.errors()[0]["msg"]
    form, _ = json.JSONDecoder().raw_decode(message[message.index("[") :])
    assert form == ["sh", "-c", script]
    assert COMMAND.validate_python(form) == form


@pytest.mark.parametrize(
    "written", ["x" * 100_000 + " && y", ["cd", *("a" * 100 for _ in range(900))]]
)
def test_a_refusal_does_not_repeat_a_whole_program(written: object) -> None:
    """What is too long to be repeated is described in words, and no part of it looks whole."""
    with pytest.raises(ValidationError) as refused:
        COMMAND.validate_python(written)

    message = refused.value.errors()[0]["msg"]
    assert len(message) < 1000
    assert 'give the list of "sh", "-c", the whole text' in message
    assert "…" not in message
