"""What is kept of what a Space gave: small values as they are, and files as files of the job."""

import json
from collections.abc import Sequence
from typing import Any, Final, cast

import anyio

from schema.artifacts.files import NewJobFile
from schema.hub.gradio_api import ReturnValue
from schema.hub.gradio_client import SpaceUnavailable
from schema.specs.inputs import media_types
from schema.specs.inputs.file_argument import safe_file_name
from workers.spaces.client import SpaceCall

_MAX_FILES: Final = 32
_MAX_TOTAL_BYTES: Final = 32 * 1024 * 1024
"""Of all the files of one call."""
_MAX_INLINE_CHARS: Final = 64 * 1024
"""Characters of a result that are shown at once; a longer one becomes a file too."""
_DOWNLOAD_TIMEOUT_SECONDS: Final = 60.0
_OUTPUTS_FILE_NAME: Final = "outputs.json"
_DEFAULT_MEDIA_TYPE: Final = "application/octet-stream"


async def collect_results(
    call: SpaceCall, results: Sequence[tuple[ReturnValue, Any]]
) -> tuple[dict[str, Any], tuple[NewJobFile, ...]]:
    """Return the result, and the files that go with it."""
    files = _FileDownloader(call)
    outputs = [
        {
            "label": output.label,
            "component": output.component,
            "value": await files.replace_files(value),
        }
        for output, value in results
    ]
    written = json.dumps(outputs)
    if len(written) <= _MAX_INLINE_CHARS:
        return {"outputs": outputs}, tuple(files.files)
    whole = NewJobFile.from_content(
        files.unique_name(_OUTPUTS_FILE_NAME), written.encode(), "application/json"
    )
    return {"outputs": None, "outputs_file": whole.name}, (*files.files, whole)


class _FileDownloader:
    """Brings files home, within bounds; a call is not spoiled by one that stays away."""

    def __init__(self, call: SpaceCall) -> None:
        self.files: list[NewJobFile] = []
        self._call = call
        self._remaining_bytes = _MAX_TOTAL_BYTES
        self._deadline_seconds = anyio.current_time() + _DOWNLOAD_TIMEOUT_SECONDS
        self._names: set[str] = set()

    async def replace_files(self, value: Any) -> Any:
        """Replace each file in a value by the name it is kept under."""
        if isinstance(value, list):
            return [await self.replace_files(each) for each in cast("list[object]", value)]
        if not isinstance(value, dict):
            return value
        said = cast("dict[str, object]", value)
        if (path := _file_path(said)) is not None:
            return await self._download_file(path, str(said.get("orig_name") or path))
        return {name: await self.replace_files(each) for name, each in said.items()}

    def unique_name(self, suggested_name: str) -> str:
        """Choose a name that no other file has."""
        base = safe_file_name(suggested_name.rpartition("/")[2])
        number, name = 1, base
        while name in self._names:
            number += 1
            name = f"{number}-{base}"
        self._names.add(name)
        return name

    async def _download_file(self, path: str, suggested_name: str) -> dict[str, str]:
        if path.startswith(("http://", "https://")):
            # At another host than the Space's: nothing is fetched there in the caller's name.
            return {"url": path}
        name = self.unique_name(suggested_name)
        if len(self.files) >= _MAX_FILES:
            return {"file": name, "not_kept": f"more than {_MAX_FILES} files"}
        try:
            with anyio.fail_after(max(0, self._deadline_seconds - anyio.current_time())):
                content = await self._call.download(path, max_bytes=self._remaining_bytes)
        except SpaceUnavailable as shut:
            return {"file": name, "not_kept": str(shut)}
        except TimeoutError:
            return {"file": name, "not_kept": "it took too long"}
        self._remaining_bytes -= len(content)
        self.files.append(NewJobFile.from_content(name, content, _media_type(content)))
        return {"file": name}


def _file_path(value: dict[str, object]) -> str | None:
    path = value.get("path")
    if not isinstance(path, str) or not value.keys() & {"meta", "orig_name"}:
        return None
    return path


def _media_type(content: bytes) -> str:
    try:
        return media_types.detect_media_type(content, media_types.ALL_MEDIA_TYPES)
    except ValueError:
        return _DEFAULT_MEDIA_TYPE
