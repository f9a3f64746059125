"""Lines for a terminal, taken apart into commands, and the one among them that starts a job."""

import keyword
import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from typing import Final

_MAX_TEXT_CHARS: Final = 100_000
"""The longest text that is taken apart: it takes less than a second."""
_CONTINUATION: Final = re.compile(r"\\[ \t]*\r?\n")
_PROMPT: Final = re.compile(r"(?:[$>]\s+|[!%](?![=!]))\s*")
_FENCE: Final = re.compile(r"(?:```|~~~|%%)")
_PROGRAM_LINE: Final = re.compile(r"(?:[A-Za-z_]\w*=\S*\s+)*(?P<program>[\w./-]+)(?:\s|$)")
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_SEPARATOR: Final = re.compile(r"[;&|\n]+")
_REDIRECTION: Final = re.compile(r"[0-2&]?>|<<|<\Z")
_HUB_PROGRAMS: Final = frozenset({"hf", "huggingface-cli"})
_UV_PROGRAMS: Final = frozenset({"uv", "uvx"})
_UV_SUBCOMMANDS: Final = frozenset(
    {"run", "tool", "pip", "sync", "add", "init", "venv", "python", "lock", "build", "export"}
)
_LONG_OPTION: Final = re.compile(r"--[a-z]")
_WRAPPERS: Final = frozenset({"sudo", "time", "nohup", "exec", "command", "env"})
"""Programs that start the program behind them."""
SETTINGS: Final = frozenset({"cd", "export", "set", "source", ".", "echo", "mkdir", "pwd", "ls"})
"""Programs that install nothing."""
PREPARATIONS: Final = SETTINGS | {"pip", "pip3", "git", "curl", "brew", "wget"}
"""Programs that are run before a job is started."""


@dataclass(frozen=True, slots=True)
class FoundCommand:
    """A command of a text."""

    words: list[str]
    has_followers: bool
    """Whether the text has commands behind it."""


class UnmatchedQuotes(ValueError):
    """The quotes of a line that starts a job do not match."""


def find_hub_words(words: Sequence[str]) -> list[str] | None:
    """Return the words behind `hf jobs`, by whatever that is started; None for another program."""
    program, *rest = _strip_wrappers(words) or [""]
    name = program.rpartition("/")[2]
    if re.fullmatch(r"python[\d.]*", name) and rest[:1] == ["-m"] and len(rest) > 1:
        name = "hf" if rest[1].startswith("huggingface_hub") else ""
        rest = rest[2:]
    elif name in _UV_PROGRAMS:
        hub = next((n for n, w in enumerate(rest) if _tool_name(w) in _HUB_PROGRAMS), None)
        before = [] if hub is None else rest[:hub]
        if hub is None or not _are_options(before):
            return None
        name, rest = "hf", rest[hub + 1 :]
    while rest and rest[0].startswith("-"):
        rest = rest[1:]
    return rest[1:] if name in _HUB_PROGRAMS and rest[:1] == ["jobs"] else None


def find_uv_words(words: Sequence[str]) -> list[str] | None:
    """Return the words from `uv` or `uvx` on; None for another program."""
    program, *rest = _strip_wrappers(words) or [""]
    name = program.rpartition("/")[2]
    return [name, *rest] if name in _UV_PROGRAMS and rest else None


def read_variable_names(words: Sequence[str]) -> list[str]:
    """Return the names of the variables that a shell sets for a command."""
    assignments = takewhile(
        lambda word: word in _WRAPPERS or _ASSIGNMENT.fullmatch(word) is not None, words
    )
    return [name for name, equals, _ in (word.partition("=") for word in assignments) if equals]


def find_command(text: str, skipped_programs: Collection[str]) -> FoundCommand | None:
    """Return the first command of a text that is `hf jobs` or uv.

    A text of Python is not taken apart: its first line that is no comment starts no program.

    Args:
        text: lines for a terminal, or a script.
        skipped_programs: which may be started before it.

    Returns:
        The command, without what follows its words for a shell; None if it is no such line.

    Raises:
        UnmatchedQuotes: it is such a line, and cannot be taken apart.
    """
    lines = list(dropwhile(_is_skipped, text.splitlines()))
    line = _PROMPT.sub("", lines[0].lstrip(), count=1) if lines else ""
    start = _PROGRAM_LINE.match(line)
    if start is None or not _may_start(start["program"], skipped_programs):
        return None
    whole = "\n".join([line, *lines[1:]])[:_MAX_TEXT_CHARS]
    try:
        commands = _split_commands(whole)
    except ValueError:
        first = line.split()
        if find_hub_words(first) is not None or _starts_with_uv(first):
            raise UnmatchedQuotes from None
        return None
    for number, words in enumerate(commands, start=1):
        if find_hub_words(words) is not None or _starts_with_uv(words):
            followers = commands[number:]
            return FoundCommand(words, any(map(_is_command, followers)))
        if not _is_preparation(words, skipped_programs):
            return None
    return None


def read_words(words: Sequence[str]) -> FoundCommand:
    """Return the first command of a list of words."""
    own = _cut_at_shell_words(words)
    followers = words[len(own) :]
    return FoundCommand(own, any(map(_SEPARATOR.fullmatch, followers[:-1])))


def _cut_at_shell_words(words: Sequence[str]) -> list[str]:
    """Return the words before the first that is for the shell of a terminal."""
    for number, word in enumerate(words):
        if _SEPARATOR.fullmatch(word) or _REDIRECTION.match(word) or word == "#":
            return list(words[:number])
    return list(words)


def _starts_with_uv(words: Sequence[str]) -> bool:
    """Tell uv from Python about a variable of that name."""
    match find_uv_words(words):
        case ["uv", subcommand, *_]:
            return subcommand in _UV_SUBCOMMANDS or _LONG_OPTION.match(subcommand) is not None
        case ["uvx", tool, *_]:
            return re.match(r"[a-z-]", tool) is not None and not keyword.iskeyword(tool)
        case _:
            return False


def _is_command(words: Sequence[str]) -> bool:
    # A digit is the end of `2>&1`.
    return bool(words) and not words[0].isdecimal() and _FENCE.match(words[0]) is None


def _is_preparation(words: Sequence[str], skipped_programs: Collection[str]) -> bool:
    if not words or words[0].startswith("#"):
        return True
    if words[1:2] == ["="]:
        return False
    if words[0] in _HUB_PROGRAMS:
        return words[1:2] == ["auth"] or words[1:2] == ["login"]
    return words[0] in skipped_programs or all(map(_ASSIGNMENT.fullmatch, words))


def _may_start(program: str, skipped_programs: Collection[str]) -> bool:
    name = program.rpartition("/")[2] or program
    known = {*_HUB_PROGRAMS, *_UV_PROGRAMS, *_WRAPPERS, *skipped_programs}
    return name in known or name.startswith("python")


def _is_skipped(line: str) -> bool:
    bare = line.strip()
    return not bare or bare.startswith("#") or _FENCE.match(bare) is not None


def _split_commands(text: str) -> list[list[str]]:
    lexer = shlex.shlex(
        _CONTINUATION.sub(" ", text).replace("\r\n", "\n"), posix=True, punctuation_chars=";&|\n"
    )
    lexer.whitespace = " \t"
    lexer.whitespace_split = True
    lexer.commenters = ""
    commands: list[list[str]] = [[]]
    for word in lexer:
        if _SEPARATOR.fullmatch(word):
            commands.append([])
        else:
            commands[-1].append(word)
    return [_cut_at_shell_words(words) for words in commands if words]


def _strip_wrappers(words: Sequence[str]) -> list[str]:
    rest = list(words)
    if rest and (bare := _PROMPT.sub("", rest[0], count=1)) != rest[0]:
        rest[:1] = [bare] if bare else []
    if rest and rest[0] in {"$", ">", "%", "!"}:
        rest = rest[1:]
    while rest and (rest[0] in _WRAPPERS or _ASSIGNMENT.fullmatch(rest[0])):
        rest = rest[1:]
    return rest


def _tool_name(word: str) -> str:
    """Return the name of a program that uv starts, without the version in `hf@latest`."""
    return word.partition("@")[0]


def _are_options(words: Sequence[str]) -> bool:
    """Say whether nothing but `run` or `tool run` and options with their values is among words."""
    return all(
        word.startswith("-") or words[number - 1].startswith("-") or word in {"tool", "run"}
        for number, word in enumerate(words)
    )
