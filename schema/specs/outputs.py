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
from schema.common.text import quote_value

OUTPUTS_MOUNT_PATH: Final = "/outputs"
OUTPUTS_VARIABLE: Final = "HOLDFAST_OUTPUTS"
"""Tells a job where that is."""
WHOLE_FOLDER: Final = "./"
"""The folder itself: whatever is written there, if anything is."""
_MAX_OUTPUTS: Final = 50
_MAX_OUTPUT_CHARS: Final = 500
_LOCATION_PATTERN: Final = re.compile(
    r"[\w.-]+/[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*"
)


def _wrap_in_list(outputs: Any) -> Any:
    return [outputs] if isinstance(outputs, str) else outputs


def _normalize_output(path: str) -> str:
    inside = (
        path.strip().removeprefix(f"{OUTPUTS_MOUNT_PATH}/").removeprefix(f"${OUTPUTS_VARIABLE}/")
    )
    plain = inside.removeprefix("./")
    steps = plain.removesuffix("/").split("/")
    if inside in {"", ".", WHOLE_FOLDER}:
        return WHOLE_FOLDER
    if plain.startswith("/") or {"", ".", ".."}.intersection(steps):
        message = (
            f"{quote_value(path)} is not inside of {OUTPUTS_MOUNT_PATH}; write a path "
            "relative to it, such "
            f'as "model.bin", or a folder, such as "plots/"'
        )
        raise ValueError(message)
    if any(sign in plain for sign in "*?\\") or not plain.isprintable():
        message = (
            f"{quote_value(path)} is not a path but a pattern, or has signs that none "
            "has; write the "
            f'folder they are in, such as "plots/"'
        )
        raise ValueError(message)
    return plain


def _check_location(location: str) -> str:
    if not _LOCATION_PATTERN.fullmatch(location):
        message = (
            f'{quote_value(location)} is no bucket; write one such as "me/results", or a folder'
        )
        raise ValueError(message)
    return location


Outputs = Annotated[
    list[
        Annotated[
            str,
            Field(min_length=1, max_length=_MAX_OUTPUT_CHARS),
            AfterValidator(_normalize_output),
        ]
    ],
    BeforeValidator(_wrap_in_list),
    Field(max_length=_MAX_OUTPUTS),
    AfterValidator(lambda outputs: list(dict.fromkeys(outputs))),
]
OutputLocation = Annotated[str, Field(max_length=300), AfterValidator(_check_location)]
"""A bucket, and maybe a folder of it, where each job gets a folder of its own."""


def is_folder(output: str) -> bool:
    """Tell whether an output is all that is in a folder."""
    return output.endswith("/")


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """Where one job leaves its outputs."""

    bucket: str
    path: str

    @classmethod
    def for_job(cls, location: str, job_id: UUID) -> Self:
        """Return the folder of a job in the place that its jobs have in common."""
        owner, name, *inside = location.split("/")
        return cls(
            f"{owner}/{name}", "/".join([*inside, ids.format_handle(ids.HandleKind.JOB, job_id)])
        )

    def bucket_path(self, output: str) -> str:
        """Return what an output is called in the bucket."""
        return f"{self.path}/{output.removeprefix(WHOLE_FOLDER)}"

    def output_name(self, path: str) -> str:
        """Return what the job calls a file of the bucket."""
        return path.removeprefix(f"{self.path}/")

    def uri(self, path: str = "") -> str:
        """Write where the folder is, or a file of the bucket."""
        return f"hf://buckets/{self.bucket}/{path or self.path}"
