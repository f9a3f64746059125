"""Values that a function of a Gradio app has yielded so far: whole ones, or edits of the last.

Since its protocol `sse_v2` Gradio sends the first values of a generator whole, and for each later
ones a list of edits `[action, path, value]` for each output. A Space is foreign code, so an edit
that cannot be made, or values that grow too large, end the assembly: no values are then better than
wrong ones. The result of the function comes whole in any case.
"""

import json
from collections.abc import Sequence
from typing import Any, Final, cast

from schema.common.text import truncate
from schema.hub.gradio_api import Endpoint
from schema.jobs.progress import TextRedactor
from workers.spaces.file_values import find_file_path

MAX_EVENT_BYTES: Final = 128 * 1024
"""The size of what comes at once. What is assembled from it has twice as much at most, as JSON."""
MAX_EDITS: Final = 1000
"""Edits of one output at once."""
MAX_TEXT_CHARS: Final = 2000
"""How much of the values is shown: their beginning and their end."""


class PartialValues:
    """The values that an endpoint has yielded last."""

    def __init__(self, endpoint: Endpoint, *, are_edits: bool) -> None:
        """Begin with no values.

        Args:
            endpoint: what is called.
            are_edits: whether the app sends edits after its first values.
        """
        self.count = 0
        """How often values were yielded."""
        self._endpoint = endpoint
        self._are_edits = are_edits
        self._values: list[Any] | None = None
        self._has_given_up = False
        self._received_bytes = 0
        """At least the size of the values: that of all events since they were last measured."""

    def add(self, data: list[Any] | None, event_bytes: int) -> None:
        """Take what the app has sent for values that were yielded.

        Args:
            data: the values, or the edits of each; None if they cannot be read.
            event_bytes: the size of the event that they came in.
        """
        self.count += 1
        if self._has_given_up or data is None:
            return
        try:
            if event_bytes > MAX_EVENT_BYTES:
                raise ValueError(event_bytes)  # noqa: TRY301  # one way out
            if self._values is None or not self._are_edits:
                self._values, self._received_bytes = data, event_bytes
            else:
                self._apply_edits(self._values, data)
                self._limit_size(self._values, event_bytes)
        except Exception:  # noqa: BLE001  # whatever a Space sends, the call goes on
            self._give_up()

    def render(self, redactor: TextRedactor) -> str | None:
        """Write the last values, or the beginning and the end of them; None if there are none.

        It writes the whole of up to 256 KiB, so it is to be called seldom. Secrets are replaced
        before the text is cut, so no part of one is left.
        """
        if self._values is None:
            return None
        try:
            labelled = self._endpoint.label_results(self._values)
            texts = [redactor.redact(_to_text(value)) for _, value in labelled]
        except Exception:  # noqa: BLE001  # whatever a Space sends, the call goes on
            self._give_up()
            return None
        if len(labelled) > 1:
            room = MAX_TEXT_CHARS // len(labelled)
            names = [output.label or number for number, (output, _) in enumerate(labelled, start=1)]
            texts = [
                truncate(f"{name}: {text}", room, keeps_end=True)
                for name, text in zip(names, texts, strict=True)
            ]
        return truncate("\n".join(texts), MAX_TEXT_CHARS, keeps_end=True) or None

    def _give_up(self) -> None:
        self._has_given_up, self._values = True, None

    def _apply_edits(self, values: list[Any], edits_by_output: Sequence[Any]) -> None:
        for place, edits in enumerate(edits_by_output):
            if place == len(values):
                values.append(None)  # Gradio compares an output that is new with nothing
            if len(edits) > MAX_EDITS:
                raise ValueError(len(edits))
            for action, path, value in edits:
                _apply_edit(values, action, [place, *path], value)

    def _limit_size(self, values: list[Any], event_bytes: int) -> None:
        """Measure the values when as much has come as they may take.

        Raises:
            ValueError: they are too large.
        """
        self._received_bytes += event_bytes
        if self._received_bytes > 2 * MAX_EVENT_BYTES:
            self._received_bytes = len(json.dumps(values))
            if self._received_bytes > MAX_EVENT_BYTES:
                raise ValueError(self._received_bytes)


def _apply_edit(values: list[Any], action: str, path: list[Any], value: Any) -> None:
    """Make one edit, as `gradio_client.utils.apply_diff` does."""
    target: Any = values
    for step in path[:-1]:
        target = target[step]
    last = path[-1]
    match action:
        case "replace":
            target[last] = value
        case "append":
            target[last] += value
        case "add" if hasattr(target, "insert"):  # a list; an object has keys
            target.insert(last, value)
        case "add":
            target[last] = value
        case "delete":
            del target[last]
        case _:
            raise ValueError(action)


def _to_text(value: Any) -> str:
    shown = _name_files(value)
    return shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False)


def _name_files(value: Any) -> Any:
    """Put in the place of each file its name: it is on the disk of the app, and not stored."""
    if isinstance(value, list):
        return [_name_files(item) for item in cast("list[object]", value)]
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, object]", value)
    if (path := find_file_path(fields)) is not None:
        return {"file": str(fields.get("orig_name") or path).rpartition("/")[2]}
    return {name: _name_files(item) for name, item in fields.items()}
