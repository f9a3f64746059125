"""Refusals of JSON, YAML, Python and other documents in the place of a command.

Most have line breaks or brackets, and the advice for those is to give them to a shell: the job
would start, and fail at the caller's cost.
"""

import ast
import json
import re
import warnings
from contextlib import suppress
from typing import Final

_YAML_LINE: Final = re.compile(r"(?:---\s*\n\s*)?(?:- +)?[\w.-]+:(?:\s|$)")
"""A key with its colon: no program is called so."""
_PYTHON_LINE: Final = re.compile(r"(?:from [\w.]+ import |import [\w., ]+(?:\n|;))")
"""`import` alone may be the program that takes pictures of a screen."""
_PYTHON_SHEBANG: Final = re.compile(r"#!.*\bpython[\d.]*\s*(?:\n|\Z)")
_COMMENTS: Final = re.compile(r"(?:#(?!!)[^\n]*\s*)++")
_PYTHON_NODES: Final = (ast.Call, ast.FunctionDef, ast.ClassDef, ast.ImportFrom)
"""What is read as Python and has one of these is an error to a shell."""
_MAX_PYTHON_CHARS: Final = 50_000
"""The longest text that is read as Python to tell what it is; it takes a tenth of a second."""
_HERE_DOCUMENT: Final = re.compile(r"<<-?\s*['\"]?\w+['\"]?\s*\n")
"""Input of a program of a shell, which may be Python."""
_CRONTAB_LINE: Final = re.compile(
    r"(?:@(?:hourly|daily|midnight|weekly|monthly|yearly|annually|reboot)"
    r"|(?:[\d*][\d*/,-]*\s+){3}[\dA-Za-z*][\w*/,-]*\s+[\dA-Za-z*][\w*/,-]*)\s+\S"
)
_DOCKERFILE_LINE: Final = re.compile(r"(?:FROM|RUN|CMD|ENTRYPOINT|COPY|WORKDIR|ARG)\s+\S")
_POWERSHELL_VARIABLE: Final = re.compile(r"\$env:\w+", re.IGNORECASE)
_WINDOWS_PATH: Final = re.compile(
    r"(?:\A|[\s=])[\"']?(?:[A-Za-z]:\\+[\w .-]+(?:\\|\.\w)"
    r"|\.{1,2}\\[\w\\-]+\.(?:py|exe|bat|ps1|sh|ipynb)\b)"
)
_CLUSTER_LINE: Final = re.compile(r"^#(?:SBATCH|PBS|BSUB)\s", re.MULTILINE)
_ARGUMENTS: Final = "give each of its fields as the argument of this call that it belongs to"
_PYTHON: Final = "that is Python, and no command; give it as script"


def expect_no_document(text: str) -> None:
    """Refuse a text that no shell runs, or not as it is meant.

    Raises:
        ValueError: with where its content goes; nothing of it is repeated, for it may hold secrets.
    """
    start = text.lstrip()
    if start.startswith("{") and _is_json(start):
        message = f"that is a JSON object, and no command; {_ARGUMENTS}"
    elif _YAML_LINE.match(start):
        message = f"that is YAML, and no command; {_ARGUMENTS}"
    elif _PYTHON_LINE.match(start) or _PYTHON_SHEBANG.match(start):
        message = _PYTHON
    elif _COMMENTS.fullmatch(start):
        message = "all of it is a comment, and runs nothing; give the command without #"
    elif _CRONTAB_LINE.match(start):
        message = (
            "that is a line of a crontab; call create_schedule with its times as cron, and with "
            "the command behind them in job"
        )
    elif _DOCKERFILE_LINE.match(start):
        message = (
            "that is of a Dockerfile, and a job builds no image; give what FROM says as image and "
            "what RUN and CMD say as command, or the name of an image that is built"
        )
    elif _CLUSTER_LINE.search(start):
        message = (
            "that is a script for a cluster, and a job is not part of one; give the program that it"
            " starts as command, and what #SBATCH asks for as flavor and timeout"
        )
    elif _POWERSHELL_VARIABLE.search(start):
        message = (
            "that is PowerShell, and a job runs Linux; give variables as env or secrets, and the "
            "program with its options as command"
        )
    elif _is_python(text):
        message = _PYTHON
    else:
        return
    raise ValueError(message)


def expect_no_windows_path(text: str) -> None:
    """Refuse the name of a file as only Windows has it.

    Raises:
        ValueError: with where a file goes.
    """
    if _WINDOWS_PATH.search(text) is not None:
        message = (
            "that has a path of Windows, and a job runs Linux without files of yours; give the "
            "text of a Python file as script, and put other files into a bucket for volumes"
        )
        raise ValueError(message)


def find_syntax_error(script: str) -> int | None:
    """Return the line at which a text is no Python of our own version; None if it is Python."""
    if len(script) > _MAX_PYTHON_CHARS:
        return None
    with warnings.catch_warnings(), suppress(ValueError, RecursionError, MemoryError):
        warnings.simplefilter("ignore")
        try:
            ast.parse(script)
        except SyntaxError as error:
            return error.lineno
    return None


def _is_json(text: str) -> bool:
    with suppress(ValueError, RecursionError):
        json.loads(text)
        return True
    return False


def _is_python(text: str) -> bool:
    if len(text) > _MAX_PYTHON_CHARS or _HERE_DOCUMENT.search(text):
        return False
    with warnings.catch_warnings(), suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        warnings.simplefilter("ignore")
        return any(isinstance(node, _PYTHON_NODES) for node in ast.walk(ast.parse(text.strip())))
    return False
