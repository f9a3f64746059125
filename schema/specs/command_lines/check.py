"""Refusals of a command line where a command or the text of a script goes.

Launched as it is, it would look for a program that is not in the image, or be read as Python, at
the caller's cost. A refusal says the call that was meant. uv is a program like any other in an
image that has it, so a command of uv is refused only where no image is named.
"""

from collections.abc import Sequence
from typing import Final

from schema.specs.command_lines.launch_form import build_hub_form, build_uv_form
from schema.specs.command_lines.words import (
    PREPARATIONS,
    SETTINGS,
    UnmatchedQuotes,
    cut_at_shell_words,
    find_command,
    find_hub_words,
    find_uv_words,
    read_variable_names,
)
from schema.specs.image import DEFAULT_IMAGE, UV_IMAGE
from schema.specs.inputs import shell_syntax

_EXAMPLE: Final = (
    'call launch_job with its parts, such as {"image": "python:3.12", "command": ["python", "-c", '
    '"print(1)"], "flavor": "cpu-basic"}'
)


def expect_no_job_line(command: str | Sequence[str]) -> None:
    """Refuse a command that would start another job: `hf jobs`, with its options.

    Raises:
        ValueError: with the call that does the same.
    """
    if isinstance(command, str) or (command and " " in command[0].strip()):
        lines = command if isinstance(command, str) else "\n".join(command)
        try:
            words = find_command(lines, PREPARATIONS) or []
        except UnmatchedQuotes:
            return  # whoever splits the line says so
    else:
        words = cut_at_shell_words(command)
    if (hub_words := find_hub_words(words)) is not None:
        raise _refuse("hf jobs", str(build_hub_form(hub_words)))


def expect_no_command_line(script: str) -> None:
    """Refuse a script that is no Python, but a line that starts one.

    Raises:
        ValueError: with the call that does the same.
    """
    try:
        words = find_command(script, PREPARATIONS) or []
    except UnmatchedQuotes:
        raise _refuse("hf jobs or uv", f"its quotes do not match; {_EXAMPLE}") from None
    if (hub_words := find_hub_words(words)) is not None:
        raise _refuse("hf jobs", str(build_hub_form(hub_words)))
    if (uv_words := find_uv_words(words)) is not None:
        raise _refuse("uv", str(build_uv_form(uv_words, read_variable_names(words))))


def expect_in_default_image(command: Sequence[str]) -> None:
    """Refuse uv and `hf jobs` in an image that has neither, also if a shell starts them.

    Raises:
        ValueError: with the call that was meant.
    """
    position = shell_syntax.script_position(command)
    words = list(command)
    if position is not None and position < len(command):
        try:
            words = find_command(command[position], SETTINGS) or []
        except UnmatchedQuotes:
            return  # the shell says so
    if (hub_words := find_hub_words(words)) is not None:
        raise _refuse("hf jobs", str(build_hub_form(hub_words)))
    if (uv_words := find_uv_words(words)) is not None:
        message = (
            f'{DEFAULT_IMAGE}, the image of a command that names none, has no uv; give image="'
            f'{UV_IMAGE}" with that command, or '
            f"{build_uv_form(uv_words, read_variable_names(words))}"
        )
        raise ValueError(message)


def _refuse(program: str, advice: str) -> ValueError:
    return ValueError(f"that is a command line of {program} for a terminal; {advice}")
