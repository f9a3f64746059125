"""Python scripts, and how they get into a container that has only an image and a command.

uv fetches a script at a URL, inside of the job. Of a script at the Hub, the folder is mounted, so
that the job reads it with the rights of its subject. The text of a script travels in environment
variables, compressed and in pieces, because the kernel allows 128 KiB for a variable. A line of
shell unpacks it, unsets the variables and starts uv in its place. We never fetch or open a script.
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

from schema.common.text import format_count, quote_value
from schema.specs.command import expect_runnable_words
from schema.specs.command_lines.check import expect_no_command_line
from schema.specs.command_lines.pasted_text import expect_bare_script
from schema.specs.inputs.hub_uri import HUB_URI_SCHEME, HubUri
from schema.specs.inputs.url_scheme import lower_scheme
from schema.specs.volumes import Volume, mount_folder_of

SCRIPT_MOUNT_PATH: Final = "/holdfast-script"
"""Where the folder of a script of the Hub is mounted."""
MAX_ENV_BYTES: Final = 900_000
"""The size of all variables of a job together; the Hub takes about a megabyte."""
_VARIABLE_PREFIX: Final = "HOLDFAST_SCRIPT_"
_MAX_PIECE_CHARS: Final = 120_000
_BASE64_GROWTH: Final = 4 / 3
"""The factor by which packing a text grows it at worst; mostly it shrinks."""
_URL_PATTERN: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://\S+")
_FILE_NAME: Final = re.compile(r"[^\s()\"'=,;]+\.pyw?(?: --?\w.*)?")
_BLOB_PAGE_URL: Final = re.compile(
    r"https://(?i:github\.com|huggingface\.co|hf\.co)/(?:[^?#]+)/blob/"
)
_REQUIREMENT: Final = re.compile(r"[A-Za-z0-9][^\x00-\x1f]*")


@dataclass(frozen=True, slots=True)
class Script:
    """A script, and the options of uv for it."""

    text: str
    """Its source, its URL, or the `hf://` URI of its file."""
    arguments: Sequence[str] = ()
    dependencies: Sequence[str] = ()
    python: str | None = None

    @property
    def url(self) -> str | None:
        """The URL that it is at, of the web or of the Hub; None if it is a text."""
        return self.text if _URL_PATTERN.fullmatch(self.text) else None

    @property
    def hub_uri(self) -> HubUri | None:
        """The file of the Hub that it is; None if it is at the web, or a text."""
        is_hub_uri = self.url is not None and self.text.startswith(HUB_URI_SCHEME)
        return HubUri.parse(self.text) if is_hub_uri else None

    @property
    def volume(self) -> Volume | None:
        """The folder of the Hub to mount for it; None if it is no file of the Hub."""
        return None if (uri := self.hub_uri) is None else mount_folder_of(uri, SCRIPT_MOUNT_PATH)

    @property
    def title(self) -> str:
        """The title of its job: without the text, because jobs are listed and grouped by title."""
        return shlex.join([*self._uv_command(), self.url or "script.py", *self.arguments])

    def build_command(self) -> list[str]:
        """Return the command that runs it."""
        if (uri := self.hub_uri) is not None:
            path = f"{SCRIPT_MOUNT_PATH}/{uri.path.rpartition('/')[2]}"
            return [*self._uv_command(), path, *self.arguments]
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
        """Return the variables that carry the text; none for a URL."""
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
        # An option and its value are one word, so that no value can be read as an option.
        packages = [f"--with={requirement}" for requirement in self.dependencies]
        return [
            "uv",
            "run",
            *packages,
            *([] if self.python is None else [f"--python={self.python}"]),
        ]


def expect_env_fits(script: Script | None, env: Mapping[str, str]) -> None:
    """Refuse more variables than a job can be given.

    Raises:
        ValueError: with what to do instead.
    """
    env_bytes = _env_size_bytes(env)
    if script is None:
        if env_bytes > MAX_ENV_BYTES:
            message = (
                f"the variables in env come to {format_count(env_bytes, 'byte')}, and a job "
                f"takes {MAX_ENV_BYTES}; put them into a file in a bucket or dataset, and mount "
                f"that with volumes"
            )
            raise ValueError(message)
        return
    # Packing takes time, and most scripts fit without doubt.
    if len(script.text) * 4 * _BASE64_GROWTH + env_bytes < MAX_ENV_BYTES:
        return
    total_bytes = _env_size_bytes(script.build_environment()) + env_bytes
    if total_bytes > MAX_ENV_BYTES:
        message = (
            f"the script comes to {format_count(total_bytes, 'byte')} with env, packed, and a job "
            f"takes {MAX_ENV_BYTES}; put it into a repository or bucket and give its https "
            f"URL, or mount it with volumes"
        )
        raise ValueError(message)


def _env_size_bytes(env: Mapping[str, str]) -> int:
    return sum(len(name) + len(text.encode()) + 2 for name, text in env.items())


def _check_script_text(text: str) -> str:
    word = text.strip()
    if not word:
        message = "it is empty; give the text of a Python script, or an https URL"
        raise ValueError(message)
    if _URL_PATTERN.fullmatch(word):
        return _expect_fetchable(lower_scheme(word))
    expect_no_command_line(text)
    expect_bare_script(text)
    if _FILE_NAME.fullmatch(word):
        message = (
            f"{quote_value(word)} names a file, and your files cannot be read here; give the "
            f"text of the script itself, or an https URL of it"
        )
        raise ValueError(message)
    return text


def _expect_python_file(text: str) -> str:
    uri = HubUri.parse(text)
    if not uri.path.endswith((".py", ".pyw")):
        message = f"{quote_value(text)} is no script: uv runs a file whose name ends in .py"
        raise ValueError(message)
    return str(uri)


def _expect_fetchable(url: str) -> str:
    if url.startswith(HUB_URI_SCHEME):
        return _expect_python_file(url)
    scheme, host = _split_scheme_and_host(url)
    if scheme != "https" or not host or "@" in host:
        message = (
            f"{scheme}:// is no URL that uv may fetch a script from; give an https URL without a "
            f"password in it, the hf:// URI of a file, or the text of the script itself"
        )
        raise ValueError(message)
    if _BLOB_PAGE_URL.match(url):
        raw = "/raw/" if "github.com/" in url.lower() else "/resolve/"
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
    """Turn numbers into texts: the arguments of a program are texts."""
    if not isinstance(values, list):
        return values
    return [
        str(word) if isinstance(word, int | float) and not isinstance(word, bool) else word
        for word in cast("list[object]", values)
    ]


def _check_arguments(words: list[str]) -> list[str]:
    expect_runnable_words(words)
    return words


def _check_requirement(text: str) -> str:
    text = text.strip()
    if not _REQUIREMENT.fullmatch(text):
        message = f'{quote_value(text)} is not a requirement; write one such as "torch>=2.4"'
        raise ValueError(message)
    return text


ScriptText = Annotated[str, Field(min_length=1), AfterValidator(_check_script_text)]
ScriptArguments = Annotated[
    list[str],
    Field(max_length=1000),
    BeforeValidator(_numbers_to_text),
    AfterValidator(_check_arguments),
]
Requirement = Annotated[
    str, Field(min_length=1, max_length=500), AfterValidator(_check_requirement)
]
Requirements = Annotated[list[Requirement], Field(max_length=200)]
