"""How does a Python script get into a container that has nothing but an image and a command?

One at a URL is fetched by uv, in the job. A text travels in environment variables of ours, packed,
and in pieces, for the kernel lets no variable be longer than 128 KiB; a line of shell unpacks it,
takes the variables away and becomes uv. Neither is ever opened, or fetched, by us.
"""

import gzip
import re
import shlex
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, cast
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from schema.common.text import quote_value

UV_IMAGE: Final = "ghcr.io/astral-sh/uv:python3.12-bookworm"
"""What a script runs in, unless its launch says otherwise."""
MAX_ENV_BYTES: Final = 900_000
"""What all variables of a job may come to; the Hub takes about a megabyte."""
_VARIABLE_PREFIX: Final = "HOLDFAST_SCRIPT_"
_MAX_PIECE_CHARS: Final = 120_000
_BASE64_GROWTH: Final = 4 / 3
"""What packing makes of a byte at worst, little more and mostly far less."""
_URL_PATTERN: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://\S+")
_FILE_NAME: Final = re.compile(r"[^\s()\"'=,;]+\.pyw?(?: --?\w.*)?")
_BLOB_PAGE_URL: Final = re.compile(
    r"https://(?:github\.com|huggingface\.co|hf\.co)/(?:[^?#]+)/blob/"
)
_REQUIREMENT: Final = re.compile(r"[A-Za-z0-9][^\x00-\x1f]*")
_PYTHON_VERSION: Final = re.compile(r"[A-Za-z0-9<>=~!][\w.+<>=~!*, -]*")


@dataclass(frozen=True, slots=True)
class Script:
    """A script, and what uv is told about it."""

    text: str
    """Its source, or its URL."""
    arguments: Sequence[str] = ()
    dependencies: Sequence[str] = ()
    python: str | None = None

    @property
    def url(self) -> str | None:
        """Where uv fetches it from, if it is not here."""
        return self.text if _URL_PATTERN.fullmatch(self.text) else None

    @property
    def title(self) -> str:
        """How it is called; of a text nothing, for titles are listed and counted by."""
        return shlex.join([*self._uv_command(), self.url or "script.py", *self.arguments])

    def build_command(self) -> list[str]:
        """Return what runs it."""
        if self.url is not None:
            return [*self._uv_command(), self.url, *self.arguments]
        names = list(self.build_environment())
        packed = " ".join(f'"${name}"' for name in names)
        unpack = (
            "set -e; folder=$(mktemp -d); "
            f'printf %s {packed} | base64 -d | gzip -d > "$folder/script.py"; '
            f"unset {' '.join(names)}; "
            f'exec {shlex.join(self._uv_command())} "$folder/script.py" "$@"'
        )
        return ["sh", "-c", unpack, "holdfast", *self.arguments]

    def build_environment(self) -> dict[str, str]:
        """Return the variables that carry it."""
        if self.url is not None:
            return {}
        packed = b64encode(gzip.compress(self.text.encode(), mtime=0)).decode()
        pieces = [
            packed[start : start + _MAX_PIECE_CHARS]
            for start in range(0, len(packed), _MAX_PIECE_CHARS)
        ]
        return {
            f"{_VARIABLE_PREFIX}{number}": piece for number, piece in enumerate(pieces, start=1)
        }

    def _uv_command(self) -> list[str]:
        # Each with its value in one word, so that none can be taken for an option.
        given = [f"--with={each}" for each in self.dependencies]
        return ["uv", "run", *given, *([] if self.python is None else [f"--python={self.python}"])]


def expect_env_fits(script: Script | None, env: Mapping[str, str]) -> None:
    """Refuse more variables than a job can be given.

    Raises:
        ValueError: with what to do instead.
    """
    beside = _env_size_bytes(env)
    if script is None:
        if beside > MAX_ENV_BYTES:
            message = (
                f"the variables in env come to {beside} bytes, and a job takes {MAX_ENV_BYTES}; "
                "put "
                f"them into a file in a bucket or dataset, and mount that with volumes"
            )
            raise ValueError(message)
        return
    # Packing takes time, and of most scripts it is plain that they fit.
    if len(script.text) * 4 * _BASE64_GROWTH + beside < MAX_ENV_BYTES:
        return
    size = _env_size_bytes(script.build_environment()) + beside
    if size > MAX_ENV_BYTES:
        message = (
            f"the script comes to {size} bytes with env, packed, and a job takes "
            f"{MAX_ENV_BYTES}; put "
            f"it into a repository or bucket and give its https URL, or mount it with volumes"
        )
        raise ValueError(message)


def _env_size_bytes(env: Mapping[str, str]) -> int:
    return sum(len(name) + len(text.encode()) + 2 for name, text in env.items())


def _check_script_text(text: str) -> str:
    one_word = text.strip()
    if not one_word:
        message = "it is empty; give the text of a Python script, or an https URL"
        raise ValueError(message)
    if _URL_PATTERN.fullmatch(one_word):
        return _expect_fetchable(one_word)
    if _FILE_NAME.fullmatch(one_word):
        message = (
            f"{quote_value(one_word)} names a file, and no file of yours is in reach "
            "here; give the "
            f"text of the script itself, or an https URL of it"
        )
        raise ValueError(message)
    return text


def _expect_fetchable(url: str) -> str:
    scheme, host = _split_scheme_and_host(url)
    if scheme != "https" or not host or "@" in host:
        message = (
            f"{scheme}:// is no URL that uv may fetch a script from; give an https URL without a "
            f"password in it, or the text of the script itself"
        )
        raise ValueError(message)
    if _BLOB_PAGE_URL.match(url):
        raw = "/raw/" if "github.com/" in url else "/resolve/"
        message = (
            f"that URL shows a page about the file; its text is at {url.replace('/blob/', raw, 1)}"
        )
        raise ValueError(message)
    return url


def _split_scheme_and_host(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "https", ""
    return parts.scheme, parts.netloc


def _numbers_to_text(values: object) -> object:
    """Write numbers as texts, for that is what arguments are."""
    if not isinstance(values, list):
        return values
    return [
        str(word) if isinstance(word, int | float) and not isinstance(word, bool) else word
        for word in cast("list[object]", values)
    ]


def _expect_no_empty_words(words: list[str]) -> list[str]:
    if not all(words):
        message = "the Hub takes no empty words in a command; leave them out"
        raise ValueError(message)
    return words


def _check_requirement(text: str) -> str:
    text = text.strip()
    if not _REQUIREMENT.fullmatch(text):
        message = f'{quote_value(text)} is no requirement; write one such as "torch>=2.4"'
        raise ValueError(message)
    return text


def _check_python_version(text: str) -> str:
    text = text.strip()
    if not _PYTHON_VERSION.fullmatch(text):
        message = f'{quote_value(text)} is no version of Python; write one such as "3.12"'
        raise ValueError(message)
    return text


ScriptText = Annotated[str, Field(min_length=1), AfterValidator(_check_script_text)]
ScriptArguments = Annotated[
    list[str],
    Field(max_length=1000),
    BeforeValidator(_numbers_to_text),
    AfterValidator(_expect_no_empty_words),
]
Requirement = Annotated[
    str, Field(min_length=1, max_length=500), AfterValidator(_check_requirement)
]
Requirements = Annotated[list[Requirement], Field(max_length=200)]
PythonVersion = Annotated[
    str, Field(min_length=1, max_length=50), AfterValidator(_check_python_version)
]
