"""The tokens that a bridge sends: from the environment or a file, and never from its arguments.

Every account of a machine can read the arguments of a program. Variables and files are those of its
own account.
"""

import os
import stat
from argparse import ArgumentTypeError
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from schema.common.errors import Invalid
from service.cli.options import parse_token

_TOKEN_VARIABLES: Final = ("HOLDFAST_TOKEN", "HF_TOKEN")
_MAX_FILE_BYTES: Final = 16 * 1024
_TOKEN_PAGE: Final = "https://huggingface.co/settings/tokens"  # noqa: S105  # the address of a page


@dataclass(frozen=True, slots=True)
class TokenSource:
    """Where the token of the caller is; a file is read again at each call."""

    path: Path | None
    sends_hub_token: bool = False
    """Whether the token in HF_TOKEN goes along as `X-HF-Authorization`."""

    def read_headers(self) -> dict[str, str]:
        """Return the headers that say who calls; empty for nobody.

        Raises:
            Invalid: the file cannot be read, or a token cannot be one.
        """
        headers: dict[str, str] = {}
        if token := self._read_token():
            headers["authorization"] = f"Bearer {token}"
        if self.sends_hub_token and (hub_token := _read_variable("HF_TOKEN")):
            headers["x-hf-authorization"] = f"Bearer {hub_token}"
        return headers

    @property
    def advice(self) -> str:
        """What to do if the service does not accept who calls."""
        if self.path is not None:
            return f"A new token goes into {self.path}, which is read at each call: {_TOKEN_PAGE}."
        used = next((name for name in _TOKEN_VARIABLES if _read_variable(name)), None)
        if used is None:
            return (
                f"This program has no token. Create one at {_TOKEN_PAGE}, and start "
                f"`holdfast stdio` with it in the variable HOLDFAST_TOKEN, or in a file that "
                f"--token-file names."
            )
        return (
            f"The token is that of the variable {used}. Create another at {_TOKEN_PAGE}, and start "
            f"`holdfast stdio` again with it."
        )

    def _read_token(self) -> str | None:
        if self.path is not None:
            return _parse(_read_file(self.path), str(self.path))
        for name in _TOKEN_VARIABLES:
            if token := _read_variable(name):
                return token
        return None


def _read_variable(name: str) -> str | None:
    text = os.environ.get(name, "").strip()  # noqa: TID251  # of whoever starts the bridge
    return _parse(text, f"The variable {name}") if text else None


def _read_file(path: Path) -> str:
    try:
        # Not blocking: at each call a pipe in its place would stop the bridge.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Invalid(f"{path} is no file, so there is no token in it.")
            return file.read(_MAX_FILE_BYTES).decode("utf-8", "replace").strip()
    except OSError as error:
        raise Invalid(
            f"The token file {path} cannot be read: {(error.strerror or 'unknown').lower()}."
        ) from None


def _parse(text: str, place: str) -> str:
    try:
        return parse_token(text)
    except ArgumentTypeError as error:
        raise Invalid(f"{place} has no token: {error}.") from None
