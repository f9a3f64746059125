"""The table `[tool.hf-jobs]` in the header of a script, which `hf jobs uv run` reads.

A script can carry how it is to be launched in its PEP 723 header. What a call gives wins, and of
env, labels and volumes entry by entry, as it does there. Secrets are names only, whose values are
not known here. One of them may be `HF_TOKEN`, the caller's own token: unlike `hf`, no header hands
it over, because whoever launches a script may not have read it. A note says how the call does.
"""

import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from schema.common.durations import format_duration
from schema.common.errors import Invalid
from schema.common.text import quote_value
from schema.specs import volumes
from schema.specs.base import Spec
from schema.specs.hub_job import TOKEN_VARIABLE, Env, Flavor, Labels, SecretNames, parse_job_timeout
from schema.specs.image import Image
from schema.specs.uv.python_request import PythonRequest
from schema.specs.validation_errors import to_invalid_error
from schema.specs.volumes import Volumes

_TABLE: Final = "[tool.hf-jobs]"
_BLOCK_START: Final = "# /// script"
_BLOCK_END: Final = "# ///"
_MAX_QUOTED_KEYS: Final = 5


class ScriptHeader(Spec):
    """How a script is to be launched, as it says itself."""

    image: Image | None = None
    flavor: Flavor | None = None
    python: PythonRequest | None = None
    timeout: Annotated[timedelta, BeforeValidator(parse_job_timeout)] | None = None
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    namespace: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    env: Env = {}
    secrets: SecretNames = []
    labels: Labels = {}
    volumes: Volumes = []


class _Tools(BaseModel):
    table: Annotated[dict[str, Any] | None, Field(alias="hf-jobs")] = None


class _Header(BaseModel):
    """The part of a header that is read here; the rest is for uv."""

    tool: _Tools = _Tools()


@dataclass(frozen=True, slots=True)
class HeaderDefaults:
    """Arguments that a call leaves to the header of its script, and notes that say so."""

    arguments: dict[str, Any]
    notes: list[str]


def read_header_defaults(script: str | None, call: Mapping[str, Any]) -> HeaderDefaults:
    """Return what the header of a script adds to the arguments of a call.

    Args:
        script: the text of a script, or its URL, whose header is not read; None if there is none.
        call: the arguments that the call gives; none of them is replaced.

    Raises:
        Invalid: the table cannot be read, or has a value that no job takes.
    """
    table = _read_table(script or "")
    if table is None:
        return HeaderDefaults({}, [])
    unknown = sorted(table.keys() - ScriptHeader.model_fields.keys())
    header = _parse_header({name: table[name] for name in table if name not in unknown})
    added: dict[str, Any] = {
        name: value
        for name in ("image", "flavor", "python", "timeout", "name", "namespace")
        if (value := getattr(header, name)) is not None and name not in call
    }
    secret_names = _read_entries(call, "secrets").keys()
    added |= _add_entries("env", header.env, call, without=secret_names)
    added |= _add_entries("labels", header.labels, call)
    added |= _add_volumes(header.volumes, call)
    known = {*secret_names, *_read_entries(call, "env")}
    if "pass_token" in call:
        known.add(TOKEN_VARIABLE)
    missing = [name for name in header.secrets if name not in known]
    return HeaderDefaults(added, _describe(added, call, missing, unknown))


def describe_unread_header(script: str | None) -> list[str]:
    """Say in a note that a retry does not obey the header of its new script."""
    if _read_table(script or "") is None:
        return []
    return [f"A retry does not read the script's {_TABLE}: give what it says in overrides."]


def _read_table(script: str) -> dict[str, Any] | None:
    block = _read_block(script.splitlines())
    if "hf-jobs" not in block:
        return None
    try:
        header = _Header.model_validate(tomllib.loads(block))
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"script: its header is not valid TOML ({error}).") from None
    except RecursionError:
        raise Invalid("script: its header nests too deep to be read; write it flat.") from None
    except ValidationError:
        raise Invalid(f"script: hf-jobs in its header is no table; write {_TABLE}.") from None
    return header.tool.table


def _read_block(lines: Sequence[str]) -> str:
    """Return the PEP 723 block of a script, without its marks; empty if it has none."""
    stripped = [line.rstrip() for line in lines]
    if _BLOCK_START not in stripped:
        return ""
    start = stripped.index(_BLOCK_START) + 1
    comments: list[str] = []
    for line in stripped[start:]:
        if line != "#" and not line.startswith("# "):
            break
        comments.append(line)
    if _BLOCK_END not in comments:
        return ""
    end = len(comments) - 1 - comments[::-1].index(_BLOCK_END)
    return "\n".join(line[2:] for line in comments[:end])


def _parse_header(table: dict[str, Any]) -> ScriptHeader:
    if isinstance(table.get("secrets"), dict):
        raise Invalid(
            f"script: secrets in its {_TABLE} is a list of names, such as "
            f'["{TOKEN_VARIABLE}"]; their values are given in the argument secrets.'
        )
    try:
        return ScriptHeader.model_validate(table)
    except ValidationError as error:
        raise Invalid(f"script: in its {_TABLE}, {to_invalid_error(error)}") from None


def _add_entries(
    name: str,
    entries: Mapping[str, str],
    call: Mapping[str, Any],
    *,
    without: Collection[str] = (),
) -> dict[str, Any]:
    own = _read_entries(call, name)
    new = {key: value for key, value in entries.items() if key not in own and key not in without}
    return {name: {**new, **own}} if new else {}


def _add_volumes(entries: list[str], call: Mapping[str, Any]) -> dict[str, Any]:
    own: list[str] = call.get("volumes", [])
    mounts = {volumes.parse_volume(volume).mount for volume in own}
    new = [volume for volume in entries if volumes.parse_volume(volume).mount not in mounts]
    return {"volumes": [*new, *own]} if new else {}


def _describe(
    added: Mapping[str, Any],
    call: Mapping[str, Any],
    missing: list[str],
    unknown: list[str],
) -> list[str]:
    notes: list[str] = []
    if added:
        parts = [_describe_value(name, value, call) for name, value in added.items()]
        notes.append(f"From the script's {_TABLE}: {', '.join(parts)}.")
    if values := [name for name in missing if name != TOKEN_VARIABLE]:
        notes.append(
            f"The script's {_TABLE} asks for {_join(values)}: give what it needs in secrets."
        )
    if TOKEN_VARIABLE in missing:
        notes.append(
            f"The script's {_TABLE} asks for the person's token: give pass_token=true if it may "
            "have it."
        )
    if unknown:
        notes.append(f"Not used of the script's {_TABLE}: {_join(unknown)}.")
    return notes


def _describe_value(name: str, value: Any, call: Mapping[str, Any]) -> str:
    if name == "timeout":
        return f"timeout {format_duration(value)}"
    if name in {"env", "labels", "volumes"}:
        entries: list[str] = list(value)
        return f"{name} {_join([entry for entry in entries if entry not in call.get(name, ())])}"
    return f"{name} {quote_value(value) if name == 'name' else value}"


def _read_entries(call: Mapping[str, Any], name: str) -> Mapping[str, str]:
    entries: Mapping[str, str] = call.get(name, {})
    return entries


def _join(names: list[str]) -> str:
    return " ".join(quote_value(name) for name in names[:_MAX_QUOTED_KEYS])
