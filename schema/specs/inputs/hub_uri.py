"""Which file of the Hub is meant by `hf://datasets/OWNER/NAME@REV/PATH`?

It is read by one strict form, so that what is asked for at the Hub is below the repository that was
named, and nothing of this machine or of another host is ever meant by it.
"""

import re
from dataclasses import dataclass, replace
from typing import Final, Self
from urllib.parse import quote

from schema.common.text import quote_value

_MAX_URI_CHARS: Final = 1024
_NAME: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_URI_PATTERN: Final = re.compile(
    rf"hf://(?P<kind>models|datasets|spaces|buckets)/(?P<repo>{_NAME}/{_NAME})"
    r"(?:@(?P<revision>refs/pr/[0-9]+|refs/convert/[A-Za-z0-9._-]+|[A-Za-z0-9._-]+))?/(?P<path>.+)",
)
_BUCKET_KIND: Final = "buckets"
_URL_PREFIXES: Final = {"models": "", "datasets": "datasets/", "spaces": "spaces/"}
_DEFAULT_REVISION: Final = "main"


@dataclass(frozen=True, slots=True)
class HubUri:
    """A file of a repository or a bucket."""

    kind: str
    repo: str
    """Its owner and its name."""
    path: str
    revision: str | None = None
    """None is the newest. Of a file in a bucket: what tells the content it is to have."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a path in the one form that is taken.

        Raises:
            ValueError: with what to write instead.
        """
        match = _URI_PATTERN.fullmatch(text) if len(text) <= _MAX_URI_CHARS else None
        if match is None or ".." in match["repo"] or not _is_safe_path(match["path"]):
            message = (
                f"{quote_value(text)} is not a file of the Hub; write "
                "hf://datasets/OWNER/NAME/PATH, or models, spaces or buckets in place of datasets, "
                "with @REVISION after NAME if it is not to be the newest, and the path as the "
                "repository has it: no .., no %"
            )
            raise ValueError(message)
        if match["kind"] == _BUCKET_KIND and match["revision"] is not None:
            message = "a bucket has no revisions; leave out what stands behind the @"
            raise ValueError(message)
        return cls(match["kind"], match["repo"], match["path"], match["revision"])

    @property
    def has_revisions(self) -> bool:
        """Whether a revision names bytes that never change."""
        return self.kind != _BUCKET_KIND

    @property
    def url_path(self) -> str:
        """Where the Hub has it."""
        path = quote(self.path)
        if not self.has_revisions:
            return f"/buckets/{self.repo}/resolve/{path}"
        revision = quote(self.revision or _DEFAULT_REVISION, safe="")
        return f"/{_URL_PREFIXES[self.kind]}{self.repo}/resolve/{revision}/{path}"

    def at_revision(self, revision: str) -> Self:
        """Return the same file as one revision has it."""
        return replace(self, revision=revision)

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision and self.has_revisions else ""
        return f"hf://{self.kind}/{self.repo}{at}/{self.path}"


def _is_safe_path(path: str) -> bool:
    segments = path.split("/")
    return (
        path.isprintable()
        and not any(letter in path for letter in "\\%")
        and not any(segment.strip(". ") == "" for segment in segments)
    )
