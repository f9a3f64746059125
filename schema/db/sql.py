"""SQL statements with named parameters.

A statement with five parameters or more names them, and its caller passes them by name:

    _RENAME: Final = parse_statement(
        "UPDATE job SET title = :title WHERE subject_id = :subject_id AND id = :job_id"
    )
    await tx.execute(*_RENAME.bind(subject_id=subject_id, job_id=job_id, title=title))

Postgres and asyncpg know numbers only. `parse_statement` replaces the names by `$1`, `$2` and so
on, once, when the module is imported; a name that stands twice is one parameter. Nothing else in
the text changes, so the types and the plan are those of the same text with numbers.

A piece of SQL that stands inside several statements stays plain text, with names. The statements
that include it are parsed.
"""

import re
from typing import Final

_LEXER: Final = re.compile(
    r"""
      \b[eE]'(?:[^'\\]|\\.|'')*'               # a string literal with escapes
    | '(?:[^']|'')*'                           # a string literal
    | "(?:[^"]|"")*"                           # a quoted identifier
    | --[^\n]*                                 # a comment
    | /\*.*?\*/                                # a comment that is not nested
    | (?<!\w)\$(?P<tag>\w*)\$.*?\$(?P=tag)\$   # a dollar-quoted string
    | ::                                       # a cast
    | (?<!\w)(?P<number>\$\d+)
    | (?<!\w):(?P<name>[A-Za-z_]\w*)
    """,
    re.VERBOSE | re.DOTALL,
)
"""The parts of SQL that have a colon or a dollar sign; only the last two are parameters."""


class Statement(str):
    """The text of a statement, with numbers, that knows the names of its parameters."""

    __slots__ = ("parameters",)

    parameters: tuple[str, ...]
    """The names, in the order of the numbers."""

    def bind(self, **values: object) -> tuple[str, *tuple[object, ...]]:
        """Return the text and the values in order: what a transaction takes.

        Raises:
            TypeError: a parameter has no value, or there is no such parameter.
        """
        missing = [name for name in self.parameters if name not in values]
        unknown = [name for name in values if name not in self.parameters]
        if missing or unknown:
            raise TypeError(f"missing parameters: {missing}; unknown parameters: {unknown}")
        # asyncpg refuses a subclass of str.
        return str(self), *(values[name] for name in self.parameters)


def parse_statement(text: str) -> Statement:
    """Replace the names of parameters (`:subject_id`) by numbers.

    What looks like a name inside a literal, a quoted identifier or a comment is left alone, and so
    is what stands right behind a word, as the end of a slice does (`lines[first:last]`).

    Raises:
        ValueError: the text has no names, or has numbers too.
    """
    parameters: list[str] = []

    def replace(match: re.Match[str]) -> str:
        if match["number"]:
            raise ValueError(f"{match['number']} stands beside names; give every parameter a name")
        if (name := match["name"]) is None:
            return match[0]
        if name not in parameters:
            parameters.append(name)
        return f"${parameters.index(name) + 1}"

    statement = Statement(_LEXER.sub(replace, text))
    if not parameters:
        raise ValueError("the statement has no named parameters")
    statement.parameters = tuple(parameters)
    return statement
