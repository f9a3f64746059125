"""Parts of a secret that a program may print after it has read the secret.

A service account's key is JSON, a .env file has lines of NAME=VALUE, the address of a database has
a password in it, and any of these may be in base64. The program reads such a secret, and prints one
value of it, with its escapes decoded, as often as the whole.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator
from typing import Final, cast
from urllib.parse import unquote, urlsplit

_MIN_SECRET_CHARS: Final = 6
_SHORT_NUMBER_PATTERN: Final = re.compile(r"[\d.,:+-]{1,11}")
_PLAIN_WORD_PATTERN: Final = re.compile(r"[^\W\d_]([^\W\d_A-Z]{0,14}|[A-Z]{0,14})")
_PLAIN_PHRASE_PATTERN: Final = re.compile(r"[A-Za-z]+(?:[ ._/:@-]+[A-Za-z]+)*[ ._:-]*\d{0,3}")
"""Such as service_account, europe-west4 or googleapis.com: a log is full of them."""
_MIN_PHRASE_CHARS: Final = 20
"""A phrase of this length is no common one."""
_SECRET_NAME_PATTERN: Final = re.compile(r"(?i)pass|pwd|secret|token|key|cred|auth")
_ASSIGNMENT_PATTERN: Final = re.compile(r"(?:export\s+)?([A-Za-z_][\w.-]*)\s*[=:]\s*(.*)")
_BASE64_PATTERN: Final = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
_MAX_DEPTH: Final = 16
"""How deep values in values are read."""


def is_redactable(secret: str) -> bool:
    """Tell whether a secret is so unusual that a text which contains it contains the secret."""
    plain = _SHORT_NUMBER_PATTERN.fullmatch(secret) or _PLAIN_WORD_PATTERN.fullmatch(secret)
    return len(secret) >= _MIN_SECRET_CHARS and not plain


def find_secret_parts(secret: str) -> set[str]:
    """Return the parts of a secret that are secrets themselves; without the whole."""
    return {
        part
        for name, text in _find_values("", secret, _MAX_DEPTH)
        if (part := text.strip()) != secret and _is_telling(name, part)
    }


def _is_telling(name: str, part: str) -> bool:
    """Tell whether a part is secret by its name, or too unusual to be a common word."""
    if not is_redactable(part):
        return False
    is_phrase = len(part) < _MIN_PHRASE_CHARS and _PLAIN_PHRASE_PATTERN.fullmatch(part)
    return not is_phrase or _SECRET_NAME_PATTERN.search(name) is not None


def _find_values(name: str, text: str, depth: int) -> Iterator[tuple[str, str]]:
    """Yield the values in a text, each with the last name that leads to it."""
    if depth == 0:
        return
    if (value := _parse_json(text)) is not None:
        yield from _find_json_values(name, value, depth - 1)
        return
    for inner_name, inner in _find_text_values(text):
        yield inner_name or name, inner
        yield from _find_values(inner_name or name, inner, depth - 1)


def _find_json_values(name: str, value: object, depth: int) -> Iterator[tuple[str, str]]:
    if depth == 0:
        return
    if isinstance(value, dict):
        for key, inside in cast("dict[str, object]", value).items():
            yield from _find_json_values(key, inside, depth - 1)
    elif isinstance(value, list):
        for inside in cast("list[object]", value):
            yield from _find_json_values(name, inside, depth - 1)
    elif isinstance(value, int | float):
        yield name, json.dumps(value)
    elif isinstance(value, str):
        yield name, value
        yield from _find_values(name, value, depth - 1)


def _find_text_values(text: str) -> Iterator[tuple[str, str]]:
    """Yield the values in a text that is no JSON."""
    if (decoded := _decode_base64(text)) is not None:
        yield "", decoded
        return
    if "://" in text and not re.search(r"\s", text):
        yield from _find_url_values(text)
        return
    for line in re.split(r"[\n;]", text):
        if (assignment := _ASSIGNMENT_PATTERN.fullmatch(line.strip())) is not None:
            name, value = assignment.groups()
            quote = value[:1]
            if quote and quote in "\"'" and value.endswith(quote):
                value = value[1:-1]
            yield name, value
            if "\\n" in value:
                yield name, value.replace("\\n", "\n")


def _find_url_values(url: str) -> Iterator[tuple[str, str]]:
    try:
        password = urlsplit(url).password
    except ValueError:
        return
    if password:
        yield "password", password
        yield "password", unquote(password)


def _parse_json(text: str) -> dict[str, object] | list[object] | str | None:
    """Parse a text that is an object, a list or a text in JSON; None if it is something else."""
    if not text.lstrip().startswith(("{", "[", '"')):
        return None
    try:
        return cast("dict[str, object] | list[object] | str", json.loads(text, strict=False))
    except (ValueError, RecursionError):
        return None


def _decode_base64(text: str) -> str | None:
    """Decode a text in base64, if it is one; its lines may be short."""
    encoded = "".join(text.split())
    if not _BASE64_PATTERN.fullmatch(encoded):
        return None
    standard = encoded.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        decoded = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return decoded if decoded.isprintable() or "\n" in decoded else None
