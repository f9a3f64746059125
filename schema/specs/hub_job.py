"""Specification of a Hugging Face Job: validated once, stored, and read by a worker.

The rules are the Hub's (names of variables, characters of labels). They are checked before a handle
is created, so that nothing is queued which can never be launched. Messages say what to write
instead.
"""

import json
import re
import shlex
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Final, Self, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    model_validator,
)

from schema.common.durations import SERIALIZE_AS_SECONDS, bounded_duration_parser
from schema.common.name_matching import normalize_name
from schema.common.text import quote_value, truncate
from schema.specs import volumes
from schema.specs.base import Spec
from schema.specs.command import MAX_TEXT_BYTES, ParsedCommand, describe_too_long, is_words
from schema.specs.command_lines.check import expect_in_default_image
from schema.specs.image import DEFAULT_IMAGE, UV_IMAGE, Image
from schema.specs.outputs import OUTPUTS_MOUNT_PATH, OutputLocation, Outputs
from schema.specs.uv import script as spec_script
from schema.specs.uv.python_request import PythonRequest
from schema.specs.volumes import Volumes

RESERVED_ENV_PREFIX: Final = "HOLDFAST_"
TOKEN_VARIABLE: Final = "HF_TOKEN"  # noqa: S105  # the name of a variable
_ENV_NAME: Final = re.compile(r"[a-zA-Z][_a-zA-Z0-9]+")
_LABEL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,100}")
_LABEL_VALUE: Final = re.compile(r"[a-zA-Z0-9_-]{0,100}")
_NON_LABEL_CHARS: Final = re.compile(r"[^a-zA-Z0-9_-]+")
_MAX_QUOTED_NAMES: Final = 5
"""How many of the wrong names a message repeats."""
_FLAVOR: Final = re.compile(r"[a-z0-9][a-z0-9-]*")
TOKEN_PLACEHOLDERS: Final = frozenset({"$HF_TOKEN", "${HF_TOKEN}"})
"""As the value of a secret: the subject's own token."""


def _normalize_flavor(flavor: str) -> str:
    name = normalize_name(flavor)
    if not _FLAVOR.fullmatch(name):
        message = f'{quote_value(flavor)} is not a hardware flavor; write one such as "cpu-basic"'
        raise ValueError(message)
    return name


def _check_env(env: dict[str, str]) -> dict[str, str]:
    invalid = [name for name in env if not _ENV_NAME.fullmatch(name)]
    if invalid:
        message = (
            f"{_join_with_verb(invalid)} not a name the Hub takes: two or more letters, digits or "
            f"_, the first a letter, such as BATCH_SIZE"
        )
        raise ValueError(message)
    if reserved := [name for name in env if name.upper().startswith(RESERVED_ENV_PREFIX)]:
        message = (
            f"{_join_with_verb(reserved)} reserved; choose a name that does not start with "
            f"{RESERVED_ENV_PREFIX}"
        )
        raise ValueError(message)
    for name, text in env.items():
        size_bytes = len(f"{name}={text}".encode())
        if size_bytes > MAX_TEXT_BYTES:
            message = f"{truncate(name)} has {describe_too_long(size_bytes)}"
            raise ValueError(message)
    if token_names := [name for name, text in env.items() if text in TOKEN_PLACEHOLDERS]:
        message = (
            f"{_join_with_verb(token_names)} readable by others, so no token goes there; give it "
            f'as secrets={{"{truncate(token_names[0])}": "$HF_TOKEN"}}'
        )
        raise ValueError(message)
    return env


def _check_secret_names(names: list[str]) -> list[str]:
    _check_env(dict.fromkeys(names, ""))
    return sorted(names)


def _check_labels(labels: dict[str, str]) -> dict[str, str]:
    invalid = {
        name: value
        for name, value in labels.items()
        if not _LABEL_NAME.fullmatch(name) or not _LABEL_VALUE.fullmatch(value)
    }
    if invalid:
        valid = {_to_label(name) or "name": _to_label(value) for name, value in invalid.items()}
        quoted = ", ".join(truncate(f"{name!r}: {value!r}") for name, value in invalid.items())
        message = (
            f"{quoted} is not a label the Hub takes: up to 100 letters, digits, - or _ on either "
            f"side; write {json.dumps(valid)}"
        )
        raise ValueError(message)
    if reserved := [name for name in labels if name.lower().startswith("holdfast")]:
        message = (
            f"{_join_with_verb(reserved)} reserved; choose a label that does not start with "
            f"holdfast"
        )
        raise ValueError(message)
    return labels


def _join_with_verb(names: list[str]) -> str:
    quoted = ", ".join(quote_value(name) for name in names[:_MAX_QUOTED_NAMES])
    return f"{quoted} {'is' if len(names) == 1 else 'are'}"


def _to_label(text: str) -> str:
    return _NON_LABEL_CHARS.sub("-", text)[:100].strip("-")


_ASSIGNMENT: Final = re.compile(r"\s*([^=\s]+)=(.*)", re.DOTALL)


def parse_string_mapping(raw: object) -> object:
    """Return a mapping of texts: of a mapping of scalars, or of a list of the variables.

    An entry of such a list is `NAME=value`, as in a compose file, or `{"name": …, "value": …}`, as
    in a manifest of Kubernetes.
    """
    if isinstance(raw, Mapping):
        pairs = cast("Mapping[object, object]", raw)
        return {name: _scalar_to_text(value) for name, value in pairs.items()}
    if isinstance(raw, list):
        return _parse_entries(cast("list[object]", raw))
    return raw


def _parse_entries(entries: list[object]) -> object:
    pairs = [pair for entry in entries if (pair := _parse_entry(entry)) is not None]
    if len(pairs) != len(entries):
        message = 'write an object, such as {"NAME": "value"}'
        raise ValueError(message)
    names = [name for name, _ in pairs]
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        message = f"{duplicates[0]} is given more than once; give it once"
        raise ValueError(message)
    return dict(pairs)


def _parse_entry(entry: object) -> tuple[str, object] | None:
    if isinstance(entry, str):
        match = _ASSIGNMENT.fullmatch(entry)
        return None if match is None else (match[1], match[2])
    if not isinstance(entry, dict):
        return None
    fields = cast("dict[str, object]", entry)
    name = fields.get("name")
    if fields.keys() != {"name", "value"} or not isinstance(name, str):
        return None
    return name, _scalar_to_text(fields["value"])


def _scalar_to_text(value: object) -> object:
    # As JSON writes it, which is how the caller wrote it.
    return json.dumps(value) if isinstance(value, bool | int | float) else value


Flavor = Annotated[str, Field(max_length=64), AfterValidator(_normalize_flavor)]
Env = Annotated[dict[str, str], BeforeValidator(parse_string_mapping), AfterValidator(_check_env)]
SecretNames = Annotated[list[str], AfterValidator(_check_secret_names), Field(max_length=50)]
Labels = Annotated[
    dict[str, str],
    Field(max_length=20),
    BeforeValidator(parse_string_mapping),
    AfterValidator(_check_labels),
]
MAX_JOB_TIMEOUT: Final = timedelta(days=30)
parse_job_timeout = bounded_duration_parser(timedelta(seconds=1), MAX_JOB_TIMEOUT)


_MAX_ATTEMPTS: Final = 100
_RESOURCE_GROUP_ID: Final = re.compile(r"[0-9a-f]{24}")


def _check_resource_group(group: str) -> str:
    if not _RESOURCE_GROUP_ID.fullmatch(group):
        message = (
            f"{quote_value(group)} is not the id of a resource group: 24 digits and letters a to "
            f"f, as the settings of the organisation show it"
        )
        raise ValueError(message)
    return group


def _sort_unique(ports: list[int]) -> list[int]:
    return sorted(set(ports))


Attempts = Annotated[int, Field(ge=1, le=_MAX_ATTEMPTS)]

ResourceGroup = Annotated[str, Field(max_length=100), AfterValidator(_check_resource_group)]

Port = Annotated[int, Field(ge=1, le=65535)]

Ports = Annotated[list[Port], Field(max_length=20), AfterValidator(_sort_unique)]


class HubJobSpec(Spec):
    """A Hugging Face Job: a command, or a script that uv runs, in an image."""

    image: Image
    command: ParsedCommand | None = None
    script: spec_script.ScriptText | None = None
    """The text of a Python script, its URL, or its file at the Hub."""
    script_args: spec_script.ScriptArguments = []
    dependencies: spec_script.Requirements = []
    python: PythonRequest | None = None
    flavor: Flavor = "cpu-basic"
    timeout: Annotated[timedelta, BeforeValidator(parse_job_timeout), SERIALIZE_AS_SECONDS] = (
        timedelta(minutes=30)
    )
    """The timeout of each attempt."""
    attempts: Attempts = 1
    """How often the Hub starts it at most, until it succeeds."""
    env: Env = {}
    secrets: SecretNames = []
    """Names only; the values are sealed in rows of their own, and deleted after the launch."""
    pass_token: bool = False
    """Whether the command gets the subject's own token as the secret HF_TOKEN."""
    token_as: SecretNames = []
    """Names of other secrets that have the same token as their value."""
    volumes: Volumes = []
    resource_group_id: ResourceGroup | None = None
    expose: Ports = []
    """Ports of the container that can be reached from outside with a token."""
    ssh: bool = False
    outputs: Outputs = []
    """Files and folders that the job has to write."""
    outputs_in: OutputLocation | None = None
    """Where they are stored; we set it together with `outputs`."""

    @model_validator(mode="before")
    @classmethod
    def _check_command_or_script(cls, fields: dict[str, Any]) -> dict[str, Any]:
        programs = {name for name in ("command", "script") if fields.get(name) is not None}
        if len(programs) > 1:
            message = "command and script are both given; choose one of them"
            raise ValueError(message)
        if not programs:
            message = "there is nothing to run; give command, and its image, or script"
            raise ValueError(message)
        if "script" in programs:
            return {"image": UV_IMAGE} | fields
        if "image" not in fields and is_words(fields["command"]):
            expect_in_default_image(fields["command"])
        fields = {"image": DEFAULT_IMAGE} | fields
        if extra := [name for name in _SCRIPT_ONLY_FIELDS if fields.get(name)]:
            message = f"{extra[0]} goes with script, and command is given; write it into command"
            raise ValueError(message)
        return fields

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        tokens = list_token_variables(self.to_stored_json())
        if duplicates := sorted(({*self.secrets, *tokens}) & self.env.keys()):
            message = f"{duplicates[0]} is both in env and in secrets; give it once"
            raise ValueError(message)
        if self.pass_token and TOKEN_VARIABLE in {*self.secrets, *self.env}:
            message = f"{TOKEN_VARIABLE} is given, and pass_token would set it; choose one of them"
            raise ValueError(message)
        if self.outputs and self.outputs_in is None:  # possible only in a retry with overrides
            message = "it was launched without outputs; call launch_job with outputs instead"
            raise ValueError(message)
        if self.outputs and self._mounts_at(OUTPUTS_MOUNT_PATH):
            message = f"{OUTPUTS_MOUNT_PATH} is where outputs go; mount the volume somewhere else"
            raise ValueError(message)
        script = self.uv_script
        if script and script.hub_uri and self._mounts_at(spec_script.SCRIPT_MOUNT_PATH):
            message = (
                f"{spec_script.SCRIPT_MOUNT_PATH} is where the folder of the script goes; mount "
                f"the volume somewhere else"
            )
            raise ValueError(message)
        return self

    def _mounts_at(self, path: str) -> bool:
        mounts = [volumes.parse_volume(volume).mount for volume in self.volumes]
        return any(f"{mount}/".startswith(f"{path}/") for mount in mounts)

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        spec_script.expect_env_fits(self.uv_script, self.env)
        return self

    @property
    def uv_script(self) -> spec_script.Script | None:
        """The script; None if the job is a command."""
        if self.script is None:
            return None
        return spec_script.Script(self.script, self.script_args, self.dependencies, self.python)

    @property
    def title(self) -> str:
        """The title of a job that was launched without a name."""
        if (script := self.uv_script) is not None:
            return script.title
        return f"{self.image}: {shlex.join(self.command or [])}"

    def to_stored_json(self) -> dict[str, Any]:
        """Return the JSON that is stored; of the fields of later releases only those that are set.

        So the same request is stored alike by every release, and what is shown of it stays small.
        """
        set_fields = self.model_dump(mode="json", exclude_defaults=True).keys()
        fields = super().to_stored_json()
        return {
            name: value
            for name, value in fields.items()
            if name in set_fields or name in _ALWAYS_STORED_FIELDS
        }


_SCRIPT_ONLY_FIELDS: Final = ("script_args", "dependencies", "python")
_ALWAYS_STORED_FIELDS: Final = frozenset(
    {"image", "flavor", "timeout", "env", "secrets", "pass_token"}
)


def list_token_variables(spec: Mapping[str, Any]) -> list[str]:
    """Return the names of the secrets whose value is the subject's own token."""
    return [*([TOKEN_VARIABLE] if spec.get("pass_token") else []), *spec.get("token_as", [])]
