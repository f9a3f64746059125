"""Parser of the answers of chat models: all that was answered, and paid for, is kept.

    text            what the model said; of several parts, those that are text
    reasoning       what it thought before; a provider calls it reasoning or reasoning_content
    other fields    under their own names: refusal, tool_calls, function_call, audio, logprobs,
                    annotations, citations, and whatever else a provider sends
    other_choices   the choices after the first, in the order of their index

Sound, pictures and long lists become files, whose names stand in their place.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from schema.artifacts.files import NewJobFile
from schema.common.text import format_count, truncate
from schema.specs.inputs import media_types
from schema.specs.inputs.file_argument import safe_file_name

_MAX_INLINE_CHARS: Final = 64_000
"""A longer list becomes a file."""
_EMPTY_VALUES: Final[Sequence[object]] = (None, "", [], {})
_BOOKKEEPING_FIELDS: Final = frozenset(
    {
        *("id", "object", "created", "choices", "usage", "model", "provider", "task"),
        *("system_fingerprint", "service_tier", "timings", "time_info", "x_groq"),
        *("kv_transfer_params", "prompt_token_ids"),
    }
)
"""Fields of an answer that are not of the model, or that a result has already."""
_READ_FIELDS: Final = frozenset(
    {
        *("role", "content", "reasoning", "reasoning_content", "message", "index"),
        *("finish_reason", "text", "files", "other_choices", "token_ids"),
    }
)
"""Fields of a choice and of its message that are read by their names, or that a result has."""
_TEXT_PARTS: Final = frozenset({"text", "output_text", "input_text"})
_REASONING_PARTS: Final = frozenset({"thinking", "reasoning", "redacted_thinking"})
_REASONING_FIELDS: Final = ("thinking", "reasoning", "summary", "text", "content")
_MEDIA_TYPES: Final = media_types.IMAGES | media_types.AUDIO | media_types.VIDEO
_USABLE_FIELDS: Final = (
    *("text", "refusal", "tool_calls", "function_call", "audio", "images", "parts"),
)
_ENDS: Final = {
    "length": "it was cut off at max_tokens; allow more of them",
    "content_filter": "a content filter took its text away",
}


def parse_chat(answer: Any) -> tuple[dict[str, Any], list[NewJobFile]]:
    """Return the result of a chat, and the parts of it that are files.

    Raises:
        LookupError, TypeError, AttributeError: it is no answer of a chat.
    """
    files = _FileCollector()
    choices = enumerate(cast("list[dict[str, Any]]", answer["choices"]))
    in_order = sorted(choices, key=_index_of)
    first, *others = [_parse_choice(choice, files) for _, choice in in_order]
    result = {
        **_other_fields(answer, _BOOKKEEPING_FIELDS | _READ_FIELDS, files),
        **first,
        **({"other_choices": others} if others else {}),
        **({"model": model} if isinstance(model := answer.get("model"), str) else {}),
    }
    return result, files.files


def describe_unusable(result: Mapping[str, Any]) -> str | None:
    """Say why nothing of a parsed chat can be used; none if something can."""
    others = cast("list[dict[str, Any]]", result.get("other_choices", []))
    choices = [result, *others]
    if any(_is_usable(choice) for choice in choices):
        return None
    reasoning = sum(len(choice.get("reasoning") or "") for choice in choices)
    came_back = (
        f"only reasoning of {format_count(reasoning, 'character')}" if reasoning else "no text"
    )
    end = result.get("finish_reason")
    error = result.get("error")
    details = [
        _ENDS.get(end, f"finish_reason is {end!r}") if isinstance(end, str) else None,
        f"it names an error: {truncate(json.dumps(error), 200, keeps_end=True)}" if error else None,
    ]
    return "; ".join([came_back, *filter(None, details)])


def _is_usable(choice: Mapping[str, Any]) -> bool:
    text = choice.get("text")
    return bool(isinstance(text, str) and text.strip()) or any(
        choice.get(name) for name in _USABLE_FIELDS[1:]
    )


def _index_of(numbered_choice: tuple[int, Mapping[str, Any]]) -> int:
    place, choice = numbered_choice
    index = choice.get("index")
    return index if isinstance(index, int) else place


def _parse_choice(choice: Mapping[str, Any], files: "_FileCollector") -> dict[str, Any]:
    message = cast("dict[str, Any]", choice.get("message") or {})
    content = _Content()
    content.add(message.get("content", choice.get("text")))
    fields = {
        **_other_fields(choice, _READ_FIELDS, files),
        **_other_fields(message, _READ_FIELDS, files),
    }
    thoughts = [message.get("reasoning_content"), message.get("reasoning"), *content.reasoning]
    # Some providers send the same under both names.
    reasoning = [text for text in dict.fromkeys(filter(None, thoughts)) if isinstance(text, str)]
    if reasoning:
        fields["reasoning"] = "\n".join(reasoning)
    if content.annotations:
        content.add_annotations(fields.get("annotations"))
        fields["annotations"] = content.annotations
    if content.other_parts:
        fields["parts"] = files.replace_media(content.other_parts, "part")
    text = "".join(content.texts) if content.texts else None
    if text is None and isinstance(audio := fields.get("audio"), dict):
        text = cast("dict[str, Any]", audio).get("transcript")
    return {"text": text, "finish_reason": choice.get("finish_reason"), **fields}


def _other_fields(
    source: Mapping[str, Any], read_fields: frozenset[str], files: "_FileCollector"
) -> dict[str, Any]:
    return {
        name: files.replace_media(value, name)
        for name, value in source.items()
        if name not in read_fields and value not in _EMPTY_VALUES
    }


class _Content:
    """The content of a message: a text, or typed parts, sorted by what they are."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.reasoning: list[str] = []
        self.annotations: list[Any] = []
        self.other_parts: list[Any] = []

    def add(self, content: Any) -> None:
        """Sort a content, or one of its parts.

        Raises:
            TypeError: it is neither a text nor parts.
        """
        match content:
            case None:
                pass
            case str():
                self.texts.append(content)
            case [*parts]:
                for part in parts:
                    self.add(part)
            case {"type": str() as kind, **fields} if kind in _REASONING_PARTS:
                self.reasoning.extend(_find_texts(fields))
            case {"text": str() as text, **fields} if fields.get("type", "text") in _TEXT_PARTS:
                self.texts.append(text)
                self.add_annotations(fields.get("annotations"))
            case {}:
                self.other_parts.append(content)
            case _:
                raise TypeError

    def add_annotations(self, annotations: Any) -> None:
        """Add the annotations of a part or of a message, if there are any."""
        match annotations:
            case [*items]:
                self.annotations.extend(items)
            case _:
                pass


def _find_texts(value: Any) -> list[str]:
    """Return the texts in a part, wherever they stand."""
    match value:
        case str():
            return [value] if value else []
        case [*items]:
            return [text for item in items for text in _find_texts(item)]
        case {}:
            parts = cast("dict[str, Any]", value)
            return _find_texts([parts[name] for name in _REASONING_FIELDS if name in parts])
        case _:
            return []


class _FileCollector:
    """Turns media and long lists inside an answer into files."""

    def __init__(self) -> None:
        self.files: list[NewJobFile] = []

    def replace_media(self, value: Any, name: str) -> Any:
        """Return a value with the names of files in the place of what became one."""
        replaced = self._replace(value, name)
        if isinstance(replaced, str):
            return replaced
        text = json.dumps(replaced)
        if len(text) <= _MAX_INLINE_CHARS:
            return replaced
        return {"file": self._add(f"{name}.json", text.encode(), "application/json")}

    def _replace(self, value: Any, name: str) -> Any:
        match value:
            case str() if value.startswith("data:") and ";base64," in value[:100]:
                content = _decode_base64(value.partition(";base64,")[2])
                return value if content is None else self._add_media(name, content)
            case {"data": str() as encoded, **rest} if "audio" in name:
                content = _decode_base64(encoded)
                stored = encoded if content is None else self._add_media("audio", content)
                return {**rest, ("data" if content is None else "file"): stored}
            case {}:
                entries = cast("dict[str, Any]", value)
                return {key: self._replace(inside, key) for key, inside in entries.items()}
            case [*items]:
                return [self._replace(item, name) for item in items]
            case _:
                return value

    def _add_media(self, name: str, content: bytes) -> str:
        # What a provider calls them is not trusted: they are served as what they are.
        try:
            media_type = media_types.detect_media_type(content, _MEDIA_TYPES)
        except ValueError:
            return self._add(name, content, None)
        kind, _, subtype = media_type.partition("/")
        return self._add(f"{kind}.{subtype}", content, media_type)

    def _add(self, name: str, content: bytes, media_type: str | None) -> str:
        number = f"{len(self.files) + 1}-" if self.files else ""
        file = NewJobFile.from_content(f"{number}{safe_file_name(name)}", content, media_type)
        self.files.append(file)
        return file.name


def _decode_base64(encoded: str) -> bytes | None:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
