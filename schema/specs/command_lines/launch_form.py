"""Arguments of launch_job for a command line of `hf jobs` or uv.

Values that may be secret are not repeated: `…` stands for them, and a note says what goes there.
"""

import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, cast

from schema.common.text import truncate
from schema.specs.command_lines.options import (
    HUB_OPTIONS,
    UV_NEUTRAL_OPTIONS,
    UV_OPTIONS,
    ParsedOptions,
    read_options,
)
from schema.specs.command_lines.secret_values import (
    HIDDEN,
    hide_tokens,
    is_secret_name,
    is_secret_option,
)
from schema.specs.image import UV_IMAGE
from schema.specs.inputs import shell_syntax

_MAX_FORM_CHARS: Final = 8_000
_MAX_LONG_WORD_CHARS: Final = 500
_MAX_ITEMS: Final = 20
"""How many words or variables a form shows if it is too long."""
_MAX_NOTE_CHARS: Final = 500
_MIN_SECRET_CHARS: Final = 4
"""A shorter value of a secret is also a part of other words."""
_NOT_SECRET: Final = re.compile(r"\$|\Z")
_SCRIPT_FILE: Final = re.compile(r".*\.pyw?", re.DOTALL)
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_PYTHON: Final = re.compile(r"python[\d.]*")
_TOOLS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("ps", "ls", "list"), "list_jobs"),
    **dict.fromkeys(("inspect", "stats", "ssh"), "job_status"),
    "logs": "job_logs",
    "cancel": "cancel_job",
    "wait": "wait_for_jobs",
    "hardware": "list_hardware",
    "rerun": "retry_job",
}
"""The tool that does what another command of `hf jobs` does."""
_SCHEDULE_TOOLS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("ps", "ls", "list", "inspect"), "list_schedules"),
    **dict.fromkeys(("suspend", "resume"), "update_schedule"),
    "delete": "delete_schedule",
}
_TOKEN_NAME: Final = "HF_TOKEN"  # noqa: S105  # the name of a variable
_OWN_TOKEN: Final = f' ("${_TOKEN_NAME}" stands for your own token)'
_NOT_OFFERED: Final = ("network-group", "network-alias", "expose-public")


@dataclass(frozen=True, slots=True)
class LaunchForm:
    """A call that does what a command line does."""

    tool: str = "launch_job"
    arguments: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What the arguments do not say."""

    def __str__(self) -> str:
        """Write the call, and what to know about it."""
        if not self.arguments:
            return f"call {self.tool}"
        notes = [truncate(note, _MAX_NOTE_CHARS) for note in self.notes]
        form = json.dumps(self.arguments, ensure_ascii=False)
        if len(form) > _MAX_FORM_CHARS:
            form = json.dumps(_shorten(self.arguments), ensure_ascii=False)
            notes.append(f'each other "{HIDDEN}" is something long of yours, to be given whole')
        return "; ".join([f"call {self.tool} with {form}", *notes])


def build_hub_form(words: Sequence[str]) -> LaunchForm:
    """Return the call for the words behind `hf jobs`."""
    group = list(words[:2])
    if words[:1] == ["scheduled"]:
        if words[1:2] == ["run"]:
            return _build_run_form(words[2:], schedules=True, runs_uv=False)
        if words[1:3] == ["uv", "run"]:
            return _build_run_form(words[3:], schedules=True, runs_uv=True)
        return LaunchForm(_SCHEDULE_TOOLS.get("".join(words[1:2]), "create_schedule"))
    if group == ["uv", "run"]:
        return _build_run_form(words[2:], schedules=False, runs_uv=True)
    if words[:1] == ["run"]:
        return _build_run_form(words[1:], schedules=False, runs_uv=False)
    return LaunchForm(_TOOLS.get("".join(words[:1]), "launch_job"))


def build_uv_form(words: Sequence[str], variables: Iterable[str] = ()) -> LaunchForm:
    """Return the call for a command whose first word is `uv` or `uvx`.

    Args:
        words: the command.
        variables: names of variables that are set for it.
    """
    words = _hide_secret_words(words)
    options = read_options(words[2:], UV_OPTIONS) if words[:2] == ["uv", "run"] else ParsedOptions()
    script, notes = _build_script_arguments(options)
    if script is None:
        arguments: dict[str, Any] = {"image": UV_IMAGE, "command": words}
    elif options.values.keys() <= UV_NEUTRAL_OPTIONS and not options.unknown:
        arguments = script
    else:
        arguments = {"image": UV_IMAGE, "command": words}
        notes = ["files of yours are not in an image: mount them with volumes"]
    if env := dict.fromkeys(variables, HIDDEN):
        arguments = {**arguments, "env": env}
    return LaunchForm(arguments=arguments, notes=[*notes, *_describe_hidden(arguments)])


def _build_run_form(words: Sequence[str], *, schedules: bool, runs_uv: bool) -> LaunchForm:
    options = read_options(words, HUB_OPTIONS)
    secret_values = _read_secret_values(options)
    cron = options.arguments.pop(0) if schedules and options.arguments else None
    notes: list[str] = []
    arguments: dict[str, Any] = {}
    if not runs_uv:
        first, *command = options.arguments or [HIDDEN]
        arguments = {"image": first, "command": _read_command(command)}
    else:
        script, notes = _build_script_arguments(options)
        image = options.last_value("image")
        if script is None:
            packages = [f"--with={name}" for name in _read_packages(options)]
            arguments = {"image": image or UV_IMAGE}
            arguments["command"] = ["uv", "run", *packages, *options.arguments]
        else:
            arguments = {**script, **({"image": image} if image else {})}
    arguments |= _read_settings(options)
    volumes = options.values.get("volume", [])
    if hub_volumes := [volume for volume in volumes if volume.lower().startswith("hf://")]:
        arguments["volumes"] = hub_volumes
    if len(hub_volumes) < len(volumes):
        notes.append("folders of yours cannot be read here: put them into a bucket for volumes")
    notes += _describe_left_out(options)

    def hide(text: str) -> str:
        for value in secret_values:
            text = text.replace(value, HIDDEN)
        return hide_tokens(text)

    arguments = _map_texts(arguments, hide)
    if "command" in arguments:
        arguments["command"] = _hide_secret_words(arguments["command"])
    if "script_args" in arguments:
        arguments["script_args"] = _hide_secret_words(arguments["script_args"])
    notes += _describe_hidden(arguments)
    if not schedules:
        return LaunchForm(arguments=arguments, notes=notes)
    return LaunchForm("create_schedule", {"cron": cron or HIDDEN, "job": arguments}, notes)


def _build_script_arguments(options: ParsedOptions) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the arguments of a script and notes; None if no script is started."""
    words = list(options.arguments)
    if "module" in options.values or not words:
        return None, []
    if _PYTHON.fullmatch(words[0]) and len(words) > 1:
        words = words[1:]
        while words[:1] == ["-u"]:
            words = words[1:]
    notes: list[str] = []
    if words[:1] == ["-c"] and len(words) > 1:
        script, *rest = words[1:]
    elif words and _URL.fullmatch(words[0]):
        script, *rest = words
    elif words and (words[0] == "-" or _SCRIPT_FILE.fullmatch(words[0])):
        name, *rest = words
        source = "what uv reads from its input" if name == "-" else name
        script = HIDDEN
        notes = [f"script is the text of {source}, whole, or its https URL"]
    else:
        return None, []
    arguments: dict[str, Any] = {"script": script}
    if rest:
        arguments["script_args"] = rest
    if packages := _read_packages(options):
        arguments["dependencies"] = packages
    if python := options.last_value("python"):
        arguments["python"] = python
    return arguments, notes


def _read_packages(options: ParsedOptions) -> list[str]:
    return [
        name.strip()
        for value in options.values.get("with", [])
        for name in re.split(r",(?![^\[]*\])(?!\s*[<>=!~])", value)
        if name.strip()
    ]


def _read_command(words: list[str]) -> list[str]:
    """Return words that are taken as a command, with a shell where only that understands them."""
    if len(words) == 1 and " " in words[0]:
        with suppress(ValueError):
            words = shlex.split(words[0])
    if not words:
        return [HIDDEN]
    if (shell_words := shell_syntax.find_in_list(words)) is not None:
        return ["sh", "-c", shell_syntax.join_words(words, shell_words[1])]
    return words


def _read_settings(options: ParsedOptions) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name in ("flavor", "timeout", "name", "namespace", "attempts", "resource-group-id"):
        if (value := options.last_value(name)) is not None:
            settings[name.replace("-", "_")] = int(value) if value.isdecimal() else value
    for name in ("name", "namespace"):
        if name in settings:
            settings[name] = str(settings[name])
    env, secrets = _read_variables(options)
    labels = {
        name: value
        for name, _, value in (text.partition("=") for text in options.values.get("label", []))
    }
    ports = [int(port) for port in options.values.get("expose", []) if port.isdecimal()]
    settings |= {
        name: value
        for name, value in (
            ("env", env),
            ("secrets", secrets),
            ("labels", labels),
            ("expose", ports),
            ("ssh", "ssh" in options.values),
            ("dry_run", "dry-run" in options.values),
        )
        if value
    }
    return settings


def _read_variables(options: ParsedOptions) -> tuple[dict[str, str], dict[str, str]]:
    """Return env, and secrets without their values; what looks like a secret is one."""
    secrets = {text.partition("=")[0]: HIDDEN for text in options.values.get("secrets", [])}
    env: dict[str, str] = {}
    for name, equals, value in (text.partition("=") for text in options.values.get("env", [])):
        if is_secret_name(name) or hide_tokens(value) != value:
            secrets[name] = HIDDEN
        else:
            env[name] = value if equals and not value.startswith("$") else HIDDEN
    return env, secrets


def _read_secret_values(options: ParsedOptions) -> list[str]:
    values = [text.partition("=")[2] for text in options.values.get("secrets", [])]
    values += [
        value
        for name, _, value in (text.partition("=") for text in options.values.get("env", []))
        if is_secret_name(name)
    ]
    values += options.values.get("token", [])
    telling = [
        value for value in values if len(value) >= _MIN_SECRET_CHARS and not value.startswith("$")
    ]
    return sorted(telling, key=len, reverse=True)


def _describe_left_out(options: ParsedOptions) -> list[str]:
    notes: list[str] = []
    if files := [name for name in ("env-file", "secrets-file") if name in options.values]:
        notes.append(
            f"give what stands in the file of --{files[0]} in "
            f"{'env' if files == ['env-file'] else 'secrets'}"
        )
    if "token" in options.values:
        notes.append("leave out --token: a call is made with your own")
    missing = [f"--{name}" for name in _NOT_OFFERED if name in options.values]
    if missing := [*missing, *options.unknown]:
        notes.append(f"there is nothing for {', '.join(dict.fromkeys(missing))}")
    return notes


def _describe_hidden(arguments: Mapping[str, Any]) -> list[str]:
    notes: list[str] = []
    if names := list(arguments.get("secrets", {})):
        notes.append(
            f'in secrets, give the value of {", ".join(names)} in place of "{HIDDEN}"'
            f"{_OWN_TOKEN if _TOKEN_NAME in names else ''}"
        )
    if names := [name for name, value in arguments.get("env", {}).items() if HIDDEN in value]:
        notes.append(f'in env, give the value of {", ".join(names)} in place of "{HIDDEN}"')
    words = [*arguments.get("command", []), *arguments.get("script_args", [])]
    if words == [HIDDEN]:
        notes.append("command is what runs in it")
    elif any(HIDDEN in word for word in words):
        notes.append(
            f'a secret is no word of a command: instead of "{HIDDEN}" there, give it in secrets '
            f"and let the program read the variable"
        )
    return notes


def _hide_secret_words(words: Iterable[str]) -> list[str]:
    """Hide tokens, and the values of options and variables whose name is one of a secret."""
    hidden: list[str] = []
    before = ""
    for word in words:
        name, equals, value = word.partition("=")
        is_secret = is_secret_option(name) if name.startswith("-") else is_secret_name(name)
        if equals and is_secret and not _NOT_SECRET.match(value):
            hidden.append(f"{name}={HIDDEN}")
        elif is_secret_option(before) and not word.startswith(("-", "$")):
            hidden.append(HIDDEN)
        else:
            hidden.append(hide_tokens(word))
        before = word
    return hidden


def _shorten(value: Any) -> Any:
    """Hide what is long in arguments: a text, or everything in a list or an object of many."""
    if isinstance(value, str):
        return value if len(value) <= _MAX_LONG_WORD_CHARS else HIDDEN
    if isinstance(value, list):
        items = cast("list[object]", value)
        return [_shorten(inside) for inside in items] if len(items) <= _MAX_ITEMS else [HIDDEN]
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        if len(fields) > _MAX_ITEMS:
            return {HIDDEN: HIDDEN}
        return {_shorten(name): _shorten(inside) for name, inside in fields.items()}
    return value


def _map_texts(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {name: _map_texts(inside, change) for name, inside in fields.items()}
    if isinstance(value, list):
        items = cast("list[object]", value)
        return [_map_texts(inside, change) for inside in items]
    return value
