"""How do bytes of this machine come into the content of buckets, and out of it?

By the real library for the Xet protocol, over the loopback address: what a job leaves behind is
packed and hashed here as it is anywhere else. It has threads of its own, and blocks its caller.
"""

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from service.local.hub_emulator.buckets.xet_store import EMPTY, Content

_LIBRARY: Final[Any] = import_module("hf_xet")  # compiled, and without types


class Transfer:
    """Uploads and downloads, in the name of this Hub."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._session: Any = _LIBRARY.XetSession()

    def upload(self, url: str, paths: Sequence[Path]) -> list[tuple[str, int]]:
        """Upload files to the Hub at `url`; return the hash and the size of each."""
        with self._session.new_upload_commit(**self._authority(url)) as commit:
            uploads = [
                commit.start_upload_file(str(path), sha256=_LIBRARY.SKIP_SHA256) for path in paths
            ]
        done = [upload.result().xet_info for upload in uploads]
        return [(info.hash, info.file_size) for info in done]

    def download(self, url: str, wanted: Sequence[tuple[str, int, Path]]) -> None:
        """Write files of a hash and a size to paths."""
        for _, _, path in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        with self._session.new_file_download_group(**self._authority(url)) as group:
            for xet_hash, size, path in wanted:
                if xet_hash != EMPTY:
                    group.start_download_file(_LIBRARY.XetFileInfo(xet_hash, size), str(path))

    def stream(self, url: str, xet_hash: str, size: int) -> Iterator[bytes]:
        """Yield the bytes of a file."""
        if xet_hash == EMPTY:
            return
        group = self._session.new_download_stream_group(**self._authority(url))
        yield from group.download_stream(_LIBRARY.XetFileInfo(xet_hash, size))

    def close(self) -> None:
        """Break off whatever is under way: the library would try for minutes to go on."""
        self._session.sigint_abort()

    def _authority(self, url: str) -> dict[str, Any]:
        token, expires_at = self._content.admit(writes=True, reads=lambda _: True)
        where = self._content.at(url)
        return {"endpoint": where, "token": token, "token_expiry_unix_secs": expires_at}
