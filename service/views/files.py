"""The view of a file that a job left behind."""

from datetime import datetime
from typing import Self

from schema.artifacts.files import JobFile
from service.runtime.sealed_tokens import RESULT_FILE_NAME, DownloadLink, DownloadLinks
from service.views.base import Detail, View
from service.views.text import format_size


class FileView(View):
    """A file."""

    name: str
    size_bytes: Detail[int]
    media_type: Detail[str | None]
    sha256: Detail[str | None]
    revision: Detail[str | None]
    """The Hub's revision of exactly these bytes."""
    uri: Detail[str | None]
    """Its address at the Hub."""
    url: str | None
    """A link that needs no sign-in until `expires_at`; without `expires_at`, a link to the Hub."""
    expires_at: Detail[datetime | None]

    @classmethod
    def from_result(cls, link: DownloadLink, size_bytes: int) -> Self:
        """Show the whole result of a job as a file that can be downloaded."""
        return cls(
            name=RESULT_FILE_NAME,
            size_bytes=size_bytes,
            media_type="application/json",
            sha256=None,
            revision=None,
            uri=None,
            url=link.url,
            expires_at=link.expires_at,
        )

    @classmethod
    def from_file(cls, file: JobFile, links: DownloadLinks) -> Self:
        """Show a file with a new download link."""
        link = links.link_to(file)
        return cls(
            name=file.name,
            size_bytes=file.size_bytes,
            media_type=file.media_type,
            sha256=file.sha256,
            revision=file.revision,
            uri=file.uri,
            url=link and link.url,
            expires_at=link and link.expires_at,
        )

    def describe(self) -> str:
        """Write its name, its type and its size."""
        kinds = [self.media_type] if self.media_type else []
        return f"{self.name} ({', '.join([*kinds, format_size(self.size_bytes)])})"
