"""What of the Hub lies in the container, and where: `hf://datasets/ada/set:/data:ro`.

The notation is that of `huggingface_hub`, read as it reads it. What it lets pass and what would
only fail, or surprise, in a container is refused here: a repository that is to be written to, and
a mount that hides what the image needs.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final, cast

from pydantic import AfterValidator, BeforeValidator, Field

from schema.common.text import quote_value

_KINDS: Final = {
    **{kind: kind for kind in ("model", "dataset", "space", "bucket")},
    **{f"{kind}s": kind for kind in ("model", "dataset", "space", "bucket")},
}
"""In the singular too, though `huggingface_hub` wants the plural: it can mean but one thing."""
_SPECIAL: Final = re.compile(r"refs/(?:convert/[\w.-]+|pr/\d+)")
"""Revisions with a slash in them."""
_NAME: Final = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f:\\]")
_KERNEL_FOLDERS: Final = frozenset({"dev", "proc", "sys"})
_IMAGE_FOLDERS: Final = frozenset(
    {
        "bin",
        "boot",
        "etc",
        "home",
        "lib",
        "lib64",
        "opt",
        "root",
        "run",
        "sbin",
        "tmp",
        "usr",
        "var",
    }
)
"""Folders that would vanish behind a mount, with what the image keeps in them."""
_MAX_QUOTED_CHARS: Final = 100
_VOLUME_SYNTAX: Final = (
    "write hf://TYPE/OWNER/NAME[/PATH]:/MOUNT[:ro|:rw], such as hf://datasets/ada/set:/data"
)


@dataclass(frozen=True, slots=True)
class Volume:
    """A bucket, or a repository, and where a container finds it."""

    kind: str
    source: str
    """`owner/name`."""
    mount: str
    path: str = ""
    """The folder in it that is mounted, if not all of it."""
    revision: str | None = None
    """Of a repository; none is its main branch."""
    read_only: bool = True

    def __str__(self) -> str:
        """Write it the one way in which it is stored."""
        revision = "" if self.revision is None else f"@{_quote_revision(self.revision)}"
        path = f"/{self.path}" if self.path else ""
        mode = "ro" if self.read_only else "rw"
        return f"hf://{self.kind}s/{self.source}{revision}{path}:{self.mount}:{mode}"

    def to_hub_json(self) -> dict[str, Any]:
        """Write it as the Hub wants it in a create request."""
        return {
            "type": self.kind,
            "source": self.source,
            "mountPath": self.mount,
            "readOnly": self.read_only,
            **({"path": self.path} if self.path else {}),
            **({"revision": self.revision} if self.revision is not None else {}),
        }


def parse_volume(text: str) -> Volume:
    """Read one volume.

    Raises:
        ValueError: it is none, or could not be mounted; with the form that can.
    """
    shown = quote_value(text, _MAX_QUOTED_CHARS)
    body, mode = text.strip(), None
    if body.endswith((":ro", ":rw")):
        body, mode = body[:-3], body[-2:]
    source, colon, mount = body.removeprefix("hf://").rpartition(":/")
    if not body.startswith("hf://") or not colon or not source:
        message = f"{shown} is not a volume; {_VOLUME_SYNTAX}"
        raise ValueError(message)
    kind, owner, name, revision, path = _located(source, shown)
    if kind != "bucket" and mode == "rw":
        message = (
            f"{shown}: a {kind} can only be read; leave :rw out, or mount a bucket to write to"
        )
        raise ValueError(message)
    return Volume(
        kind=kind,
        source=f"{owner}/{name}",
        mount=_parse_mount(mount, shown),
        path=path,
        revision=revision,
        read_only=kind != "bucket" or mode == "ro",
    )


def _located(source: str, shown: str) -> tuple[str, str, str, str | None, str]:
    """Take apart what is mounted: its kind, owner, name, revision and folder."""
    first, _, rest = source.partition("/")
    if first in {"kernel", "kernels"}:
        message = f"{shown}: a kernel cannot be mounted; {_VOLUME_SYNTAX}"
        raise ValueError(message)
    kind = _KINDS.get(first, "model")
    owner, _, rest = (rest if first in _KINDS else source).partition("/")
    name, revision, path = _revised(rest)
    if not _NAME.fullmatch(owner) or not _NAME.fullmatch(name):
        message = f"{shown} names no repository or bucket; {_VOLUME_SYNTAX}"
        raise ValueError(message)
    if kind == "bucket" and revision is not None:
        message = f"{shown}: a bucket has no revisions; leave @{revision} out"
        raise ValueError(message)
    if revision == "" or (path and not _is_safe_path(path)):
        message = f"{shown}: neither .. nor an empty part can stand in the path; {_VOLUME_SYNTAX}"
        raise ValueError(message)
    return kind, owner, name, revision, path


def _revised(rest: str) -> tuple[str, str | None, str]:
    """Split `name[@revision][/path]`; a revision may have a slash in it."""
    before, at, after = rest.partition("@")
    if not at or "/" in before:
        name, _, path = rest.partition("/")
        return name, None, path.rstrip("/")
    special = _SPECIAL.match(after)
    if special is not None and after[special.end() : special.end() + 1] in {"", "/"}:
        return before, special[0], after[special.end() :].strip("/")
    revision, _, path = after.partition("/")
    return before, revision.replace("%2F", "/").replace("%2f", "/"), path.rstrip("/")


def _parse_mount(mount: str, shown: str) -> str:
    mount = mount.rstrip("/")
    if not _is_safe_path(mount):
        message = f"{shown}: the mount is an absolute path without .. or empty parts, such as /data"
        raise ValueError(message)
    first, _, below = mount.partition("/")
    if first in _KERNEL_FOLDERS or (first in _IMAGE_FOLDERS and not below):
        message = (
            f"{shown}: mounted there, it would hide what the image needs; choose another /MOUNT"
        )
        raise ValueError(message)
    return f"/{mount}"


def _is_safe_path(path: str) -> bool:
    parts = path.split("/")
    return not _UNSAFE.search(path) and not {"", ".", ".."} & set(parts)


def _quote_revision(revision: str) -> str:
    return revision if _SPECIAL.fullmatch(revision) else revision.replace("/", "%2F")


def _normalize_volumes(value: object) -> object:
    """Write each volume the one way it is stored."""
    if not isinstance(value, list):
        return value
    return [
        str(parse_volume(each)) if isinstance(each, str) else each
        for each in cast("list[object]", value)
    ]


def _expect_unique_mounts(volumes: list[str]) -> list[str]:
    mounts = [parse_volume(each).mount for each in volumes]
    if twice := sorted({mount for mount in mounts if mounts.count(mount) > 1}):
        message = f"{twice[0]} is the mount of more than one volume; give each its own"
        raise ValueError(message)
    return volumes


Volumes = Annotated[
    list[Annotated[str, Field(max_length=1000)]],
    Field(max_length=20),
    BeforeValidator(_normalize_volumes),
    AfterValidator(_expect_unique_mounts),
]
"""Volumes as they are asked for, each stored in one form."""
