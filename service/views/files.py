"""The view of a file that a job left behind."""

from datetime import datetime
from typing import Final, Self

from schema.artifacts.files import JobFile
from service.runtime.sealed_tokens import RESULT_FILE_NAME, DownloadLink, DownloadLinks
from service.views.base import Detail, View
from service.views.text import count_json_bytes, fit_text, format_size

_MAX_SHORT_NAME_BYTES: Final = 300
"""Of a name in a sentence, and of the title of a link."""
_MAX_WORDS_BYTES: Final = 100
"""Of a media type or a revision."""
_MAX_ADDRESS_BYTES: Final = 2000


class FileView(View):
    """A file."""

    name: str
    size_bytes: Detail[int | None]
    """None: it is made while it is read."""
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
    def from_export(cls, name: str, media_type: str, link: DownloadLink) -> Self:
        """Show a file that is made while it is read."""
        return cls(
            name=name,
            size_bytes=None,
            media_type=media_type,
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
            media_type=file.media_type and fit_text(file.media_type, _MAX_WORDS_BYTES),
            sha256=file.sha256,
            revision=file.revision and fit_text(file.revision, _MAX_WORDS_BYTES),
            uri=_none_if_too_long(file.uri),
            url=_none_if_too_long(link.url if link else None),
            expires_at=link and link.expires_at,
        )

    @property
    def short_name(self) -> str:
        """Its name; the beginning and the end of a long one."""
        return fit_text(self.name, _MAX_SHORT_NAME_BYTES, keeps_end=True)

    def describe(self) -> str:
        """Write its name, its type and its size."""
        facts = [self.media_type] if self.media_type else []
        facts += [] if self.size_bytes is None else [format_size(self.size_bytes)]
        return f"{self.short_name} ({', '.join(facts)})"

    def count_reply_bytes(self) -> int:
        """Return what it takes in a reply: as an object, in words, and as a link."""
        link = [self.url or self.uri, self.short_name, self.media_type]
        return count_json_bytes([self.model_dump(mode="json"), self.describe(), *link])


def _none_if_too_long(address: str | None) -> str | None:
    """Leave out an address that no reply has room for; a part of one leads nowhere."""
    if address is None or count_json_bytes(address) > _MAX_ADDRESS_BYTES:
        return None
    return address
