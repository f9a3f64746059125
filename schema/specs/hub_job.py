"""What a subject may ask for: the request as it is checked once, stored, and read by a worker.

The rules are the Hub's (names of variables, characters of labels), checked before a handle is made,
so that nothing is queued which can never be launched. Messages say what to write instead.
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

from schema.common.durations import IN_SECONDS, within
from schema.common.name_matching import plain
from schema.specs import script as spec_script
from schema.specs import volumes
from schema.specs.base import Spec
from schema.specs.command import Command
from schema.specs.image import PYTHON, Image
from schema.specs.outputs import MOUNTED_AT, Outputs, Place
from schema.specs.volumes import Volumes

OWN_PREFIX: Final = "HOLDFAST_"
TOKEN_VARIABLE: Final = "HF_TOKEN"  # noqa: S105  # the name of a variable
_ENV_NAME: Final = re.compile(r"[a-zA-Z][_a-zA-Z0-9]+")
_LABEL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,100}")
_LABEL_VALUE: Final = re.compile(r"[a-zA-Z0-9_-]{0,100}")
_NO_LABEL: Final = re.compile(r"[^a-zA-Z0-9_-]+")
_SHOWN: Final = 60
_MOST: Final = 5
"""How much of what is wrong, and how many of them, a message repeats."""
_FLAVOR: Final = re.compile(r"[a-z0-9][a-z0-9-]*")
TOKEN_PLACEHOLDERS: Final = frozenset({"$HF_TOKEN", "${HF_TOKEN}"})
"""What stands for the subject's own token, as the value of a secret."""


def _flavor(flavor: str) -> str:
    named = plain(flavor)
    if not _FLAVOR.fullmatch(named):
        message = f'{flavor[:_SHOWN]!r} is not a hardware flavor; write one such as "cpu-basic"'
        raise ValueError(message)
    return named


def _env(env: dict[str, str]) -> dict[str, str]:
    odd = [name for name in env if not _ENV_NAME.fullmatch(name)]
    if odd:
        message = (
            f"{_named(odd)} not a name the Hub takes: two or more letters, digits or _, the first "
            f"a letter, such as BATCH_SIZE"
        )
        raise ValueError(message)
    if ours := [name for name in env if name.upper().startswith(OWN_PREFIX)]:
        message = f"{_named(ours)} reserved; choose a name that does not start with {OWN_PREFIX}"
        raise ValueError(message)
    if token := [name for name, text in env.items() if text in TOKEN_PLACEHOLDERS]:
        message = (
            f"{_named(token)} readable by others, so no token goes there; give it as "
            f'secrets={{"{token[0][:_SHOWN]}": "$HF_TOKEN"}}'
        )
        raise ValueError(message)
    return env


def _secret_names(names: list[str]) -> list[str]:
    _env(dict.fromkeys(names, ""))
    return sorted(names)


def _labels(labels: dict[str, str]) -> dict[str, str]:
    odd = {
        name: value
        for name, value in labels.items()
        if not _LABEL_NAME.fullmatch(name) or not _LABEL_VALUE.fullmatch(value)
    }
    if odd:
        right = {_as_label(name) or "name": _as_label(value) for name, value in odd.items()}
        message = (
            f"{', '.join(f'{name!r}: {value!r}'[:_SHOWN] for name, value in odd.items())} is not a "
            f"label the Hub takes: up to 100 letters, digits, - or _ on either side; write "
            f"{json.dumps(right)}"
        )
        raise ValueError(message)
    if ours := [name for name in labels if name.lower().startswith("holdfast")]:
        message = f"{_named(ours)} reserved; choose a label that does not start with holdfast"
        raise ValueError(message)
    return labels


def _named(names: list[str]) -> str:
    shown = ", ".join(repr(name[:_SHOWN]) for name in names[:_MOST])
    return f"{shown} {'is' if len(names) == 1 else 'are'}"


def _as_label(text: str) -> str:
    return _NO_LABEL.sub("-", text)[:100].strip("-")


_ASSIGNMENT: Final = re.compile(r"\s*([^=\s]+)=(.*)", re.DOTALL)


def read(given: object) -> object:
    """Return a mapping of texts, if that is what was meant."""
    if isinstance(given, Mapping):
        pairs = cast("Mapping[object, object]", given)
        return {name: _text(value) for name, value in pairs.items()}
    if isinstance(given, list):
        return _assigned(cast("list[object]", given))
    return given


def _assigned(lines: list[object]) -> object:
    found = [_ASSIGNMENT.fullmatch(line) for line in lines if isinstance(line, str)]
    pairs = [(match[1], match[2]) for match in found if match is not None]
    if len(pairs) != len(lines):
        message = 'write an object, such as {"NAME": "value"}'
        raise ValueError(message)
    names = [name for name, _ in pairs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        message = f"{twice[0]} is given more than once; give it once"
        raise ValueError(message)
    return dict(pairs)


def _text(value: object) -> object:
    # As JSON spells them, which is how they were written.
    return json.dumps(value) if isinstance(value, bool | int | float) else value


Flavor = Annotated[str, Field(max_length=64), AfterValidator(_flavor)]
Env = Annotated[dict[str, str], BeforeValidator(read), AfterValidator(_env)]
SecretNames = Annotated[list[str], AfterValidator(_secret_names), Field(max_length=50)]
Labels = Annotated[
    dict[str, str],
    Field(max_length=20),
    BeforeValidator(read),
    AfterValidator(_labels),
]
LONGEST_JOB: Final = timedelta(days=30)
read_job_timeout = within(timedelta(seconds=1), LONGEST_JOB)


_MOST_ATTEMPTS: Final = 100
_GROUP: Final = re.compile(r"[0-9a-f]{24}")


def _group(group: str) -> str:
    if not _GROUP.fullmatch(group):
        message = (
            f"{group[:_SHOWN]!r} is not the id of a resource group: 24 digits and letters a to f, "
            f"as the settings of the organisation show it"
        )
        raise ValueError(message)
    return group


def _once(ports: list[int]) -> list[int]:
    return sorted(set(ports))


Attempts = Annotated[int, Field(ge=1, le=_MOST_ATTEMPTS)]

ResourceGroup = Annotated[str, Field(max_length=100), AfterValidator(_group)]

Port = Annotated[int, Field(ge=1, le=65535)]

Ports = Annotated[list[Port], Field(max_length=20), AfterValidator(_once)]


class HubJobSpec(Spec):
    """A Hugging Face Job: a command, or a script that uv runs, in an image."""

    image: Image
    command: Command | None = None
    script: spec_script.Text | None = None
    """The text of a Python script, or its URL."""
    script_args: spec_script.Arguments = []
    dependencies: spec_script.Requirements = []
    python: spec_script.Python | None = None
    flavor: Flavor = "cpu-basic"
    timeout: Annotated[timedelta, BeforeValidator(read_job_timeout), IN_SECONDS] = timedelta(
        minutes=30
    )
    """Of each attempt."""
    attempts: Attempts = 1
    """How often the Hub starts it, until it succeeds."""
    env: Env = {}
    secrets: SecretNames = []
    """Names only; what they stand for is sealed apart, and wiped after the launch."""
    pass_token: bool = False
    """Whether the command gets the subject's own token, as the secret HF_TOKEN."""
    token_as: SecretNames = []
    """Other secrets that are that token."""
    volumes: Volumes = []
    resource_group_id: ResourceGroup | None = None
    expose: Ports = []
    """Ports of the container that can be reached from outside, with a token."""
    ssh: bool = False
    outputs: Outputs = []
    """What it has to leave behind."""
    outputs_in: Place | None = None
    """Where; set with `outputs`, by us."""

    @model_validator(mode="before")
    @classmethod
    def _one_thing_to_run(cls, given: dict[str, Any]) -> dict[str, Any]:
        chosen = {name for name in ("command", "script") if given.get(name) is not None}
        if len(chosen) > 1:
            message = "command and script are both given; choose one of them"
            raise ValueError(message)
        if not chosen:
            message = "there is nothing to run; give command, and its image, or script"
            raise ValueError(message)
        if "script" in chosen:
            return {"image": spec_script.IMAGE} | given
        given = {"image": PYTHON} | given
        if beside := [name for name in _OF_A_SCRIPT if given.get(name)]:
            message = f"{beside[0]} goes with script, and command is given; write it into command"
            raise ValueError(message)
        return given

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        tokens = token_variables(self.stored())
        if twice := sorted(({*self.secrets, *tokens}) & self.env.keys()):
            message = f"{twice[0]} is both in env and in secrets; give it once"
            raise ValueError(message)
        if self.pass_token and TOKEN_VARIABLE in {*self.secrets, *self.env}:
            message = f"{TOKEN_VARIABLE} is given, and pass_token would set it; choose one of them"
            raise ValueError(message)
        if self.outputs and self.outputs_in is None:  # only when it is run again otherwise
            message = "it was launched without outputs; call launch_job with outputs instead"
            raise ValueError(message)
        if self.outputs and any(_is_mounted_there(each) for each in self.volumes):
            message = f"{MOUNTED_AT} is where outputs go; mount the volume somewhere else"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _fits(self) -> Self:
        spec_script.expect_to_fit(self.packed, self.env)
        return self

    @property
    def packed(self) -> spec_script.Script | None:
        """The script, if it is one."""
        if self.script is None:
            return None
        return spec_script.Script(self.script, self.script_args, self.dependencies, self.python)

    @property
    def title(self) -> str:
        """What it is called if nobody gives it a name."""
        if (script := self.packed) is not None:
            return script.title
        return f"{self.image}: {shlex.join(self.command or [])}"

    def stored(self) -> dict[str, Any]:
        """Return the JSON that is kept: without what is not asked for of what came later.

        So the same request is the same to every release, and what is shown of it stays small.
        """
        asked = self.model_dump(mode="json", exclude_defaults=True)
        whole = super().stored()
        return {name: whole[name] for name in whole if name in asked or name in _ALWAYS}


_OF_A_SCRIPT: Final = ("script_args", "dependencies", "python")
_ALWAYS: Final = frozenset({"image", "flavor", "timeout", "env", "secrets", "pass_token"})


def _is_mounted_there(volume: str) -> bool:
    return f"{volumes.parse(volume).mount}/".startswith(f"{MOUNTED_AT}/")


def token_variables(spec: Mapping[str, Any]) -> list[str]:
    """Name the secrets of a stored request that are the subject's own token."""
    return [*([TOKEN_VARIABLE] if spec.get("pass_token") else []), *spec.get("token_as", [])]
