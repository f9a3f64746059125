"""What is kept of what a Space gave: small values as they are, and files as files of the job."""

import json
from collections.abc import Sequence
from typing import Any, Final, cast

import anyio

from schema.artifacts.files import NewFile
from schema.gradio.api import Output
from schema.gradio.client import Shut
from schema.specs.inputs import media_types
from schema.specs.inputs.file_argument import plain_name
from workers.spaces.client import Call

_MOST_FILES: Final = 32
_MOST_BYTES: Final = 32 * 1024 * 1024
"""Of all the files of one call."""
_INLINE: Final = 64 * 1024
"""Characters of a result that are shown at once; a longer one becomes a file too."""
_PATIENCE: Final = 60.0
_OUTPUTS: Final = "outputs.json"
_BYTES: Final = "application/octet-stream"


async def kept(
    call: Call, given: Sequence[tuple[Output, Any]]
) -> tuple[dict[str, Any], tuple[NewFile, ...]]:
    """Return the result, and the files that go with it."""
    files = _Files(call)
    outputs = [
        {"label": output.label, "component": output.component, "value": await files.taken(value)}
        for output, value in given
    ]
    written = json.dumps(outputs)
    if len(written) <= _INLINE:
        return {"outputs": outputs}, tuple(files.kept)
    whole = NewFile.of(files.name(_OUTPUTS), written.encode(), "application/json")
    return {"outputs": None, "outputs_file": whole.name}, (*files.kept, whole)


class _Files:
    """Brings files home, within bounds; a call is not spoiled by one that stays away."""

    def __init__(self, call: Call) -> None:
        self.kept: list[NewFile] = []
        self._call = call
        self._left = _MOST_BYTES
        self._until = anyio.current_time() + _PATIENCE
        self._names: set[str] = set()

    async def taken(self, value: Any) -> Any:
        """Replace each file in a value by the name it is kept under."""
        if isinstance(value, list):
            return [await self.taken(each) for each in cast("list[object]", value)]
        if not isinstance(value, dict):
            return value
        said = cast("dict[str, object]", value)
        if (path := _path(said)) is not None:
            return await self._home(path, str(said.get("orig_name") or path))
        return {name: await self.taken(each) for name, each in said.items()}

    def name(self, wanted: str) -> str:
        """Choose a name that no other file has."""
        base = plain_name(wanted.rpartition("/")[2])
        number, name = 1, base
        while name in self._names:
            number += 1
            name = f"{number}-{base}"
        self._names.add(name)
        return name

    async def _home(self, path: str, wanted: str) -> dict[str, str]:
        if path.startswith(("http://", "https://")):
            # At another host than the Space's: nothing is fetched there in the caller's name.
            return {"url": path}
        name = self.name(wanted)
        if len(self.kept) >= _MOST_FILES:
            return {"file": name, "not_kept": f"more than {_MOST_FILES} files"}
        try:
            with anyio.fail_after(max(0, self._until - anyio.current_time())):
                content = await self._call.download(path, most=self._left)
        except Shut as shut:
            return {"file": name, "not_kept": str(shut)}
        except TimeoutError:
            return {"file": name, "not_kept": "it took too long"}
        self._left -= len(content)
        self.kept.append(NewFile.of(name, content, _media_type(content)))
        return {"file": name}


def _path(value: dict[str, object]) -> str | None:
    path = value.get("path")
    if not isinstance(path, str) or not value.keys() & {"meta", "orig_name"}:
        return None
    return path


def _media_type(content: bytes) -> str:
    try:
        return media_types.recognize(content, media_types.EVERYTHING)
    except ValueError:
        return _BYTES
