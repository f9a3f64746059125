"""A file in a bucket of the Hub: the target of a backup, and the source of a restore.

The client library of the Hub sends and reads it, at `HOLDFAST_HUB_URL` and with the operator's own
token. A file is added to a bucket by one request, after all of its content is there: so its name
never stands for a part of it. What the library and its Rust core write to disk goes into one
private folder, which is deleted at the end: they work without a home folder.
"""

import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Final, Literal, Self

import httpx2
import huggingface_hub  # its attributes are loaded at their first use: `serve` imports this module
from huggingface_hub.errors import (
    BucketBatchError,
    BucketNotFoundError,
    EntryNotFoundError,
    HfHubHTTPError,
    OIDCError,
)
from huggingface_hub.utils._http import default_client_factory
from huggingface_hub.utils.tqdm import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

from schema.common.text import quote_value
from schema.specs.inputs.hub_uri import HubUri

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*:/", re.IGNORECASE)
"""How a URI begins; a slash less than it should have does not make it a path."""
_BUCKET_KIND: Final = "buckets"
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_CORE_STATUS: Final = re.compile(r"HTTP status (?:client|server) error \((\d{3})")
"""How hf_xet 1.8 writes the status of an answer into the text of an error."""
_URL: Final = re.compile(r"\w+://")
_CACHE_VARIABLE: Final = "HF_XET_CACHE"
_SILENCE: Final = timedelta(minutes=1)
"""How long the Hub may be silent; the library itself would wait for ever."""

_Right = Literal["read", "write to"]


class BucketError(Exception):
    """A file in a bucket cannot be written or read; the text is a reason, without a full stop."""


@dataclass(frozen=True, slots=True)
class BucketFile:
    """The name of a file in a bucket."""

    bucket: str
    """Its owner and its name."""
    path: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parse what an operator has typed; None if it is a path of this machine.

        Raises:
            BucketError: it is a URI, and not that of a file in a bucket.
        """
        if not _SCHEME.match(text):
            return None
        try:
            uri = HubUri.parse(text)
        except ValueError:
            uri = None
        if uri is None or uri.kind != _BUCKET_KIND:
            message = (
                f"{quote_value(text)} is neither a path nor a file in a bucket; write "
                "hf://buckets/OWNER/NAME/PATH, such as hf://buckets/acme/backups/holdfast.hfbackup"
            )
            raise BucketError(message)
        return cls(uri.repo, uri.path)

    def __str__(self) -> str:
        return f"hf://{_BUCKET_KIND}/{self.bucket}/{self.path}"


@dataclass(frozen=True, slots=True)
class BucketTransfer:
    """The way to one file in a bucket, and the private folder on the way."""

    file: BucketFile
    folder: Path
    api: "huggingface_hub.HfApi"

    def check_bucket(self) -> None:
        """Ask for the bucket, before long work is done for it.

        Raises:
            BucketError: it is not there, or the Hub does not answer.
        """
        with self._explain_hub_errors("read"):
            self.api.bucket_info(self.file.bucket)

    def upload(self, path: Path) -> None:
        """Upload a file; it replaces one of the same name, at once and as a whole.

        Raises:
            BucketError: nobody has confirmed that it is in the bucket.
        """
        with self._explain_hub_errors("write to"):
            self.api.batch_bucket_files(self.file.bucket, add=[(path, self.file.path)])

    def download(self, path: Path) -> None:
        """Download the file into an empty one.

        Raises:
            BucketError: it is not there, or not all of it came.
        """
        with self._explain_hub_errors("read"):
            self.api.download_bucket_files(
                self.file.bucket, [(self.file.path, path)], raise_on_missing_files=True
            )

    @contextmanager
    def _explain_hub_errors(self, right: _Right) -> Generator[None]:
        """Turn what the library raises into a sentence.

        Neither URLs nor headers are in it: the first may be signed, the second have the token.
        """
        bucket = self.file.bucket
        try:
            yield
        except BucketBatchError as error:
            reasons = ", ".join(failure["error"] for failure in error.failures)
            message = f"the bucket {bucket} did not take the file ({quote_value(reasons)})"
            raise BucketError(message) from error
        except BucketNotFoundError as error:
            raise self._explain_status(HTTPStatus.NOT_FOUND, "", right) from error
        except EntryNotFoundError as error:
            message = f"there is no file {self.file.path} in the bucket {bucket}"
            raise BucketError(message) from error
        except HfHubHTTPError as error:
            status = error.response.status_code
            raise self._explain_status(status, error.server_message or "", right) from error
        except (httpx2.TransportError, ConnectionError) as error:
            if match := _CORE_STATUS.search(str(error)):
                raise self._explain_status(int(match[1]), "", right) from error
            message = (
                f"the Hub at {self.api.endpoint} cannot be reached ({type(error).__name__}); "
                "HOLDFAST_HUB_URL says where it is"
            )
            raise BucketError(message) from error
        except (OSError, RuntimeError, ValueError) as error:  # of the Rust core, or of the disk
            match = _CORE_STATUS.search(str(error))
            text = _URL.split(str(error), maxsplit=1)[0]
            reason = f"status {match[1]} of an answer" if match else quote_value(text)
            message = f"the transfer broke off ({reason})"
            raise BucketError(message) from error

    def _explain_status(self, status: int, text: str, right: _Right) -> BucketError:
        bucket = self.file.bucket
        if status == HTTPStatus.UNAUTHORIZED:
            return BucketError("the Hub does not accept the token; set HF_TOKEN to a valid one")
        if status == HTTPStatus.FORBIDDEN:
            return BucketError(
                f"the token may not {right} the bucket {bucket}; set HF_TOKEN to one that may"
            )
        if status == HTTPStatus.NOT_FOUND:
            return BucketError(
                f"at {self.api.endpoint} is no bucket {bucket} that the token may see; create it "
                f"with `hf buckets create {bucket} --private`, or set HF_TOKEN to another token"
            )
        suffix = f" ({quote_value(text)})" if text else ""
        return BucketError(f"the Hub answered with the status {status}{suffix}")


@contextmanager
def open_transfer(file: BucketFile, hub_url: str) -> Generator[BucketTransfer]:
    """Open the way to a file; its folder is deleted when the block ends, by SIGTERM too.

    Raises:
        BucketError: there is no token, or no such bucket, or the Hub does not answer.
    """
    token = _find_token()
    with ExitStack() as stack:
        stack.enter_context(_interrupt_at_sigterm())
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-"))
        folder = Path(name)
        stack.enter_context(_keep_cache_in(folder / "xet"))
        stack.enter_context(_limit_silence())
        stack.enter_context(_hide_bars_in_logs())
        api = huggingface_hub.HfApi(endpoint=hub_url.rstrip("/"), token=token)
        transfer = BucketTransfer(file, folder, api)
        transfer.check_bucket()
        yield transfer


def _find_token() -> str:
    reason = ""
    try:
        token = huggingface_hub.get_token()
    except (OSError, OIDCError) as error:  # such as a home folder that this account may not read
        token, reason = None, f" ({type(error).__name__})"
    if token is None:
        message = f"there is no token{reason}; set HF_TOKEN to one that may use the bucket"
        raise BucketError(message)
    if not _TOKEN.fullmatch(token):
        message = "HF_TOKEN has characters that no token has; set it to a token"
        raise BucketError(message)
    return token


@contextmanager
def _interrupt_at_sigterm() -> Generator[None]:
    """End at SIGTERM as at Ctrl-C, so that what is to be deleted is deleted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def _keep_cache_in(folder: Path) -> Generator[None]:
    """Let the Rust core keep its cache and its log in a folder; only this variable tells it so."""
    environ = os.environ  # noqa: TID251  # no setting of ours: it is for the library
    previous = environ.get(_CACHE_VARIABLE)
    environ[_CACHE_VARIABLE] = str(folder)
    try:
        yield
    finally:
        if previous is None:
            del environ[_CACHE_VARIABLE]
        else:
            environ[_CACHE_VARIABLE] = previous


@contextmanager
def _limit_silence() -> Generator[None]:
    huggingface_hub.set_client_factory(_create_client)
    try:
        yield
    finally:
        huggingface_hub.set_client_factory(default_client_factory)


def _create_client() -> httpx2.Client:
    client = default_client_factory()
    client.timeout = _SILENCE.total_seconds()
    return client


@contextmanager
def _hide_bars_in_logs() -> Generator[None]:
    """Show the library's bars of progress to a person only."""
    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
