"""Refusals of a command line where a command or the text of a script goes.

Launched as it is, it would look for a program that is not in the image, or be read as Python, at
the caller's cost. A refusal says the call that was meant. uv is a program like any other in an
image that has it, so a command of uv is refused only where no image is named; so is `docker run`.
"""

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from schema.specs.command_lines.documents import find_syntax_error
from schema.specs.command_lines.launch_form import build_hub_form, build_uv_form
from schema.specs.command_lines.words import (
    PREPARATIONS,
    SETTINGS,
    FoundCommand,
    UnmatchedQuotes,
    find_command,
    find_hub_words,
    find_uv_words,
    read_variable_names,
    read_words,
)
from schema.specs.image import DEFAULT_IMAGE, UV_IMAGE
from schema.specs.inputs import shell_syntax

_EXAMPLE: Final = (
    'call launch_job with its parts, such as {"image": "python:3.12", "command": ["python", "-c", '
    '"print(1)"], "flavor": "cpu-basic"}'
)
_CONTAINER_LINE: Final = re.compile(
    r"\s*(?:sudo\s+)?(docker|podman|nerdctl)(?:\s+container)?\s+run\s"
)
_COMMAND_START: Final = re.compile(
    r"\s*(?:(?:[A-Za-z_]\w*=\S*|nohup|exec|env)\s+)*(?:/usr/bin/|/bin/)?(?P<program>[\w.+-]+)"
    r"(?P<rest>(?:'[^']*'|\"(?:\\.|[^\"\\])*\"|[^;\n|&'\"])*)(?P<next>&&|\|(?!\|)|\Z)?",
    re.DOTALL,
)
"""The first command of a script; `next` is None if another runs whatever becomes of this."""
_NOT_A_CLUSTER: Final = (
    "and a job is not part of a cluster; give the program that it starts as command, and what its "
    "options ask for as flavor and timeout"
)
_NO_CONTAINERS: Final = (
    "and a job starts no other container; give the name of an image that is built as image, and "
    "what runs in it as command"
)
_LINUX: Final = "and runs Linux; give the program that it starts as command, without it"
_ABSENT_PROGRAMS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("sbatch", "srun", "salloc", "qsub", "bsub", "condor_submit"), _NOT_A_CLUSTER),
    **dict.fromkeys(("docker", "podman", "nerdctl", "docker-compose"), _NO_CONTAINERS),
    **dict.fromkeys(("kubectl", "helm", "oc", "minikube"), _NO_CONTAINERS),
    **dict.fromkeys(
        ("conda", "mamba", "micromamba"),
        'give an image that has it, such as image="condaforge/miniforge3", or give Python as '
        "script with its dependencies",
    ),
    **dict.fromkeys(("powershell", "pwsh", "cmd", "cmd.exe", "powershell.exe", "py"), _LINUX),
    "python.exe": _LINUX.replace("the program that it starts", "python with its arguments"),
    **dict.fromkeys(
        ("screen", "tmux"), "and a job goes on by itself; give what it starts as command"
    ),
    "sudo": "and a job is root in it; leave sudo out",
    "time": "leave it out: job_status shows how long a job runs",
}
"""Programs that are often pasted and are not in the default image, and what to do instead."""
_PROGRAMS: Final = re.compile(
    r"python[\d.]*|pip3?|bash|sh|cd|export|git|apt|apt-get|curl|wget|make|torchrun|accelerate"
)
"""Programs that a line starts with that is pasted as a script."""
_OPTION_OF_CMD: Final = re.compile(r"\s+/[ckCK]\b")
_NO_COMMAND: Final = FoundCommand([], has_followers=False)


def expect_no_job_line(command: str | Sequence[str]) -> None:
    """Refuse a command that would start another job: `hf jobs`, with its options.

    Raises:
        ValueError: with the call that does the same.
    """
    if isinstance(command, str) or (command and " " in command[0].strip()):
        lines = command if isinstance(command, str) else "\n".join(command)
        try:
            first_command = find_command(lines, PREPARATIONS) or _NO_COMMAND
        except UnmatchedQuotes:
            return  # whoever splits the line says so
    else:
        first_command = read_words(command)
    _expect_no_hub_command(first_command)


def expect_no_command_line(script: str) -> None:
    """Refuse a script that is no Python, but a line that starts one.

    Raises:
        ValueError: with the call that does the same.
    """
    try:
        first_command = find_command(script, PREPARATIONS) or _NO_COMMAND
    except UnmatchedQuotes:
        raise _refuse("hf jobs or uv", f"its quotes do not match; {_EXAMPLE}") from None
    _expect_no_hub_command(first_command)
    if (uv_words := find_uv_words(first_command.words)) is not None:
        form = build_uv_form(uv_words, read_variable_names(first_command.words))
        raise _refuse("uv", f"{form}{_describe_followers(first_command)}")
    _expect_no_program(script)


def _expect_no_program(script: str) -> None:
    """Refuse a line that starts a program where the text of a script goes, if it is no Python."""
    start = _COMMAND_START.match(script)
    if start is None or not start["rest"].strip() or find_syntax_error(script.strip()) != 1:
        return
    program = start["program"]
    if program in _ABSENT_PROGRAMS:
        advice = _ABSENT_PROGRAMS[program].removeprefix("and ")
        raise _refuse(program, advice)
    if _PROGRAMS.fullmatch(program):
        raise _refuse(program, "give it as command")


def expect_in_default_image(command: str | Sequence[str]) -> None:
    """Refuse uv, `hf jobs` and `docker run` in an image without them, also if a shell starts them.

    Args:
        command: the words of a command, or a line that is not taken apart yet.

    Raises:
        ValueError: with the call that was meant.
    """
    script = command if isinstance(command, str) else _read_script(command)
    _expect_no_container(" ".join(command[:4]) if script is None else script)
    first_command = FoundCommand(list(command), has_followers=False)
    if script is not None:
        try:
            first_command = find_command(script, SETTINGS) or _NO_COMMAND
        except UnmatchedQuotes:
            return  # whoever splits the line says so
    _expect_no_hub_command(first_command)
    is_bash = not isinstance(command, str) and command[0].endswith("bash")
    _expect_program_in_image(
        shlex.join(command) if script is None else script, ignored={"time"} if is_bash else set()
    )
    if (uv_words := find_uv_words(first_command.words)) is not None:
        needs_shell = isinstance(command, str) and shell_syntax.find_in_line(command)
        message = (
            f'{DEFAULT_IMAGE}, the image of a command that names none, has no uv; give image="'
            f'{UV_IMAGE}" with that command'
            f"{' as the last of the words sh, -c' if needs_shell else ''}, or "
            f"{build_uv_form(uv_words, read_variable_names(first_command.words))}"
            f"{_describe_followers(first_command)}"
        )
        raise ValueError(message)


def _read_script(words: Sequence[str]) -> str | None:
    """Return the script that a shell is given with -c; None for another command."""
    position = shell_syntax.script_position(words)
    return words[position] if position is not None and position < len(words) else None


def _expect_no_container(line: str) -> None:
    if (start := _CONTAINER_LINE.match(f"{line} ")) is not None:
        program = start[1]
        message = (
            f"{DEFAULT_IMAGE}, the image of a command that names none, has no {program}, and a job "
            f"starts no other container; give the image of {program} run as image, and the words "
            f"behind it as command; -e goes to env or secrets, -p to expose, -v to volumes"
        )
        raise ValueError(message)


def _expect_program_in_image(line: str, ignored: Collection[str]) -> None:
    """Refuse a program that is not there, if nothing else is run without it."""
    start = _COMMAND_START.match(line)
    if start is None or start["next"] is None or start["program"] in ignored:
        return
    program, rest = start["program"], start["rest"]
    advice = _ABSENT_PROGRAMS.get(program)
    is_other = (program == "cmd" and not _OPTION_OF_CMD.match(rest)) or rest.startswith(" --")
    if advice is not None and not is_other:
        message = (
            f"{DEFAULT_IMAGE}, the image of a command that names none, has no {program}"
            f"{', ' if advice.startswith('and') else '; '}{advice}"
        )
        raise ValueError(message)


def _expect_no_hub_command(first_command: FoundCommand) -> None:
    if (hub_words := find_hub_words(first_command.words)) is not None:
        raise _refuse("hf jobs", f"{build_hub_form(hub_words)}{_describe_followers(first_command)}")


def _describe_followers(first_command: FoundCommand) -> str:
    return "; the commands behind it are left out" if first_command.has_followers else ""


def _refuse(program: str, advice: str) -> ValueError:
    return ValueError(f"that is a command line of {program} for a terminal; {advice}")
