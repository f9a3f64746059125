"""Hiding of what may be a secret in text that a message repeats.

A refusal is kept in transcripts and logs. So it repeats no token, no password of a URL, no value of
an option or a variable whose name is one of a secret, and no value that a line hands over with
`-e`, `--env` or `--secret`. The text may be a line for a terminal, or such a line in JSON.
"""

import re
from typing import Final

from schema.specs.inputs.hub_tokens import TOKEN_PATTERN

HIDDEN: Final = "…"
_SECRET_NAME: Final = re.compile(
    r"(?:.*[_-])?(?:token|secret|pass(?:word|wd|phrase)?|pwd|credentials?|key|apikey)",
    re.IGNORECASE,
)
_SECRET_OPTION: Final = re.compile(
    r"--(?:(?:hf|hub|api|auth|access|secret|github|gh|wandb|openai)[-_]?)*"
    r"(?:token|secret|password|passwd|passphrase|key|credentials)",
    re.IGNORECASE,
)
"""No option such as `--pad-token`."""
_TELLING_NAME: Final = re.compile(
    r"(?:.*[_-])?(?:token|secret|pass(?:word|wd|phrase)|api_?key)", re.IGNORECASE
)
"""Of a secret also where it is the name of an argument in Python; `key` is often a function."""
_LITERAL: Final = re.compile(r"(?=.*\d)[\w+/=~-]{6,}")
_PASSWORD_IN_URL: Final = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_ESCAPE: Final = r"(?:[bfnrt]|u[0-9a-f]{4})"
"""What a line in JSON has behind a backslash where the line itself has a line break, or a blank."""
_START: Final = r"(?:(?<![\w-])|(?<=\\[bfnrt])|(?<=\\u[0-9a-f]{4}))"
"""Of a word, also in JSON."""
_GAP: Final = r"(?:\\*[\"']|[\s,=])"
"""Between an option and its value, in a line or in a list."""
_VALUE: Final = (
    r"(?P<quote>\\*[\"'])?(?![$…-])"
    r"(?P<value>(?(quote)(?=(?:(?!(?P=quote))\W)*+\w)(?:(?!(?P=quote)).){1,4000}"
    r"|(?!,)(?:[^\s\"'\\]|\\\\|\\(?![ntr\"']))+))"
)
"""A value, unless it is a variable, or another option."""
_HANDED_OVER: Final = re.compile(
    rf"{_START}(?:-[es](?={_GAP}|[A-Z_])|--(?:envs?|secrets?)(?={_GAP})){_GAP}{{0,8}}"
    rf"[A-Za-z_]\w*+={_VALUE}",
    re.DOTALL,
)
_ASSIGNED: Final = re.compile(
    rf"(?<![\w$-])(?P<escape>(?<=\\){_ESCAPE})?(?P<name>[A-Za-z_][\w-]*+)"
    rf"(?:=|\\*[\"']{_GAP}{{0,4}}:{_GAP}{{0,8}}?){_VALUE}",
    re.DOTALL,
)
_OPTION: Final = re.compile(rf"{_START}(?P<name>--[A-Za-z][\w-]*+){_GAP}{{1,8}}{_VALUE}", re.DOTALL)
_HEADER: Final = re.compile(
    rf"(?:{_START}(?:x-)?(?:authorization|(?:api|access|auth)[-_]?(?:key|token))\s?:"
    rf"(?:{_GAP}{{0,8}}(?:bearer|basic|token){_GAP}{{1,8}}|{_GAP}{{0,8}}?)"
    rf"|(?:\b|{_START})(?:bearer|login){_GAP}{{1,8}}(?=\S{{16}})){_VALUE}",
    re.IGNORECASE | re.DOTALL,
)
"""A header, also where a line was split into words, so that its value is a word of its own."""
_KNOWN_TOKEN: Final = re.compile(
    _START + r"(?:sk-[\w-]{20,}|gh[pousr]_\w{30,}|github_pat_\w{30,}|xox[abp]-[\w-]{20,}"
    r"|AKIA[A-Z0-9]{16})",
    re.ASCII,
)
"""Tokens of other services by their beginnings."""


def is_secret_name(name: str) -> bool:
    """Say whether a variable holds a secret, by its name."""
    return _SECRET_NAME.fullmatch(name) is not None


def is_secret_option(word: str) -> bool:
    """Say whether the value of an option is a secret, by its name."""
    return _SECRET_OPTION.fullmatch(word) is not None


def hide_tokens(text: str) -> str:
    """Hide tokens, and passwords in URLs."""
    text = TOKEN_PATTERN.sub(HIDDEN, _PASSWORD_IN_URL.sub(HIDDEN, text))
    return _KNOWN_TOKEN.sub(HIDDEN, text)


def hide_secrets(text: str) -> str:
    """Hide whatever may be a secret in a line, or in the JSON of one."""
    text = _HANDED_OVER.sub(_hide_value, text)
    text = _ASSIGNED.sub(_hide_if_secret, text)
    text = _OPTION.sub(_hide_if_option, text)
    return hide_tokens(_HEADER.sub(_hide_value, text))


def _hide_value(match: re.Match[str]) -> str:
    start, end = match.span("value")
    whole = match.string
    return f"{whole[match.start() : start]}{HIDDEN}{whole[end : match.end()]}"


def _hide_if_secret(match: re.Match[str]) -> str:
    # A letter behind a backslash is the end of a line in JSON, or the first of a name elsewhere.
    names = [match["name"], (match["escape"] or "") + match["name"]]
    is_secret = any(_holds_secret(name, match) for name in names)
    return _hide_value(match) if is_secret else match[0]


def _holds_secret(name: str, match: re.Match[str]) -> bool:
    return is_secret_name(name) and (
        not any(map(str.islower, name))
        or (
            _TELLING_NAME.fullmatch(name) is not None
            and bool(match["quote"] or _LITERAL.fullmatch(match["value"]))
        )
    )


def _hide_if_option(match: re.Match[str]) -> str:
    return _hide_value(match) if is_secret_option(match["name"]) else match[0]
