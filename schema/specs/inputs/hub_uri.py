"""`hf://` URIs of files: one file of a repository or a bucket of the Hub.

`huggingface_hub` parses them, so that a URI means the same here and in its clients. Its parser is
made for people: it also takes the address of a web page, adds a missing type, strips slashes and
decodes escapes. A worker reads the file with the token of a subject, so here a URI has one form
only: what the parser would write itself. Nothing but a file below the named repository can be meant
by it, and never this machine or another host.
"""

import re
from dataclasses import dataclass, replace
from typing import Final, Self
from urllib.parse import quote

from huggingface_hub import parse_hf_uri
from huggingface_hub.errors import HfUriError

from schema.common.text import quote_value, truncate
from schema.specs.inputs.url_scheme import lower_scheme

HUB_URI_SCHEME: Final = "hf://"
_MAX_URI_CHARS: Final = 1024
_MAX_REASON_CHARS: Final = 200
_NAME: Final = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
"""An owner, a repository or a bucket. The library does not look at the names of buckets."""
_REVISION: Final = re.compile(r"refs/pr/[0-9]+|(?:refs/convert/)?(?!\.+\Z)[A-Za-z0-9._-]+")
_BUCKET_KIND: Final = "buckets"
_URL_PREFIXES: Final = {"models": "", "datasets": "datasets/", "spaces": "spaces/"}
_DEFAULT_REVISION: Final = "main"


@dataclass(frozen=True, slots=True)
class HubUri:
    """A file of a repository or a bucket."""

    kind: str
    repo: str
    """The owner and the name."""
    path: str
    revision: str | None = None
    """None is the newest. Of a file in a bucket: what identifies its content."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a URI in its one form; its scheme may be in either case.

        Raises:
            ValueError: it has another form; the text says what to write.
        """
        text = lower_scheme(text)
        if len(text) > _MAX_URI_CHARS or not text.startswith(HUB_URI_SCHEME):
            raise _invalid_uri(text)
        try:
            source = parse_hf_uri(text)
        except HfUriError as error:
            raise _invalid_uri(text, error) from None
        uri = cls(f"{source.type}s", source.id, source.path_in_repo, source.revision)
        if str(uri) != text or not uri._names_a_file():
            raise _invalid_uri(text)
        return uri

    @property
    def has_revisions(self) -> bool:
        """Whether a revision names bytes that never change."""
        return self.kind != _BUCKET_KIND

    @property
    def url_path(self) -> str:
        """The path of its URL at the Hub."""
        path = quote(self.path)
        if not self.has_revisions:
            return f"/buckets/{self.repo}/resolve/{path}"
        revision = quote(self.revision or _DEFAULT_REVISION, safe="")
        return f"/{_URL_PREFIXES[self.kind]}{self.repo}/resolve/{revision}/{path}"

    def at_revision(self, revision: str) -> Self:
        """Return the same file at one revision."""
        return replace(self, revision=revision)

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision and self.has_revisions else ""
        return f"hf://{self.kind}/{self.repo}{at}/{self.path}"

    def _names_a_file(self) -> bool:
        return (
            self.kind in {_BUCKET_KIND, *_URL_PREFIXES}
            and is_hub_id(self.repo)
            and (self.revision is None or _REVISION.fullmatch(self.revision) is not None)
            and is_safe_path(self.path)
            and "%" not in self.path
        )


def is_hub_id(hub_id: str) -> bool:
    """Say whether the Hub could have a repository or a bucket of that owner and name."""
    return all(_NAME.fullmatch(part) for part in hub_id.split("/"))


def is_safe_path(path: str) -> bool:
    """Say whether a path leads down only: no `..`, nothing empty, nothing that cannot be seen."""
    return (
        path.isprintable()
        and "\\" not in path
        and not any(segment.strip(". ") == "" for segment in path.split("/"))
    )


def describe_uri_error(error: HfUriError) -> str:
    """Return the reason that the parser gives, to be put into a sentence of ours."""
    return truncate(error.msg.strip().removesuffix("."), _MAX_REASON_CHARS)


def _invalid_uri(text: str, error: HfUriError | None = None) -> ValueError:
    reason = "" if error is None else f" ({describe_uri_error(error)})"
    return ValueError(
        f"{quote_value(text)} is not a file of the Hub{reason}; write "
        "hf://datasets/OWNER/NAME/PATH, or models, spaces or buckets in place of datasets, with "
        "@REVISION after NAME if it is not to be the newest, and the path as the repository has "
        "it: no .., no %"
    )
