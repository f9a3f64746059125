"""Syntax that only a shell understands, in a command line and in the words of a list.

In a line, what is quoted or escaped is passed on as it is, and anything else that a shell would
expand is found. A word of a list is passed on as it is by intent, often a pattern or a program of
its own, so in a list only what can hardly be meant is found.
"""

import re
import shlex
from collections.abc import Collection, Generator, Sequence
from typing import Final

from schema.common.text import truncate

OPERATOR: Final = re.compile(r"[();<>|&]+")
OPERATOR_WORDS: Final = frozenset({"&&", "||", "|", "&", ">", ">>", "<", "2>", "2>&1", "&>", ";"})
BUILTINS: Final = frozenset(
    {
        *("cd", "export", "source", ".", "set", "unset", "alias", "ulimit", "umask", "trap"),
        *("exec", "exit", "return", "shift", "wait", "readonly", "local", "declare"),
        *("typeset", "let", "pushd", "popd", "shopt", ":"),
        *("if", "for", "while", "until", "case", "select", "function", "[[", "{", "!"),
    }
)
"""First words that are no program."""
_SHELLS: Final = frozenset({"sh", "bash", "dash", "zsh", "ash", "ksh"})
_SCRIPT_OPTION: Final = re.compile(r"-[a-zA-Z]*c")
_OPTION_WITH_VALUE: Final = re.compile(r"[-+]\w*[oO]|--rcfile|--init-file")
_EXPANSION: Final = re.compile(r"\$(?:\w+|[?$@*#!-]|\{[^}]*\}?|\(.*)|`", re.DOTALL)
_ANYWHERE: Final = re.compile(r"[();<>|&]+|\n|[*?]|\$['\"]")
_BRACES: Final = re.compile(r"\{[^{}\s]*\}")
_BRACKETS: Final = re.compile(r"\[[^\[\]\s]+\]")
_RANGE: Final = re.compile(r"\w-\w")
_AFTER_EXTRAS: Final = re.compile(r"[=<>!~@,;\s]|\Z")
_SPECIAL: Final = re.compile(r"[\\'\"$`();<>|&\n*?~#{\[]")
_WORD: Final = re.compile(r"\S+")
_LIST_EXPANSION: Final = re.compile(
    r"(?:--?[\w-]+=)?(?:\$[A-Za-z_]\w*|\$\{[A-Za-z_]\w*\})(?:/[^$]*)?"
    r"|\$[?$@*#!0-9]"
    r"|\$\(.+\)|`.+`",
    re.DOTALL,
)
_LIST_OPERATOR: Final = re.compile(
    r"(?:[12&]?>>?)(?:/|\./|\.\./)[\w./~-]+|[12&]>>?[\w./-]+|[\w./-]+;"
)
"""An operator that is written together with a word."""
_FILE_PROGRAMS: Final = frozenset(
    {
        *("ls", "cat", "cp", "mv", "rm", "head", "tail", "wc", "du", "touch", "mkdir", "rmdir"),
        *("ln", "stat", "file", "chmod", "chown", "md5sum", "sha256sum", "gzip", "gunzip", "sort"),
    }
)
"""Programs that take nothing but names of files: a pattern among them matches no file."""
_INTERPRETERS: Final = frozenset({"python", "python3", "node", "perl", "ruby", "Rscript", *_SHELLS})
_OPERATOR_PROGRAMS: Final = frozenset({"expr", "test", "[", "[["})
"""Programs for which some of the operators are ordinary words."""
_MAX_SHOWN_CHARS: Final = 40
_PROGRAM_OPTIONS: Final = frozenset({"-c", "-e", "--command", "--eval", "-exec", "-lc", "-ec"})
"""Options before a program that is one word."""


def find_in_line(line: str) -> str | None:
    """Return the first part of a line that only a shell understands."""
    searched = _WORD.sub(_hide_queries, line)
    for position, letter, quote in _unescaped_letters(searched):
        if letter in "$`" and (match := _EXPANSION.match(searched, position)):
            return truncate(match[0], _MAX_SHOWN_CHARS)
        if not quote and (syntax := _find_unquoted(searched, position)):
            return truncate(syntax, _MAX_SHOWN_CHARS)
    return None


def _hide_queries(word: re.Match[str]) -> str:
    return word[0].replace("?", "_") if "://" in word[0] else word[0]


def _find_unquoted(line: str, position: int) -> str | None:
    """Return what a shell understands at a position that is not quoted."""
    if (match := _ANYWHERE.match(line, position)) is not None:
        return "a line break" if match[0] == "\n" else match[0]
    if line[position] in "~#":
        return line[position] if position == 0 or line[position - 1].isspace() else None
    if (match := _BRACES.match(line, position)) is not None:
        return match[0] if "," in match[0] or ".." in match[0] else None
    if (match := _BRACKETS.match(line, position)) is not None:
        return match[0] if _is_pattern(line, match) else None
    return None


def find_in_list(words: Sequence[str]) -> tuple[str, list[str]] | None:
    """Return the first word that only a shell understands, and the words that stay unquoted."""
    program = words[0].rpartition("/")[2]
    script = script_position(words)
    telling = [
        word
        for position, word in enumerate(words)
        if position != script and _is_telling(word, position, words, program)
    ]
    return (telling[0], telling) if telling else None


def join_words(words: Sequence[str], unquoted: Collection[str] = ()) -> str:
    """Write words as a line for a shell."""
    return " ".join(
        word if word in unquoted or word in OPERATOR_WORDS else shlex.quote(word) for word in words
    )


def is_shell(program: str) -> bool:
    """Say whether a program is a shell."""
    return program.rpartition("/")[2] in _SHELLS


def script_position(words: Sequence[str]) -> int | None:
    """Return the position of the script that a shell is given with -c; None without one."""
    if not is_shell(words[0]):
        return None
    for position, word in enumerate(words[1:], start=1):
        if _SCRIPT_OPTION.fullmatch(word):
            return position + 1
        if not word.startswith(("-", "+")) and not _OPTION_WITH_VALUE.fullmatch(
            words[position - 1]
        ):
            return None
    return None


def _is_telling(word: str, position: int, words: Sequence[str], program: str) -> bool:
    if position == 0 or (position == 1 and program in _INTERPRETERS):
        return word.startswith("~/")
    if words[position - 1] in _PROGRAM_OPTIONS or (program == "find" and word == ";"):
        return False
    is_operator = word in OPERATOR_WORDS or bool(_LIST_OPERATOR.fullmatch(word))
    if is_operator and program not in _OPERATOR_PROGRAMS:
        return True
    is_file = program in _FILE_PROGRAMS and not word.startswith("-")
    return bool(_LIST_EXPANSION.fullmatch(word)) or (is_file and find_in_line(word) is not None)


def _is_pattern(line: str, brackets: re.Match[str]) -> bool:
    """Tell a pattern of file names from the extras of a package, and from a list of values."""
    inside = brackets[0][1:-1]
    if _RANGE.fullmatch(inside):
        return True
    before = line[max(0, brackets.start() - 1) : brackets.start()]
    is_extras = before.isalnum() and _AFTER_EXTRAS.match(line, brackets.end())
    is_values = "," in inside and before in {"", " ", "="}
    return not is_extras and not is_values


def _unescaped_letters(line: str) -> Generator[tuple[int, str, str]]:
    """Yield each special letter that is not escaped: its position, itself, the quotes around it."""
    quote, position = "", 0
    while (match := _SPECIAL.search(line, position)) is not None:
        position, letter = match.start(), match[0]
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
