"""Commands of a job, parsed into words; what needs a shell is refused.

The Hub runs a command without a shell. Syntax that only a shell understands would not fail there:
it would do something else, at the caller's cost. So it is refused, and the error shows how to call
a shell.
"""

import json
import re
import shlex
from collections.abc import Generator
from contextlib import suppress
from itertools import takewhile
from typing import Annotated, Final, cast

from pydantic import BeforeValidator

from schema.common.text import quote_value, truncate

_OPERATORS: Final = frozenset("();<>|&")
_OPERATOR: Final = re.compile(r"[();<>|&]+")
_EXPANSION: Final = re.compile(r"\$(?:\w+|\{[^}]*\}?|\(.*)|`")
_VARIABLE: Final = re.compile(r"\$(?:[A-Za-z_]\w*|\{[A-Za-z_]\w*\})")
_ASSIGNMENT: Final = re.compile(r"([A-Za-z_]\w*)=")
_LINE_CONTINUATION: Final = re.compile(r"""('[^']*'|"(?:\\.|[^"\\])*"|\\[^\n])|\\\n""", re.DOTALL)
_SHELL_BUILTINS: Final = frozenset(
    {"cd", "export", "source", ".", "set", "unset", "alias", "ulimit"}
)
_SHELLS: Final = frozenset({"sh", "bash", "dash", "zsh", "/bin/sh", "/bin/bash"})
_OPERATOR_WORDS: Final = frozenset({"&&", "||", "|", "&", ">", ">>", "<", "2>", "2>&1", "&>"})
_OPERATOR_PROGRAMS: Final = frozenset({"expr", "test", "["})
"""Programs for which some of the operators are ordinary words."""
_MAX_QUOTED_CHARS: Final = 500
"""How much of a word a message repeats."""
_MAX_FORM_CHARS: Final = 8_000
"""The longest list to be copied that a message repeats: whole, because part of it is no form."""
_MAX_DESCRIBED_WORDS: Final = 4
"""How many words of a list that is too long are described."""
_QUOTE_HINT: Final = "; to pass it on as it is, put it in single quotes"


def parse_command(value: object) -> object:
    """Return the words of a command; a value that is neither text nor list is returned unchanged.

    Raises:
        ValueError: it would not do what it says; the text shows the form that does.
    """
    if isinstance(value, str):
        value = _unpack_list(value)
    if isinstance(value, str):
        return _split_line(value)
    if isinstance(value, list):
        return _check_list(cast("list[object]", value))
    return value


def _unpack_list(text: str) -> object:
    """Read a list that a client wrote as a text: no program is called `["sh",`."""
    if text.lstrip().startswith("["):
        with suppress(ValueError, RecursionError):
            return cast("object", json.loads(text))
    return text


def _split_line(text: str) -> list[str]:
    line = _LINE_CONTINUATION.sub(lambda match: match[1] or " ", text).strip()
    try:
        words = shlex.split(line)
    except ValueError as error:
        message = f'the quotes do not match ({error}); give a list: ["python", "-c", "print(1)"]'
        raise ValueError(message) from None
    _expect_words(words)
    if syntax := _find_shell_syntax(line):
        raise _needs_shell(syntax, line, "" if _OPERATOR.match(syntax) else _QUOTE_HINT)
    _expect_program(words, line)
    return words


def _check_list(values: list[object]) -> object:
    words = [
        str(word) if isinstance(word, int | float) and not isinstance(word, bool) else word
        for word in values
    ]
    if not all(isinstance(word, str) for word in words):
        return values
    texts = cast("list[str]", words)
    _expect_words(texts)
    line = " ".join(word if word in _OPERATOR_WORDS else shlex.quote(word) for word in texts)
    if len(texts) == 1 and len(texts[0].split()) > 1:
        program = quote_value(texts[0], _MAX_QUOTED_CHARS)
        message = f"no program is called {program}; write it without the list, as one text"
        raise ValueError(message)
    if texts[0] not in _OPERATOR_PROGRAMS and (
        operators := [word for word in texts if word in _OPERATOR_WORDS]
    ):
        raise _needs_shell(operators[0], line)
    if variables := [word for word in texts if _VARIABLE.fullmatch(word)]:
        unquoted = " ".join(
            word if word in variables or word in _OPERATOR_WORDS else shlex.quote(word)
            for word in texts
        )
        raise _needs_shell(variables[0], unquoted)
    _expect_one_script(texts)
    _expect_program(texts, line)
    return texts


def _expect_words(words: list[str]) -> None:
    if not words:
        message = 'a command has at least 1 word, such as ["python", "-c", "print(1)"]'
        raise ValueError(message)
    if not all(words):
        message = "the Hub takes no empty words in a command; leave them out"
        raise ValueError(message)


def _expect_program(words: list[str], line: str) -> None:
    """Refuse a command whose first word is not the name of a program."""
    if words[0] in _SHELL_BUILTINS:
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
    """Refuse a shell with more words than it runs."""
    if words[0] not in _SHELLS or "-c" not in words[1:-2]:
        return
    script, *ignored = words[words.index("-c") + 1 :]
    if "$" not in script:
        whole = [*words[: words.index("-c") + 1], " ".join([script, *ignored])]
        message = (
            f"{words[0]} -c runs only {quote_value(script, _MAX_QUOTED_CHARS)} and ignores "
            f"{quote_value(ignored[0], _MAX_QUOTED_CHARS)}; give it one text: {_format_list(whole)}"
        )
        raise ValueError(message)


def _needs_shell(syntax: str, line: str, hint: str = "") -> ValueError:
    return ValueError(
        f"{syntax} is for a shell and no shell runs this; to use one, give the list "
        f"{_format_list(['sh', '-c', line])}{hint}"
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
    return f"of {', '.join(described)}{f' and the other {rest} words' if rest > 0 else ''}"


def _find_shell_syntax(line: str) -> str | None:
    """Return the first part of a line that only a shell understands."""
    for position, letter, quote in _unescaped_letters(line):
        rest = line[position:]
        if letter in "$`" and (match := _EXPANSION.match(rest)):
            return truncate(match[0], 40)
        if quote:
            continue
        if letter in _OPERATORS and (match := _OPERATOR.match(rest)):
            return match[0]
        if letter == "\n":
            return "a line break"
        if letter == "*":
            return "*"
        if letter == "~" and (position == 0 or line[position - 1].isspace()):
            return "~"
    return None


def _unescaped_letters(line: str) -> Generator[tuple[int, str, str]]:
    """Yield each letter that is not escaped: its position, itself and the quotes around it."""
    quote, position = "", 0
    while position < len(line):
        letter = line[position]
        if letter == "\\" and quote != "'":
            position += 2
            continue
        if letter == quote:
            quote = ""
        elif not quote and letter in "'\"":
            quote = letter
        elif quote != "'":
            yield position, letter, quote
        position += 1


Command = Annotated[list[str], BeforeValidator(parse_command)]
"""The words of a command, as a list or as one line."""
