"""Outputs of a job: the files it has to write, and the folder it writes them to.

The folder is mounted from a private bucket. A file counts once it is seen in the bucket: what a job
has written may still be in transfer when the job has ended, or may be lost with it.
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
"""The variable that tells a job this path."""
WHOLE_FOLDER: Final = "./"
"""The whole folder: any file in it, at least one."""
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
            f"{quote_value(path)} is not inside of {OUTPUTS_MOUNT_PATH}; write a path relative to "
            f'it, such as "model.bin", or a folder, such as "plots/"'
        )
        raise ValueError(message)
    if any(character in plain for character in "*?\\") or not plain.isprintable():
        message = (
            f"{quote_value(path)} is not a path: it has a wildcard, a backslash or a character "
            f'that cannot be printed; write the folder of the files, such as "plots/"'
        )
        raise ValueError(message)
    return plain


def _check_location(location: str) -> str:
    if not _LOCATION_PATTERN.fullmatch(location):
        message = (
            f'{quote_value(location)} is not a bucket; write one such as "me/results", or a folder'
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
"""A bucket, or a folder of it, in which each job gets a folder of its own."""


def is_folder(output: str) -> bool:
    """Say whether an output is a folder."""
    return output.endswith("/")


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """The folder of a bucket for the outputs of one job."""

    bucket: str
    path: str

    @classmethod
    def for_job(cls, location: str, job_id: UUID) -> Self:
        """Return the folder of a job below the location that it shares with other jobs."""
        owner, name, *inside = location.split("/")
        return cls(
            f"{owner}/{name}", "/".join([*inside, ids.format_handle(ids.HandleKind.JOB, job_id)])
        )

    def bucket_path(self, output: str) -> str:
        """Return the path of an output in the bucket."""
        return f"{self.path}/{output.removeprefix(WHOLE_FOLDER)}"

    def output_name(self, path: str) -> str:
        """Return the path of a file of the bucket as the job sees it."""
        return path.removeprefix(f"{self.path}/")

    def uri(self, path: str = "") -> str:
        """Return the URI of a file of the bucket, or of the folder."""
        return f"hf://buckets/{self.bucket}/{path or self.path}"
