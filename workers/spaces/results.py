"""Results of a Space call: small values inline, and files as files of the job."""

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
from workers.spaces.file_values import find_file_path

_MAX_FILES: Final = 32
_MAX_TOTAL_BYTES: Final = 32 * 1024 * 1024
"""The size of all files of one call together."""
_MAX_INLINE_CHARS: Final = 64 * 1024
"""A longer result becomes a file."""
_DOWNLOAD_TIMEOUT_SECONDS: Final = 60.0
_OUTPUTS_FILE_NAME: Final = "outputs.json"
_DEFAULT_MEDIA_TYPE: Final = "application/octet-stream"


async def collect_results(
    call: SpaceCall, results: Sequence[tuple[ReturnValue, Any]]
) -> tuple[dict[str, Any], tuple[NewJobFile, ...]]:
    """Return the result and the files that belong to it."""
    downloader = _FileDownloader(call)
    outputs = [
        {
            "label": output.label,
            "component": output.component,
            "value": await downloader.replace_files(value),
        }
        for output, value in results
    ]
    text = json.dumps(outputs)
    if len(text) <= _MAX_INLINE_CHARS:
        return {"outputs": outputs}, tuple(downloader.files)
    outputs_file = NewJobFile.from_content(
        downloader.unique_name(_OUTPUTS_FILE_NAME), text.encode(), "application/json"
    )
    return {"outputs": None, "outputs_file": outputs_file.name}, (*downloader.files, outputs_file)


class _FileDownloader:
    """Downloads files within limits; a file that cannot be downloaded does not fail the call."""

    def __init__(self, call: SpaceCall) -> None:
        self.files: list[NewJobFile] = []
        self._call = call
        self._remaining_bytes = _MAX_TOTAL_BYTES
        self._deadline_seconds = anyio.current_time() + _DOWNLOAD_TIMEOUT_SECONDS
        self._names: set[str] = set()

    async def replace_files(self, value: Any) -> Any:
        """Replace each file in a value by its name among the files of the job."""
        if isinstance(value, list):
            return [await self.replace_files(item) for item in cast("list[object]", value)]
        if not isinstance(value, dict):
            return value
        fields = cast("dict[str, object]", value)
        if (path := find_file_path(fields)) is not None:
            return await self._download_file(path, str(fields.get("orig_name") or path))
        return {name: await self.replace_files(item) for name, item in fields.items()}

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
        if path.lower().startswith(("http://", "https://")):
            # At another host than the Space: nothing is fetched there with the caller's token.
            return {"url": path}
        name = self.unique_name(suggested_name)
        if len(self.files) >= _MAX_FILES:
            return {"file": name, "not_kept": f"more than {_MAX_FILES} files"}
        try:
            with anyio.fail_after(max(0, self._deadline_seconds - anyio.current_time())):
                content = await self._call.download(path, max_bytes=self._remaining_bytes)
        except SpaceUnavailable as error:
            return {"file": name, "not_kept": str(error)}
        except TimeoutError:
            return {"file": name, "not_kept": "it took too long"}
        self._remaining_bytes -= len(content)
        self.files.append(NewJobFile.from_content(name, content, _media_type(content)))
        return {"file": name}


def _media_type(content: bytes) -> str:
    try:
        return media_types.detect_media_type(content, media_types.ALL_MEDIA_TYPES)
    except ValueError:
        return _DEFAULT_MEDIA_TYPE
