"""Volumes of a job: `hf://datasets/ada/set:/data:ro` mounts a repository or bucket of the Hub.

The notation is that of `huggingface_hub`, and its parser reads it. What would fail or surprise only
in the container is refused here: a repository that is mounted to be written to, and a mount that
hides what the image needs.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Final, cast

from huggingface_hub import HfUri
from huggingface_hub.constants import HF_URI_TYPE_PREFIXES, HfUriType
from huggingface_hub.errors import HfUriError
from huggingface_hub.utils._hf_uris import HfMount, parse_hf_mount
from pydantic import AfterValidator, BeforeValidator, Field

from schema.common.text import quote_value
from schema.specs.inputs.hub_uri import (
    HUB_URI_SCHEME,
    HubUri,
    describe_uri_error,
    is_hub_id,
    is_safe_path,
)
from schema.specs.inputs.url_scheme import lower_scheme

_TYPE_PREFIXES: Final = {
    name: prefix for prefix, singular in HF_URI_TYPE_PREFIXES.items() for name in (prefix, singular)
}
"""The singular is taken too, though `huggingface_hub` wants the plural: it means only one thing."""
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
"""Folders that a mount would hide, with the files of the image in them."""
_MAX_QUOTED_CHARS: Final = 100
_VOLUME_SYNTAX: Final = (
    "write hf://TYPE/OWNER/NAME[/PATH]:/MOUNT[:ro|:rw], such as hf://datasets/ada/set:/data"
)


@dataclass(frozen=True, slots=True)
class Volume:
    """A bucket or a repository, and where it is mounted."""

    kind: HfUriType
    source: str
    """`owner/name`."""
    mount: str
    path: str = ""
    """The folder that is mounted; empty: all of it."""
    revision: str | None = None
    """Of a repository; None is its main branch."""
    read_only: bool = True

    def __str__(self) -> str:
        """Write the one form in which a volume is stored."""
        source = HfUri(self.kind, self.source, self.revision, self.path)
        return HfMount(source, self.mount, self.read_only).to_uri()

    def to_hub_json(self) -> dict[str, Any]:
        """Return the volume as the Hub expects it in a create request."""
        return {
            "type": self.kind,
            "source": self.source,
            "mountPath": self.mount,
            "readOnly": self.read_only,
            **({"path": self.path} if self.path else {}),
            **({"revision": self.revision} if self.revision is not None else {}),
        }


def mount_folder_of(uri: HubUri, mount: str) -> Volume:
    """Return the volume that mounts the folder of a file, to be read."""
    return Volume(
        kind=cast("HfUriType", uri.kind.removesuffix("s")),
        source=uri.repo,
        mount=mount,
        path=uri.path.rpartition("/")[0],
        revision=uri.revision,
    )


def parse_volume(text: str) -> Volume:
    """Parse one volume.

    Raises:
        ValueError: it is no volume, or cannot be mounted; the text shows the form.
    """
    shown = quote_value(text, _MAX_QUOTED_CHARS)
    written = _with_type_prefix(lower_scheme(text.strip()))
    try:
        mount = parse_hf_mount(written)
    except HfUriError as error:
        message = f"{shown} is not a volume ({describe_uri_error(error)}); {_VOLUME_SYNTAX}"
        raise ValueError(message) from None
    source = mount.source
    if source.type == "kernel":
        message = f"{shown}: a kernel cannot be mounted; {_VOLUME_SYNTAX}"
        raise ValueError(message)
    if not _is_read_as_written(source, written) or not is_hub_id(source.id):
        message = f"{shown} names no repository or bucket; {_VOLUME_SYNTAX}"
        raise ValueError(message)
    if not all(_is_safe(part) for part in (source.path_in_repo, source.revision) if part):
        message = (
            f"{shown}: neither .. nor an empty part can stand in the path or the revision; "
            f"{_VOLUME_SYNTAX}"
        )
        raise ValueError(message)
    if source.is_repo and mount.read_only is False:
        message = (
            f"{shown}: a {source.type} can only be read; leave :rw out, or mount a bucket to write "
            "to"
        )
        raise ValueError(message)
    return Volume(
        kind=source.type,
        source=source.id,
        mount=_parse_mount(mount.mount_path, shown),
        path=source.path_in_repo,
        revision=source.revision,
        read_only=source.is_repo or mount.read_only is True,
    )


def _with_type_prefix(text: str) -> str:
    """Write the type of what is mounted in the plural; without one, it is a model."""
    if not text.startswith(HUB_URI_SCHEME):
        return text
    location = text.removeprefix(HUB_URI_SCHEME)
    name, _, rest = location.partition("/")
    prefix = _TYPE_PREFIXES.get(name)
    return f"{HUB_URI_SCHEME}{f'models/{location}' if prefix is None else f'{prefix}/{rest}'}"


def _is_read_as_written(source: HfUri, written: str) -> bool:
    """Refuse what the parser repairs: it strips slashes in front, and decodes escapes."""
    location = written.rpartition(":/")[0].rstrip("/")
    return _decode_slashes(source.to_uri()) == _decode_slashes(location)


def _decode_slashes(text: str) -> str:
    return text.replace("%2F", "/").replace("%2f", "/")


def _parse_mount(mount: str, shown: str) -> str:
    mount = mount.removeprefix("/").rstrip("/")
    if not _is_safe(mount):
        message = f"{shown}: the mount is an absolute path without .. or empty parts, such as /data"
        raise ValueError(message)
    first, _, below = mount.partition("/")
    if first in _KERNEL_FOLDERS or (first in _IMAGE_FOLDERS and not below):
        message = (
            f"{shown}: mounted there, it would hide what the image needs; choose another /MOUNT"
        )
        raise ValueError(message)
    return f"/{mount}"


def _is_safe(path: str) -> bool:
    return ":" not in path and is_safe_path(path)


def _normalize_volumes(value: object) -> object:
    """Write each volume in the one form in which it is stored."""
    if not isinstance(value, list):
        return value
    return [
        str(parse_volume(volume)) if isinstance(volume, str) else volume
        for volume in cast("list[object]", value)
    ]


def _expect_unique_mounts(volumes: list[str]) -> list[str]:
    mounts = [parse_volume(volume).mount for volume in volumes]
    if duplicates := sorted({mount for mount in mounts if mounts.count(mount) > 1}):
        message = f"{duplicates[0]} is the mount of more than one volume; give each its own"
        raise ValueError(message)
    return volumes


Volumes = Annotated[
    list[Annotated[str, Field(max_length=1000)]],
    Field(max_length=20),
    BeforeValidator(_normalize_volumes),
    AfterValidator(_expect_unique_mounts),
]
"""Volumes as a caller writes them; each is stored in one form."""
