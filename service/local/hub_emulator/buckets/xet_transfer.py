"""Uploads and downloads between files of this machine and the content of buckets.

They use the real library for the Xet protocol, over the loopback address, so the files of a job are
packed and hashed as on any other machine. The library has threads of its own and blocks its caller.
"""

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from service.local.hub_emulator.buckets.xet_store import EMPTY_FILE_HASH, XetStore

_HF_XET: Final[Any] = import_module("hf_xet")  # compiled, and without types


class XetTransfer:
    """Uploads and downloads with the authority of the Hub itself."""

    def __init__(self, xet_store: XetStore) -> None:
        self._xet_store = xet_store
        self._session: Any = _HF_XET.XetSession()

    def upload(self, hub_url: str, paths: Sequence[Path]) -> list[tuple[str, int]]:
        """Upload files to the Hub at `hub_url`; return the hash and the size of each."""
        with self._session.new_upload_commit(**self._build_credentials(hub_url)) as commit:
            uploads = [
                commit.start_upload_file(str(path), sha256=_HF_XET.SKIP_SHA256) for path in paths
            ]
        results = [upload.result().xet_info for upload in uploads]
        return [(result.hash, result.file_size) for result in results]

    def download(self, hub_url: str, files: Sequence[tuple[str, int, Path]]) -> None:
        """Download files from the Hub at `hub_url`; each is a hash, a size and a path to write."""
        for _, _, path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        with self._session.new_file_download_group(**self._build_credentials(hub_url)) as group:
            for xet_hash, size, path in files:
                if xet_hash != EMPTY_FILE_HASH:
                    group.start_download_file(_HF_XET.XetFileInfo(xet_hash, size), str(path))

    def stream(self, hub_url: str, xet_hash: str, size: int) -> Iterator[bytes]:
        """Yield the bytes of a file."""
        if xet_hash == EMPTY_FILE_HASH:
            return
        group = self._session.new_download_stream_group(**self._build_credentials(hub_url))
        yield from group.download_stream(_HF_XET.XetFileInfo(xet_hash, size))

    def close(self) -> None:
        """Abort all transfers: the library would go on trying for minutes."""
        self._session.sigint_abort()

    def _build_credentials(self, hub_url: str) -> dict[str, Any]:
        token, expires_at = self._xet_store.issue_token(can_write=True, can_read=lambda _: True)
        endpoint = self._xet_store.get_url(hub_url)
        return {"endpoint": endpoint, "token": token, "token_expiry_unix_secs": expires_at}
