"""What is taken as a command, and what would need a shell that nobody starts."""

import json
import re

import pytest
from pydantic import TypeAdapter, ValidationError

from schema.specs.command import Command, ParsedCommand

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
        ("echo 5$ a=b x~ b#c '#d'", ["echo", "5$", "a=b", "x~", "b#c", "#d"]),
        ("python x.py lr=[1,2] --map={}", ["python", "x.py", "lr=[1,2]", "--map={}"]),
        ("find . -name '*.py'", ["find", ".", "-name", "*.py"]),
        ("pip install transformers[torch]", ["pip", "install", "transformers[torch]"]),
        ("curl https://hf.co/a?b=1", ["curl", "https://hf.co/a?b=1"]),
        (["sleep", 5], ["sleep", "5"]),
        (["find", ".", "-exec", "rm", "{}", ";"], ["find", ".", "-exec", "rm", "{}", ";"]),
        (["expr", "1", "|", "2"], ["expr", "1", "|", "2"]),
        (["grep", "a$", "f"], ["grep", "a$", "f"]),
        (["sh", "-c", "cd /app && A=1 python x.py > $OUT"], None),
        (["bash", "-c", 'for f in "$@"; do :; done', "--", "a"], None),
        (["/opt/my program", "x"], None),
        (["sh", "-c", "$PROGRAM"], None),
        (["bash", "-o", "pipefail", "-lc", "cat *.txt | wc > ~/n"], None),
        (["find", ".", "-name", "*.py"], None),
        (["pytest", "-k", "a*"], None),
        (["awk", "{print $1}", "f"], None),
        (["python", "-c", "import x;"], None),
        (["grep", ">chr1", "f"], None),
        (["sh", "x.sh", "a b"], None),
        ('["sh", "-c", "a && b"]', ["sh", "-c", "a && b"]),
        ("train", ["train"]),
        ("python train.py \\ \n --lr 1 \\", ["python", "train.py", "--lr", "1"]),
        ("python train.py \\\r\n --lr 1\r\n", ["python", "train.py", "--lr", "1"]),
    ],
)
def test_a_command_is_a_list_or_one_line(written: object, words: list[str] | None) -> None:
    """Quotes mean what they mean to a shell; nothing else does."""
    assert COMMAND.validate_python(written) == (words or written)


@pytest.mark.parametrize(
    "line",
    [
        *("a && b", "a;b", "a | b", "a > f", "a 2>&1", "a < f", "a & b", "(a)", "a\nb"),
        *("echo $HOME", "echo ${HOME}", 'echo "$HOME"', "echo $(date)", "echo `date`", "a $1"),
        *("ls *.py", "cat ~/x", "ls ~", "cd /app", "export A", "source x"),
        *("ls a?.py", "ls [ab].py", "ls x[0-9]", "cp a{1,2} b", "echo {1..5}", "cat ~bob/x"),
        *("a # why", "a #why", "echo $$", "echo $?", 'x "$@"', "echo $*", "echo $#", "echo $!"),
        *("echo $'a'", "exec x", "while x", "! x", "[[ -f x ]]", "a >> f", "a || b", "a <<E"),
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
        (["bash", "-lc", "python", "x.py"], ["bash", "-lc", "python x.py"]),
        (["ls", "-l", "*.py"], ["sh", "-c", "ls -l *.py"]),
        (["cp", "a", "~/b"], ["sh", "-c", "cp a ~/b"]),
        (["python", "~/x.py"], ["sh", "-c", "python ~/x.py"]),
        (["echo", "$?"], ["sh", "-c", "echo $?"]),
        (["echo", "$(date)"], ["sh", "-c", "echo $(date)"]),
        (["x", "--out", "$HOLDFAST_OUTPUTS/m"], ["sh", "-c", "x --out $HOLDFAST_OUTPUTS/m"]),
        (["x", "--out=${HOME}"], ["sh", "-c", "x --out=${HOME}"]),
        (["a", ";", "b"], ["sh", "-c", "a ; b"]),
        (["echo", "a;", "echo", "b"], ["sh", "-c", "echo a; echo b"]),
        (["x", "2>/dev/null"], ["sh", "-c", "x 2>/dev/null"]),
        (["sh", "echo hello"], ["sh", "-c", "echo hello"]),
        (["bash", "-c echo hello"], ["bash", "-c", "echo hello"]),
        (["echo hello", "echo world"], ["sh", "-c", "echo hello && echo world"]),
        (["cd /app", "make"], ["sh", "-c", "cd /app && make"]),
        (["cd /app && make"], ["sh", "-c", "cd /app && make"]),
        (["python -c", "print(1)"], ["python", "-c", "print(1)"]),
        (["uv run x.py", "--a"], ["uv", "run", "x.py", "--a"]),
    ],
)
def test_a_list_that_a_shell_should_have_read_is_refused_too(
    listed: list[str], form: list[str]
) -> None:
    """A model that splits a line for a shell into words has not called a shell."""
    with pytest.raises(ValidationError, match=re.escape(json.dumps(form))):
        COMMAND.validate_python(listed)
    assert COMMAND.validate_python(form) == form


@pytest.mark.parametrize("line", ["echo '$HOME' '*.py'", r"cat \~/x", "ls '#a' \"*\""])
def test_what_a_line_quotes_stays_as_it_is(line: str) -> None:
    """A worker reads the words again, and must not refuse what was taken."""
    words = COMMAND.validate_python(line)

    assert TypeAdapter(ParsedCommand).validate_python(words) == words


@pytest.mark.parametrize("written", ["LR=0.1 python x.py", ["LR=0.1", "python", "x.py"]])
def test_a_variable_in_front_of_a_command_belongs_into_env(written: object) -> None:
    """The Hub would look for a program of that name. Its text may be a secret."""
    with pytest.raises(ValidationError) as refused:
        COMMAND.validate_python(written)

    message = refused.value.errors()[0]["msg"]
    assert 'write command=["python", "x.py"], env={"LR": "…"}' in message
    assert "0.1" not in message


@pytest.mark.parametrize("written", [["python x.py"], "'python x.py'", '"python x.py"'])
def test_a_line_that_was_put_into_a_list_or_quotes_as_it_is_is_refused(written: object) -> None:
    """The Hub would look for a program with spaces in its name, and exit with 127."""
    with pytest.raises(
        ValidationError, match=r"no program is called 'python x\.py'.*\[\"python\","
    ):
        COMMAND.validate_python(written)


@pytest.mark.parametrize("space", ["\u00a0", "\u2028", "\x1c", "\x0b", "\t", "  ", "\u00a0 "])
def test_any_space_divides_a_line_that_was_put_into_a_list(space: str) -> None:
    """Also one at which no shell splits: no program has it in its name."""
    with pytest.raises(ValidationError, match=re.escape('write each word by itself: ["ls", "x"]')):
        COMMAND.validate_python([f"ls{space}x"])


@pytest.mark.parametrize(
    "written", [["sh", "-c", "#" + "x" * 131_071], "x " + "é" * 65_536, ["x" * 131_072]]
)
def test_a_word_that_no_kernel_takes_is_refused(written: object) -> None:
    """The job would be paid for, and end before its program began. Bytes count, not letters."""
    with pytest.raises(ValidationError, match="131,071 in one word") as refused:
        COMMAND.validate_python(written)

    assert len(refused.value.errors()[0]["msg"]) < 1000
    assert COMMAND.validate_python(["sh", "-c", "x" * 131_071])


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
