"""Refusals of JSON, YAML and Python in the place of a command.

Most have line breaks or brackets, and the advice for those is to give them to a shell: the job
would start, and fail at the caller's cost.
"""

import json
import re
from contextlib import suppress
from typing import Final

_YAML_LINE: Final = re.compile(r"(?:---\s*\n\s*)?(?:- +)?[\w.-]+:(?:\s|$)")
"""A key with its colon: no program is called so."""
_PYTHON_LINE: Final = re.compile(r"(?:from [\w.]+ import |import [\w., ]+(?:\n|;))")
"""`import` alone may be the program that takes pictures of a screen."""
_ARGUMENTS: Final = "give each of its fields as the argument of this call that it belongs to"


def expect_no_document(text: str) -> None:
    """Refuse a text that no shell runs.

    Raises:
        ValueError: with where its content goes; nothing of it is repeated, for it may hold secrets.
    """
    start = text.lstrip()
    if start.startswith("{") and _is_json(start):
        message = f"that is a JSON object, and no command; {_ARGUMENTS}"
    elif _YAML_LINE.match(start):
        message = f"that is YAML, and no command; {_ARGUMENTS}"
    elif _PYTHON_LINE.match(start):
        message = "that is Python, and no command; give it as script"
    else:
        return
    raise ValueError(message)


def _is_json(text: str) -> bool:
    with suppress(ValueError, RecursionError):
        json.loads(text)
        return True
    return False
