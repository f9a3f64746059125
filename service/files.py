"""How the files a job left behind are shown."""

from typing import Self

from schema.files import JobFile
from service.view import View


class FileView(View):
    """A file."""

    name: str
    size_bytes: int
    media_type: str | None
    sha256: str | None
    revision: str | None
    """What the Hub calls these very bytes."""
    uri: str | None
    """Where it lies at the Hub."""

    @classmethod
    def of(cls, file: JobFile) -> Self:
        """Show a file."""
        return cls(
            name=file.name,
            size_bytes=file.size_bytes,
            media_type=file.media_type,
            sha256=file.sha256,
            revision=file.revision,
            uri=file.uri,
        )
