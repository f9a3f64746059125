"""Which files is a job to leave behind, and where does it leave them?

They are written to a folder that is mounted from a private bucket, and count as left once they are
seen there: what a job has written may still be on its way when it has ended, or lost with it.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final, Self
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field

from schema.common import ids

MOUNTED_AT: Final = "/outputs"
VARIABLE: Final = "HOLDFAST_OUTPUTS"
"""Tells a job where that is."""
EVERYTHING: Final = "./"
"""The folder itself: whatever is written there, if anything is."""
_MOST: Final = 50
_LONGEST: Final = 500
_SHOWN: Final = 60
_PLACE: Final = re.compile(r"[\w.-]+/[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


def _listed(outputs: Any) -> Any:
    return [outputs] if isinstance(outputs, str) else outputs


def _output(path: str) -> str:
    inside = path.strip().removeprefix(f"{MOUNTED_AT}/").removeprefix(f"${VARIABLE}/")
    plain = inside.removeprefix("./")
    steps = plain.removesuffix("/").split("/")
    if inside in {"", ".", EVERYTHING}:
        return EVERYTHING
    if plain.startswith("/") or {"", ".", ".."}.intersection(steps):
        message = (
            f"{path[:_SHOWN]!r} is not inside of {MOUNTED_AT}; write a path relative to it, such "
            f'as "model.bin", or a folder, such as "plots/"'
        )
        raise ValueError(message)
    if any(sign in plain for sign in "*?\\") or not plain.isprintable():
        message = (
            f"{path[:_SHOWN]!r} is not a path but a pattern, or has signs that none has; write the "
            f'folder they are in, such as "plots/"'
        )
        raise ValueError(message)
    return plain


def _place(place: str) -> str:
    if not _PLACE.fullmatch(place):
        message = f'{place[:_SHOWN]!r} is no bucket; write one such as "me/results", or a folder'
        raise ValueError(message)
    return place


Outputs = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=_LONGEST), AfterValidator(_output)]],
    BeforeValidator(_listed),
    Field(max_length=_MOST),
    AfterValidator(lambda outputs: list(dict.fromkeys(outputs))),
]
Place = Annotated[str, Field(max_length=300), AfterValidator(_place)]
"""A bucket, and maybe a folder of it, where each job gets a folder of its own."""


def is_folder(output: str) -> bool:
    """Tell whether an output is all that is in a folder."""
    return output.endswith("/")


@dataclass(frozen=True, slots=True)
class Folder:
    """Where one job leaves its outputs."""

    bucket: str
    path: str

    @classmethod
    def of(cls, place: str, job_id: UUID) -> Self:
        """Return the folder of a job in the place that its jobs have in common."""
        owner, name, *inside = place.split("/")
        return cls(f"{owner}/{name}", "/".join([*inside, ids.write(ids.Kind.JOB, job_id)]))

    def file(self, output: str) -> str:
        """Return what an output is called in the bucket."""
        return f"{self.path}/{output.removeprefix(EVERYTHING)}"

    def name(self, path: str) -> str:
        """Return what the job calls a file of the bucket."""
        return path.removeprefix(f"{self.path}/")

    def uri(self, path: str = "") -> str:
        """Write where the folder is, or a file of the bucket."""
        return f"hf://buckets/{self.bucket}/{path or self.path}"
