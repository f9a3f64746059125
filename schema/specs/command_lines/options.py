"""Options of `hf jobs run`, `hf jobs uv run` and `uv run`, read from the words of a command."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from schema.specs.command_lines.secret_values import is_secret_option

_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]*(?:=.*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class OptionTable:
    """Options by their spelling; the name of an option is its long spelling without dashes."""

    valued: Mapping[str, str]
    """Options that take the next word."""
    flags: Mapping[str, str]
    stops_at_argument: bool
    """Whether the words behind the first argument belong to what is started."""


@dataclass(frozen=True, slots=True)
class ParsedOptions:
    """Options of a command, and its arguments."""

    values: dict[str, list[str]] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """Without their values, which may be secret."""

    def last_value(self, name: str) -> str | None:
        """Return the value that counts; None without the option."""
        values = self.values.get(name, [])
        return values[-1] if values else None


def _spell(valued: str, flags: str, *, stops_at_argument: bool) -> OptionTable:
    return OptionTable(_read_spellings(valued), _read_spellings(flags), stops_at_argument)


def _read_spellings(table: str) -> dict[str, str]:
    """Read entries such as `name/-n`."""
    spellings: dict[str, str] = {}
    for entry in table.split():
        name, *others = entry.split("/")
        spellings |= dict.fromkeys([f"--{name}", *others], name)
    return spellings


HUB_OPTIONS: Final = _spell(
    "env/-e/--envs secrets/-s/--secret label/-l/--labels volume/-v/--volumes python/-p with image "
    "flavor/--hardware name env-file secrets-file "
    "timeout attempts expose expose-public network-group network-alias resource-group-id namespace "
    "token format",
    "detach/-d dry-run ssh json quiet/-q suspend no-suspend concurrency no-concurrency",
    stops_at_argument=False,
)
"""As `hf` 1.x has them, which reads them behind the image and the script too.

Spellings that are often written by mistake are here too: a secret may stand behind them.
"""
UV_OPTIONS: Final = _spell(
    "with/-w python/-p env-file extra group no-group only-group no-extra package index "
    "index-url/-i default-index extra-index-url find-links/-f directory project "
    "with-editable with-requirements "
    "upgrade-package/-P reinstall-package refresh-package no-binary-package no-build-package "
    "index-strategy keyring-provider resolution prerelease fork-strategy exclude-newer link-mode "
    "config-setting/-C cache-dir python-preference color allow-insecure-host config-file "
    "torch-backend python-platform",
    "script/-s quiet/-q verbose/-v no-project isolated no-cache/-n no-config no-progress "
    "native-tls offline refresh upgrade/-U reinstall no-sync frozen locked exact active "
    "managed-python no-managed-python no-python-downloads no-env-file module/-m gui-script "
    "all-extras dev no-dev only-dev all-groups no-default-groups",
    stops_at_argument=True,
)
UV_NEUTRAL_OPTIONS: Final = frozenset(
    {"with", "python", "script", "quiet", "verbose", "no-project", "isolated", "no-cache"}
    | {"no-config", "no-progress", "color"}
)
"""Options without which a script runs alike, and those that are arguments of launch_job."""


def read_options(words: Sequence[str], table: OptionTable) -> ParsedOptions:
    """Read the options among the words behind a program."""
    parsed = ParsedOptions()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            parsed.arguments.extend(rest)
            break
        if not word.startswith("-") or word == "-":
            parsed.arguments.append(word)
            if table.stops_at_argument:
                parsed.arguments.extend(rest)
                break
            continue
        _, value = _split_option(word)
        following = rest[0] if value is None and rest else value or ""
        if _read_option(parsed, table, word, following) and value is None and rest:
            rest.pop(0)
    return parsed


def _read_option(parsed: ParsedOptions, table: OptionTable, word: str, value: str) -> bool:
    """Add an option, or a word of what is started; say whether the option takes the value."""
    name, _ = _split_option(word)
    if parsed.arguments and not word.startswith("--") and not _is_ours(name, value):
        parsed.arguments.append(word)
    elif name in table.valued:
        parsed.values.setdefault(table.valued[name], []).append(value)
        return True
    elif name in table.flags:
        parsed.values.setdefault(table.flags[name], [])
    elif parsed.arguments:
        parsed.arguments.append(word)
    else:
        parsed.unknown.append(name)
        return _is_value(name, value)
    return False


def _is_value(option: str, word: str) -> bool:
    """Tell the value of an unknown option from an image or a script."""
    return not word.startswith("-") and ("=" in word or is_secret_option(option))


def _split_option(word: str) -> tuple[str, str | None]:
    """Split `--name=value`, and the `-nvalue` of a short option."""
    if not word.startswith("--"):
        return word[:2], word[2:].removeprefix("=") or None
    name, equals, value = word.partition("=")
    return name, value if equals else None


def _is_ours(name: str, value: str) -> bool:
    """Tell a short option behind the image from one of the program that is started."""
    if name == "-v":
        return value.lower().startswith("hf://")
    return name in {"-e", "-s"} and _VARIABLE.fullmatch(value) is not None
