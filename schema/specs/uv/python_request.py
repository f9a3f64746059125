"""Requests for a Python, in every form that uv documents: a version, an implementation, a path.

uv reads a request as the value of `--python`, as one word with it, so that no value can be an
option. A path is one in the container.
"""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from schema.common.text import quote_value

_VERSION: Final = r"\d[\w.+]*"
_SPECIFIER: Final = r"(?:[<>]=?|[=!~]=|===)\s*[\w.*+]+"
_SPECIFIERS: Final = rf"{_SPECIFIER}(?:\s*,\s*{_SPECIFIER})*"
_NAME: Final = r"[A-Za-z][\w+]*(?:[.-][\w+]+)*"
_REQUEST: Final = re.compile(
    rf"{_VERSION}|{_SPECIFIERS}|{_NAME}(?:@(?:{_VERSION}|{_SPECIFIERS})|{_SPECIFIERS})?",
    re.ASCII,
)
"""`3.12`, `>=3.11,<3.13`, `pypy`, `pypy@3.10`, `cpython>=3.12`, `cpython-3.12.3-linux-x86_64-gnu`.
"""
_PATH: Final = re.compile(r"(?:\.{0,2}/)?[\w.+@][\w.+@ -]*(?:/[\w.+@ -]+)*/?", re.ASCII)
_LANGUAGE: Final = re.compile(r"python\s+(?=\d)", re.IGNORECASE)


def _check_request(text: str) -> str:
    request = _LANGUAGE.sub("", text.strip(), count=1)
    is_path = "/" in request and _PATH.fullmatch(request)
    if not (is_path or _REQUEST.fullmatch(request)):
        message = (
            f'{quote_value(text)} is not a version of Python; write one such as "3.12", ">=3.11" or'
            f' "pypy@3.10", or its path in the image, such as "/usr/bin/python3"'
        )
        raise ValueError(message)
    return request


PythonRequest = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_check_request)]
