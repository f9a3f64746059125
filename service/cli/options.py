"""Values of command-line options: each is checked before anything starts.

The functions are types for argparse, which writes their sentences after the name of the option.
"""

import os
import re
import sys
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

COMMAND: Final = "python3 -m service" if Path(sys.argv[0]).name == "__main__.py" else "holdfast"
"""What a person types before the name of a command: in a clone there is no `holdfast`."""
DEFAULT_DATA_DIR: Final = Path(os.environ.get("HOLDFAST_DATA_DIR") or ".holdfast")  # noqa: TID251  # a default for --data
_PORT: Final = re.compile("[0-9]{1,5}")
_MAX_PORT: Final = 65535
_LOOPBACK_PREFIXES: Final = ("localhost", "127.", "[::1]")
_ENDPOINT_PATH: Final = "/mcp"


def names_database() -> bool:
    """Say whether the environment names the database of a deployment."""
    variables = ("HOLDFAST_DATABASE_URL", "DATABASE_URL")
    return any(os.environ.get(name) for name in variables)  # noqa: TID251  # before any settings


def parse_port(text: str) -> int:
    """Return the number of a port that a server can be reached at."""
    port = parse_port_or_zero(text)
    if port == 0:
        raise ArgumentTypeError(_describe_bad_port(text))
    return port


def parse_port_or_zero(text: str) -> int:
    """Return the number of a port; 0 stands for any free one."""
    if not _PORT.fullmatch(text) or int(text) > _MAX_PORT:
        raise ArgumentTypeError(_describe_bad_port(text))
    return int(text)


def parse_data_dir(text: str) -> Path:
    """Return the path of a data folder, which need not exist yet."""
    return _parse_path(text, "folder", ".holdfast")


def parse_file_path(text: str) -> Path:
    """Return the path of a file, which need not exist yet."""
    return _parse_path(text, "file", "token.txt")


def _parse_path(text: str, kind: str, example: str) -> Path:
    if not text.strip():
        raise ArgumentTypeError(f"the name of the {kind} is empty; write one, such as {example}")
    if "\0" in text:
        raise ArgumentTypeError(f"the name of a {kind} cannot contain a null character")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ArgumentTypeError(f"there is no home folder for {text}; write the path out") from None


def parse_base_url(text: str) -> str:
    """Return the URL of a server, without a slash at its end."""
    url = text.strip()
    if "://" not in url:
        scheme = "http" if url.startswith(_LOOPBACK_PREFIXES) else "https"
        example = f"{scheme}://{url}" if url else "https://huggingface.co"
        raise ArgumentTypeError(
            f"{text!r} is not a whole URL; write the scheme too, for example {example}"
        )
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a URL; check its host and its port") from None
    if parts.scheme not in {"http", "https"}:
        raise ArgumentTypeError(f"{text!r} must begin with https://, or http:// on this machine")
    if not has_host or any(character.isspace() for character in url):
        raise ArgumentTypeError(f"{text!r} is not a URL; check its host and its port")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ArgumentTypeError(
            "the URL of a server has no user, no password, no ? and no #; write only its address"
        )
    return url.rstrip("/")


def parse_service_url(text: str) -> str:
    """Return the URL of a service; that of its MCP endpoint is accepted too."""
    return parse_base_url(text).removesuffix(_ENDPOINT_PATH).rstrip("/")


def parse_token(text: str) -> str:
    """Return a token that fits into a header."""
    token = text.strip().removeprefix("Bearer ").strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        # The value is not repeated: it may be a secret with one wrong character.
        raise ArgumentTypeError(
            "a token is one word of visible ASCII characters; copy it again, for example from "
            "https://huggingface.co/settings/tokens"
        )
    return token


def _describe_bad_port(text: str) -> str:
    return f"{text!r} is not a port; choose a number from 1 to {_MAX_PORT}"
