"""Lines of files of items: JSON, one item a line; also as batch files for OpenAI have them.

A line for OpenAI has `custom_id`, `method`, `url` and `body`. The address says the task. The body
has the model, the inputs under the name that the task has for them there, and the parameters.
Whether the model is that of the batch is checked with the batch.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, cast

from schema.common.text import quote_value

_OPENAI_FIELDS: Final = frozenset({"custom_id", "method", "url", "body"})
_TASKS: Final = {
    "chat/completions": ("chat-completion", "messages"),
    "completions": ("text-generation", "prompt"),
    "embeddings": ("feature-extraction", "input"),
}
"""Tasks by the end of their addresses, and the field of the inputs of each."""


def read_openai_line(fields: object) -> object:
    """Return the fields of an item, of a line for OpenAI; whatever else there is unchanged.

    Raises:
        ValueError: it is such a line, and nothing here does what it asks for.
    """
    if not isinstance(fields, Mapping):
        return fields
    line = cast("Mapping[str, object]", fields)
    if "body" not in line or "inputs" in line or line.keys() - _OPENAI_FIELDS:
        return line
    body = line["body"]
    if not isinstance(body, Mapping):
        message = "body is not an object; write the request itself there"
        raise ValueError(message)  # noqa: TRY004  # pydantic turns only this one into a sentence
    if str(line.get("method", "POST")).upper() != "POST":
        message = f"method is {quote_value(line['method'])}; only POST asks a model"
        raise ValueError(message)
    parameters: dict[str, Any] = dict(cast("Mapping[str, Any]", body))
    task, inputs_field = _find_task(line.get("url"), parameters)
    model = parameters.pop("model", None)
    if inputs_field not in parameters:
        message = f"body has no {inputs_field}, which {task} needs"
        raise ValueError(message)
    if parameters.get("stream") is False:
        del parameters["stream"]
    return {
        "custom_id": line.get("custom_id"),
        "inputs": parameters.pop(inputs_field),
        "parameters": parameters,
        "model": model,
        "task": task,
    }


def read_item_lines(value: object) -> object:
    """Return the items of a text with one on a line, or a single one as a list of it.

    Raises:
        ValueError: a line is not JSON.
    """
    if isinstance(value, Mapping):
        return [cast("object", value)]
    if not isinstance(value, str):
        return value
    items: list[object] = []
    for number, line in enumerate(value.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            items.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            message = f"line {number} is not JSON ({error}); write one object a line"
            raise ValueError(message) from None
    return items


def _find_task(url: object, body: Mapping[str, object]) -> tuple[str, str]:
    """Return the task of a line and the field of its inputs; without an address, by that field."""
    if url is None:
        for task, field in _TASKS.values():
            if field in body:
                return task, field
    path = str(url).partition("?")[0].strip("/")
    if path.lower().startswith(("http:", "https:")):
        path = path.partition("//")[2].partition("/")[2]
    for end, task_and_field in _TASKS.items():
        if path.removeprefix("v1/") == end:
            return task_and_field
    message = (
        f"url is {quote_value(url)}; a batch takes /v1/chat/completions, /v1/completions and "
        f"/v1/embeddings"
    )
    raise ValueError(message)
