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

IMAGE: Final = "ghcr.io/astral-sh/uv:python3.12-bookworm"
"""What a script runs in, unless its launch says otherwise."""
MOST_BYTES: Final = 900_000
"""What all variables of a job may come to; the Hub takes about a megabyte."""
_VARIABLE: Final = "HOLDFAST_SCRIPT_"
_PIECE: Final = 120_000
_PACKED: Final = 4 / 3
"""What packing makes of a byte at worst, little more and mostly far less."""
_URL: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://\S+")
_FILE: Final = re.compile(r"[^\s()\"'=,;]+\.pyw?(?: --?\w.*)?")
_PAGE: Final = re.compile(r"https://(?:github\.com|huggingface\.co|hf\.co)/(?:[^?#]+)/blob/")
_REQUIREMENT: Final = re.compile(r"[A-Za-z0-9][^\x00-\x1f]*")
_PYTHON: Final = re.compile(r"[A-Za-z0-9<>=~!][\w.+<>=~!*, -]*")
_SHOWN: Final = 60


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
        return self.text if _URL.fullmatch(self.text) else None

    @property
    def title(self) -> str:
        """How it is called; of a text nothing, for titles are listed and counted by."""
        return shlex.join([*self._uv(), self.url or "script.py", *self.arguments])

    def command(self) -> list[str]:
        """Return what runs it."""
        if self.url is not None:
            return [*self._uv(), self.url, *self.arguments]
        names = list(self.environment())
        packed = " ".join(f'"${name}"' for name in names)
        unpack = (
            "set -e; folder=$(mktemp -d); "
            f'printf %s {packed} | base64 -d | gzip -d > "$folder/script.py"; '
            f"unset {' '.join(names)}; "
            f'exec {shlex.join(self._uv())} "$folder/script.py" "$@"'
        )
        return ["sh", "-c", unpack, "holdfast", *self.arguments]

    def environment(self) -> dict[str, str]:
        """Return the variables that carry it."""
        if self.url is not None:
            return {}
        packed = b64encode(gzip.compress(self.text.encode(), mtime=0)).decode()
        pieces = [packed[start : start + _PIECE] for start in range(0, len(packed), _PIECE)]
        return {f"{_VARIABLE}{number}": piece for number, piece in enumerate(pieces, start=1)}

    def _uv(self) -> list[str]:
        # Each with its value in one word, so that none can be taken for an option.
        given = [f"--with={each}" for each in self.dependencies]
        return ["uv", "run", *given, *([] if self.python is None else [f"--python={self.python}"])]


def expect_to_fit(script: Script | None, env: Mapping[str, str]) -> None:
    """Refuse more variables than a job can be given.

    Raises:
        ValueError: with what to do instead.
    """
    beside = _size(env)
    if script is None:
        if beside > MOST_BYTES:
            message = (
                f"the variables in env come to {beside} bytes, and a job takes {MOST_BYTES}; put "
                f"them into a file in a bucket or dataset, and mount that with volumes"
            )
            raise ValueError(message)
        return
    # Packing takes time, and of most scripts it is plain that they fit.
    if len(script.text) * 4 * _PACKED + beside < MOST_BYTES:
        return
    size = _size(script.environment()) + beside
    if size > MOST_BYTES:
        message = (
            f"the script comes to {size} bytes with env, packed, and a job takes {MOST_BYTES}; put "
            f"it into a repository or bucket and give its https URL, or mount it with volumes"
        )
        raise ValueError(message)


def _size(env: Mapping[str, str]) -> int:
    return sum(len(name) + len(text.encode()) + 2 for name, text in env.items())


def _script(text: str) -> str:
    one_word = text.strip()
    if not one_word:
        message = "it is empty; give the text of a Python script, or an https URL"
        raise ValueError(message)
    if _URL.fullmatch(one_word):
        return _expect_fetchable(one_word)
    if _FILE.fullmatch(one_word):
        message = (
            f"{one_word[:_SHOWN]!r} names a file, and no file of yours is in reach here; give the "
            f"text of the script itself, or an https URL of it"
        )
        raise ValueError(message)
    return text


def _expect_fetchable(url: str) -> str:
    scheme, host = _parts(url)
    if scheme != "https" or not host or "@" in host:
        message = (
            f"{scheme}:// is no URL that uv may fetch a script from; give an https URL without a "
            f"password in it, or the text of the script itself"
        )
        raise ValueError(message)
    if _PAGE.match(url):
        raw = "/raw/" if "github.com/" in url else "/resolve/"
        message = (
            f"that URL shows a page about the file; its text is at {url.replace('/blob/', raw, 1)}"
        )
        raise ValueError(message)
    return url


def _parts(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "https", ""
    return parts.scheme, parts.netloc


def _words(given: object) -> object:
    """Write numbers as texts, for that is what arguments are."""
    if not isinstance(given, list):
        return given
    return [
        str(word) if isinstance(word, int | float) and not isinstance(word, bool) else word
        for word in cast("list[object]", given)
    ]


def _no_empty_words(words: list[str]) -> list[str]:
    if not all(words):
        message = "the Hub takes no empty words in a command; leave them out"
        raise ValueError(message)
    return words


def _requirement(written: str) -> str:
    written = written.strip()
    if not _REQUIREMENT.fullmatch(written):
        message = f'{written[:_SHOWN]!r} is no requirement; write one such as "torch>=2.4"'
        raise ValueError(message)
    return written


def _python(written: str) -> str:
    written = written.strip()
    if not _PYTHON.fullmatch(written):
        message = f'{written[:_SHOWN]!r} is no version of Python; write one such as "3.12"'
        raise ValueError(message)
    return written


Text = Annotated[str, Field(min_length=1), AfterValidator(_script)]
Arguments = Annotated[
    list[str], Field(max_length=1000), BeforeValidator(_words), AfterValidator(_no_empty_words)
]
Requirement = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_requirement)]
Requirements = Annotated[list[Requirement], Field(max_length=200)]
Python = Annotated[str, Field(min_length=1, max_length=50), AfterValidator(_python)]
