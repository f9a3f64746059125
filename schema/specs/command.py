"""Commands of a job, parsed into words; what needs a shell is refused.

The Hub runs a command without a shell. Syntax that only a shell understands would not fail there:
it would do something else, at the caller's cost. So it is refused, and the error shows how to call
a shell.
"""

import json
import re
import shlex
from contextlib import suppress
from itertools import takewhile
from typing import Annotated, Final, cast

from pydantic import BeforeValidator
from typing_extensions import TypeIs

from schema.common.errors import CorrectableError
from schema.common.text import format_count, quote_value
from schema.specs.command_lines.check import expect_in_default_image, expect_no_job_line
from schema.specs.command_lines.documents import expect_no_document, expect_no_windows_path
from schema.specs.command_lines.pasted_text import (
    BareCommand,
    find_bare_text,
    find_bare_words,
    find_foreground_script,
)
from schema.specs.inputs import shell_syntax

MAX_TEXT_BYTES: Final = 131_071
"""The longest word or variable, with its name, that a kernel starts a program with."""
_ASSIGNMENT: Final = re.compile(r"([A-Za-z_]\w*)=")
_LINE_CONTINUATION: Final = re.compile(
    r"""('[^']*'|"(?:\\.|[^"\\])*"|\\(?![ \t]*(?:\n|\Z)).)|\\[ \t]*(?:\n|\Z)""", re.DOTALL
)
"""A quoted part or an escaped letter, or else a line that goes on; spaces may stand behind it."""
_ODD_SPACE: Final = re.compile(r"(?![ \t\n])\s")
"""A space that is none to a shell."""
_BASH_SCRIPT: Final = re.compile(r"#!.*\bbash\b")
_MAX_QUOTED_CHARS: Final = 500
"""How much of a word a message repeats."""
_MAX_FORM_CHARS: Final = 8_000
"""The longest list to be copied that a message repeats: whole, because part of it is no form."""
_MAX_DESCRIBED_WORDS: Final = 4
"""How many words of a list that is too long are described."""
_MAX_LINE_CHARS: Final = 500_000
"""The longest line that is taken apart: it takes a second."""
_EXAMPLE: Final = '["python", "-c", "print(1)"]'
_QUOTE_HINT: Final = "; to pass it on as it is, put it in single quotes"


def parse_command(value: object, *, has_image: bool = True) -> object:
    """Return the words of a command; a value that is neither text nor list is returned unchanged.

    Args:
        value: what a caller wrote.
        has_image: whether the caller names an image; without one, programs are refused that the
            image of a command that names none does not have.

    Raises:
        ValueError: it would not do what it says; the text shows the form that does.
    """
    if isinstance(value, str):
        value = _unpack_list(value.replace("\r\n", "\n"))
    if isinstance(value, str):
        expect_no_job_line(value)
        expect_no_document(value)
        bare = find_bare_text(value)
        if bare is None:
            expect_no_windows_path(value)
    else:
        bare = find_bare_words(value) if is_words(value) and value else None
    if bare is not None:
        raise _correct_pasted(bare, has_image=has_image)
    # Before anything else is corrected: a correction would be refused for this in the next call.
    if not has_image and (isinstance(value, str) or (is_words(value) and value)):
        expect_in_default_image(value)
    if not isinstance(value, list):
        return parse_words(value)
    words = parse_words(cast("list[object]", value))
    return _check_list(words) if is_words(words) else words


def parse_words(value: object) -> object:
    """Return the words of a line, or of a list that came from a line: they are as they are meant.

    Raises:
        ValueError: no program can be started with them.
    """
    if isinstance(value, str):
        return _split_line(value)
    if not isinstance(value, list):
        return value
    words = [
        str(word) if isinstance(word, int | float) and not isinstance(word, bool) else word
        for word in cast("list[object]", value)
    ]
    if is_words(words):
        expect_runnable_words(words)
        if not words:
            message = f"a command has at least 1 word, such as {_EXAMPLE}"
            raise ValueError(message)
    return words


def expect_runnable_words(words: list[str]) -> None:
    """Refuse words that the Hub or a kernel does not take.

    Raises:
        ValueError: one is empty or too long.
    """
    if not all(words):
        message = "the Hub takes no empty words in a command; leave them out"
        raise ValueError(message)
    for number, word in enumerate(words, start=1):
        if len(word.encode()) > MAX_TEXT_BYTES:
            message = f"word {number} has {describe_too_long(len(word.encode()))}"
            raise ValueError(message)


def describe_too_long(size_bytes: int) -> str:
    """Say how long a word or variable is, and what to do instead."""
    return (
        f"{format_count(size_bytes, 'byte')}, and no program can be started with more than "
        f"{MAX_TEXT_BYTES:,} in one word or variable; put it into a file in a bucket or dataset "
        f"and mount that with volumes, or, if it is Python, give it as script"
    )


def is_words(values: object) -> TypeIs[list[str]]:
    """Say whether a value is a list of texts."""
    return isinstance(values, list) and all(
        isinstance(word, str) for word in cast("list[object]", values)
    )


def _correct_pasted(bare: BareCommand, *, has_image: bool) -> ValueError:
    """Return the refusal of a command with something copied along: with the command that is meant.

    Raises:
        ValueError: that is refused too, and it is not known what is meant.
    """
    try:
        words = cast("list[str]", parse_command(bare.command, has_image=has_image))
    except CorrectableError as error:
        words = cast("list[str]", error.value)
    return CorrectableError(f"{bare.reason}; give {_format_list(words)}", words)


def _unpack_list(text: str) -> object:
    """Read a list that a client wrote as a text: no program is called `["sh",`."""
    if text.lstrip().startswith("["):
        with suppress(ValueError, RecursionError):
            return cast("object", json.loads(text))
    return text


def _split_line(text: str) -> list[str]:
    if len(text) > _MAX_LINE_CHARS:
        message = f"it is longer than {_MAX_LINE_CHARS:,} characters; give Python as script"
        raise ValueError(message)
    line = _LINE_CONTINUATION.sub(lambda match: match[1] or " ", text).strip()
    try:
        words = shlex.split(line)
    except ValueError as error:
        message = f"the quotes do not match ({error}); give a list: {_EXAMPLE}"
        raise ValueError(message) from None
    if not words:
        message = f"a command has at least 1 word, such as {_EXAMPLE}"
        raise ValueError(message)
    expect_runnable_words(words)
    if syntax := shell_syntax.find_in_line(line):
        raise _needs_shell(syntax, line, "" if shell_syntax.OPERATOR.match(syntax) else _QUOTE_HINT)
    _expect_no_lines(words)
    _expect_foreground(words)
    _expect_program(words, line)
    return words


def _check_list(words: list[str]) -> list[str]:
    expect_no_job_line(words)
    expect_no_windows_path(" ".join(words[:2]))
    _expect_no_lines(words)
    line = shell_syntax.join_words(words)
    if (shell_words := shell_syntax.find_in_list(words)) is not None:
        word, unquoted = shell_words
        raise _needs_shell(word, shell_syntax.join_words(words, unquoted))
    _expect_one_script(words)
    _expect_foreground(words)
    _expect_program(words, line)
    return words


def _expect_no_lines(words: list[str]) -> None:
    """Refuse lines in the places of words: a list of commands, or a program with its options."""
    program = words[0]
    name, *arguments = program.split()
    if not arguments or (program.startswith("/") and not _is_line(name, arguments)):
        return
    shown = quote_value(program, _MAX_QUOTED_CHARS)
    if len(words) == 1:
        line = _ODD_SPACE.sub(" ", program)  # a shell does not split there
        right = _split_line(line)  # its refusal has the form for a shell
        message = f"no program is called {shown}; write each word by itself: {_format_list(right)}"
        raise CorrectableError(message, right)
    if name not in shell_syntax.BUILTINS and "-" in {arguments[-1][0], words[1][0]}:
        right = [*program.split(), *words[1:]]
        message = f"no program is called {shown}; write each word by itself: {_format_list(right)}"
        raise CorrectableError(message, right)
    form = _format_list(["sh", "-c", " && ".join(words)])
    message = (
        f"no program is called {shown}; for one command, write each word by itself; for a "
        f"line each, give them to a shell: {form}"
    )
    raise ValueError(message)


def _expect_foreground(words: list[str]) -> None:
    """Refuse a shell that ends at once, because all that it starts is in the background."""
    position = shell_syntax.script_position(words)
    if position is None or position >= len(words):
        return
    if script := find_foreground_script(words[position]):
        right = [*words[:position], script, *words[position + 1 :]]
        message = (
            f"with & at its end the shell ends at once, and the job with it; give "
            f"{_format_list(right)}"
        )
        raise CorrectableError(message, right)


def _is_line(name: str, arguments: list[str]) -> bool:
    """Tell a line from the path of a program with spaces in its name."""
    return (
        arguments[0].startswith("-")
        or name.rpartition("/")[0].endswith("/bin")
        or (name.rpartition("/")[0] == "/bin")
    )


def _expect_program(words: list[str], line: str) -> None:
    """Refuse a command whose first word is not the name of a program."""
    if words[0] in shell_syntax.BUILTINS:
        raise _needs_shell(words[0], line)
    variables = [match[1] for match in takewhile(bool, map(_ASSIGNMENT.match, words)) if match]
    if variables:
        rest = words[len(variables) :] or ["env"]
        # The value may be a secret, so it is not repeated.
        message = (
            f"only a shell sets {variables[0]} that way; write command={_format_list(rest)}, "
            f"env={json.dumps(dict.fromkeys(variables, '…'), ensure_ascii=False)}"
        )
        raise ValueError(message)


def _expect_one_script(words: list[str]) -> None:
    """Refuse a shell that is given a line without -c, or more words than it runs."""
    shell, *arguments = words
    position = shell_syntax.script_position(words)
    if position is None:
        if shell_syntax.is_shell(shell) and (script := _find_loose_script(arguments)):
            message = (
                f"{shell} would look for a file called {quote_value(script, _MAX_QUOTED_CHARS)}; "
                f"give it as a line: {_format_list([shell, '-c', script])}"
            )
            raise CorrectableError(message, [shell, "-c", script])
        return
    script, *ignored = words[position:] or [""]
    if ignored and "$" not in script:
        whole = [*words[:position], " ".join([script, *ignored])]
        message = (
            f"{shell} -c runs only {quote_value(script, _MAX_QUOTED_CHARS)} and ignores "
            f"{quote_value(ignored[0], _MAX_QUOTED_CHARS)}; give it one text: {_format_list(whole)}"
        )
        raise CorrectableError(message, whole)


def _find_loose_script(arguments: list[str]) -> str | None:
    """Return the line that stands where the name of a script file goes."""
    if not arguments:
        return None
    if (option := re.match(r"-[a-z]*c\s+", arguments[0])) is not None:
        return " ".join([arguments[0][option.end() :], *arguments[1:]])
    is_line = not arguments[0].startswith(("-", "/")) and len(arguments[0].split()) > 1
    return " && ".join(arguments) if is_line else None


def _needs_shell(syntax: str, line: str, hint: str = "") -> ValueError:
    shell = "bash" if _BASH_SCRIPT.match(line) else "sh"
    # A plain sh, such as that of python:3.12, expands no braces.
    braces = (
        '; write "bash" for "sh" to expand the braces' if "{" in syntax.replace("${", "") else ""
    )
    return CorrectableError(
        f"{syntax} is for a shell and no shell runs this; to use one, give the list "
        f"{_format_list([shell, '-c', line])}{braces}{hint}",
        ["bash" if braces else shell, "-c", line],
    )


def _format_list(words: list[str]) -> str:
    """Write a list that can be copied as it is; of one that is too long, describe the words."""
    form = json.dumps(words, ensure_ascii=False)
    if len(form) <= _MAX_FORM_CHARS:
        return form
    described = [
        json.dumps(word, ensure_ascii=False) if len(word) <= _MAX_QUOTED_CHARS else "the whole text"
        for word in words[:_MAX_DESCRIBED_WORDS]
    ]
    rest = len(words) - len(described)
    others = f" and {format_count(rest, 'other word')}" if rest > 0 else ""
    return f"of {', '.join(described)}{others}"


Command = Annotated[list[str], BeforeValidator(parse_command)]
"""The words of a command, as a list or as one line."""
ParsedCommand = Annotated[list[str], BeforeValidator(parse_words)]
"""The words of a command that has been checked, as they are stored; or a line."""
