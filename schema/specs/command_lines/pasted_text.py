"""What is copied along with a command line: a prompt, a fence, the mark of a cell, typography.

The Hub would take it for a part of the command, and look for a program called `$` or `!pip`. What
is left without it is a command line like any other.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from schema.common.errors import CorrectableError
from schema.specs.command_lines.documents import find_syntax_error

_PROMPT: Final = re.compile(
    r"\s*(?:\([\w .-]+\)\s*)?"
    r"(?:[\w.-]+@[\w.-]+(?:[: ][^\s$#%]*)?\s*[$#%]|\[[^\]\n]*\]\s?[$#%]|[$%]"
    r"|(?:PS )?[A-Za-z]:\\[^>\n]*>|>(?=\s+\S+\s+\S))\s+(?=\S)"
)
_CONTINUED_PROMPT: Final = re.compile(r"\s*>\s+")
_PYTHON_PROMPT: Final = re.compile(r"\s*(?:>>>|In \[\d+\]:)\s")
_FENCE: Final = re.compile(r"\s*(?P<fence>```+|~~~+)[ \t]*(?P<language>[\w+-]*)[^\n]*\n")
_QUOTED_AS_CODE: Final = re.compile(r"\s*`(?P<inside>[^`\n]+)`\s*")
_CELL: Final = re.compile(r"\s*%%(?P<magic>\w+)[^\n]*(?:\n(?P<inside>.*))?", re.DOTALL)
_MAGIC: Final = re.compile(r"\s*(?:!|%(?=(?:pip|conda|mamba|uv|cd)\b))(?=[A-Za-z./~])")
_OTHER_MAGIC: Final = re.compile(r"%(?=[A-Za-z]\w+(?:\s|\Z))")
_NOTEBOOK_LINE: Final = re.compile(r"\s*(?:!|%%?)[A-Za-z]")
_SHELL_CELLS: Final = frozenset({"bash", "sh", "shell", "script"})
_PYTHON_LANGUAGES: Final = frozenset({"python", "py", "python3", "ipython"})
_QUOTED: Final = re.compile(r"'[^']*'|\"(?:\\.|[^\"\\])*\"", re.DOTALL)
_CURLY_QUOTES: Final = re.compile(
    r"\s-[a-z]*[ce]\s+[\u201c-\u201e\u00ab\u2018]"
    r"|[\u201c\u201e\u00ab][^\u201c-\u201e\u00ab\u00bb]*\s[^\u201c-\u201e\u00ab\u00bb]*"
    r"[\u201d\u201c\u00bb]|\u2018[^\u2018\u2019]*\s[^\u2018\u2019]*\u2019"
)
"""Curly quotes that are meant as quotes: behind -c, or around several words."""
_DASH: Final = re.compile(
    r"(?:(?<=\s)|\A)[\u2013\u2014](?P<single>[A-Za-z](?![\w-]))?(?=[A-Za-z]|\s|\Z)"
)
_LONG_DASH: Final = re.compile(r"(?:(?<=\s)|\A)[\u2013\u2014](?=[A-Za-z])")
_ODD_SPACE: Final = re.compile(r"[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
_NO_SPACE: Final = re.compile(r"[\u200b\u2060\ufeff]")
_PLAIN_QUOTES: Final = str.maketrans(
    dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"') | dict.fromkeys("\u2018\u2019", "'")
)
_PRINTERS: Final = frozenset({"echo", "printf"})
"""Programs that print whatever they are given, typography too."""
_WINDOWS_CONTINUATION: Final = re.compile(r"(?<=\s)[\^`][ \t]*\n")
_BACKGROUND: Final = re.compile(r"(?<![&\\<>|])&\s*\Z")
_NO_SCRIPT: Final = "give it as script"


@dataclass(frozen=True, slots=True)
class BareCommand:
    """A command without what was copied along."""

    command: str | list[str]
    reason: str
    """What was copied along, and why it is no part of a command."""


def find_bare_text(text: str) -> BareCommand | None:
    """Return the command line in a text; None for a text that is nothing else.

    Raises:
        ValueError: it is Python, or a cell of a notebook.
    """
    if _PYTHON_PROMPT.match(text):
        message = f"that is Python with its prompt; {_NO_SCRIPT}, without prompts and output"
        raise ValueError(message)
    return (
        _find_in_fence(text)
        or _find_in_cell(text)
        or _find_behind_prompts(text)
        or _find_behind_magics(text)
        or _find_plain_letters(text)
        or _find_foreground(text)
    )


def find_bare_words(words: Sequence[str]) -> BareCommand | None:
    """Return the command in a list of words; None for a list that is nothing else."""
    first, *rest = words
    if first in {"$", "%", ">"} and rest:
        return BareCommand(rest, f"{first} is a prompt, and no program")
    if _MAGIC.match(f"{first} "):
        return BareCommand([first[1:], *rest], f"{first[0]} is for a notebook")
    if words[-1] == "&" and rest:
        return BareCommand(list(words[:-1]), _describe_background())
    return None


def expect_bare_script(script: str) -> None:
    """Refuse Python in a fence, with prompts, or with lines of a notebook.

    Raises:
        ValueError: with where its parts go.
    """
    if (opening := _FENCE.match(script)) is not None:
        inside = script[opening.end() :].partition(f"\n{opening['fence']}")[0]
        message = f"{opening['fence']} marks code in a text, and is no part of it; leave it out"
        raise CorrectableError(message, inside)
    if _PYTHON_PROMPT.match(script):
        message = "it has the prompts of Python; leave them out, and what was printed"
        raise ValueError(message)
    line_number = find_syntax_error(script)
    lines = script.split("\n")
    if line_number is not None and _NOTEBOOK_LINE.match(lines[min(line_number, len(lines)) - 1]):
        message = (
            f"line {line_number} is for a notebook, and no Python; leave it out, and give packages "
            f"that it installs as dependencies"
        )
        raise ValueError(message)


def find_foreground_script(script: str) -> str | None:
    """Return the script of a shell without the `&` at its end; None for one without it."""
    return _BACKGROUND.sub("", script).rstrip() if _BACKGROUND.search(script) else None


def _describe_background() -> str:
    return (
        "with & at its end the job would be over at once; a job goes on by itself whatever becomes "
        "of this call"
    )


def _find_in_fence(text: str) -> BareCommand | None:
    if (quoted := _QUOTED_AS_CODE.fullmatch(text)) is not None:
        return BareCommand(quoted["inside"], "` marks code in a text, and is no part of it")
    if (opening := _FENCE.match(text)) is None:
        return None
    if opening["language"].lower() in _PYTHON_LANGUAGES:
        message = f"that is Python; {_NO_SCRIPT}, without {opening['fence']}"
        raise ValueError(message)
    inside = text[opening.end() :].partition(f"\n{opening['fence']}")[0]
    return BareCommand(inside, f"{opening['fence']} marks code in a text, and is no part of it")


def _find_in_cell(text: str) -> BareCommand | None:
    if (cell := _CELL.fullmatch(text)) is None:
        return None
    name = f"%%{cell['magic']}"
    if cell["magic"] in _SHELL_CELLS and cell["inside"]:
        return BareCommand(cell["inside"], f"{name} is for a notebook")
    message = (
        f"{name} is for a notebook; give Python as script, and what a shell runs as the last of "
        f"the words sh, -c"
    )
    raise ValueError(message)


def _find_behind_prompts(text: str) -> BareCommand | None:
    lines = text.strip("\n").split("\n")
    if (prompt := _PROMPT.match(lines[0])) is None:
        return None
    bare: list[str] = []
    for line in lines:
        if (match := _PROMPT.match(line)) is not None:
            bare.append(line[match.end() :])
        elif bare[-1].rstrip().endswith("\\"):
            bare.append(_CONTINUED_PROMPT.sub("", line, count=1))
    shown = prompt[0].split()[-1]
    left_out = "; lines without it are left out" if len(bare) < len(lines) else ""
    return BareCommand("\n".join(bare), f"{shown} is a prompt, and no part of a command{left_out}")


def _find_behind_magics(text: str) -> BareCommand | None:
    lines = [line for line in text.strip().split("\n") if line.strip()]
    if not lines or not (_MAGIC.match(lines[0]) or _OTHER_MAGIC.match(lines[0])):
        return None
    if not all(map(_MAGIC.match, lines)):
        message = (
            "that is a cell of a notebook; give its Python as script, and the packages that it "
            "installs as dependencies"
        )
        raise ValueError(message)
    bare = [_MAGIC.sub("", line, count=1) for line in lines]
    return BareCommand("\n".join(bare), f"{lines[0].lstrip()[0]} is for a notebook")


def _find_plain_letters(text: str) -> BareCommand | None:
    """Find letters of typography, or of Windows, in the place of those of a shell."""
    unquoted = _QUOTED.sub("''", text)
    if (continuation := _WINDOWS_CONTINUATION.search(unquoted)) is not None:
        bare = _WINDOWS_CONTINUATION.sub(" ", text)
        return BareCommand(bare, f"{continuation[0].strip()} continues a line only on Windows")
    if _ODD_SPACE.search(unquoted) or _NO_SPACE.search(unquoted):
        plain = _NO_SPACE.sub("", _ODD_SPACE.sub(" ", text))
        return BareCommand(plain, "it has spaces that are not those of a keyboard")
    if (text.split() or [""])[0] in _PRINTERS:
        return None
    if _CURLY_QUOTES.search(unquoted):
        return BareCommand(text.translate(_PLAIN_QUOTES), "curly quotes are letters to a program")
    if _LONG_DASH.search(unquoted):
        return BareCommand(_DASH.sub(_write_dashes, text), "a long dash begins no option")
    return None


def _write_dashes(dash: re.Match[str]) -> str:
    return f"-{dash['single']}" if dash["single"] else "--"


def _find_foreground(text: str) -> BareCommand | None:
    bare = find_foreground_script(text)
    return None if bare is None else BareCommand(bare, _describe_background())
