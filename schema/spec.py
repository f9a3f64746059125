"""What a subject may ask for: the request as it is checked once, stored, and read by a worker.

The rules are the Hub's (names of variables, characters of labels), checked before a handle is made,
so that nothing is queued which can never be launched. Messages say what to write instead.
"""

import json
import re
import shlex
from datetime import timedelta
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from schema import texts
from schema.commands import Command
from schema.durations import IN_SECONDS, within
from schema.suggestions import plain

OWN_PREFIX: Final = "HOLDFAST_"
TOKEN_VARIABLE: Final = "HF_TOKEN"  # noqa: S105  # the name of a variable
_ENV_NAME: Final = re.compile(r"[a-zA-Z][_a-zA-Z0-9]+")
_LABEL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,100}")
_LABEL_VALUE: Final = re.compile(r"[a-zA-Z0-9_-]{0,100}")
_NO_LABEL: Final = re.compile(r"[^a-zA-Z0-9_-]+")
_SET_BY_US: Final = frozenset({"model", "messages", "stream"})
_SHOWN: Final = 60
_MOST: Final = 5
"""How much of what is wrong, and how many of them, a message repeats."""
_FLAVOR: Final = re.compile(r"[a-z0-9][a-z0-9-]*")


def _image(image: str) -> str:
    image = image.strip()
    if "://" in image or any(letter.isspace() for letter in image):
        message = (
            f"{image[:_SHOWN]!r} is not the name of an image; write one without scheme or spaces, "
            f'such as "python:3.12" or "ghcr.io/astral-sh/uv:python3.12-bookworm"'
        )
        raise ValueError(message)
    return image


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


def _provider(provider: str) -> str:
    named = plain(provider)
    if not _FLAVOR.fullmatch(named):
        message = (
            f'{provider[:_SHOWN]!r} is not a provider; write one such as "groq", or leave it out'
        )
        raise ValueError(message)
    return named


def _parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    if taken := sorted(_SET_BY_US & parameters.keys()):
        message = (
            f"{_named(taken)} not a parameter here: model and inputs are arguments of their own, "
            f"and the answer comes in one piece; leave it out"
        )
        raise ValueError(message)
    return parameters


Image = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_image)]
Flavor = Annotated[str, Field(max_length=64), AfterValidator(_flavor)]
Env = Annotated[dict[str, str], BeforeValidator(texts.read), AfterValidator(_env)]
SecretNames = Annotated[list[str], AfterValidator(_secret_names), Field(max_length=50)]
Labels = Annotated[
    dict[str, str],
    Field(max_length=20),
    BeforeValidator(texts.read),
    AfterValidator(_labels),
]
LONGEST_JOB: Final = timedelta(days=30)
LONGEST_CALL: Final = timedelta(hours=1)
read_job_timeout = within(timedelta(seconds=1), LONGEST_JOB)
read_call_timeout = within(timedelta(seconds=1), LONGEST_CALL)
Model = Annotated[str, Field(min_length=1, max_length=300)]
Provider = Annotated[str, Field(max_length=64), AfterValidator(_provider)]
Task = Literal["chat-completion"]
Parameters = Annotated[dict[str, Any], AfterValidator(_parameters)]


class Spec(BaseModel):
    """What every kind of request has in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def stored(self) -> dict[str, Any]:
        """Return the JSON that is kept, and that the same request gives again."""
        return self.model_dump(mode="json")

    @property
    def title(self) -> str:
        """What it is called if nobody gives it a name."""
        return ""


class OpenSpec(Spec):
    """A request whose rules only its own executor knows."""

    model_config = ConfigDict(extra="allow", frozen=True)


class HubJobSpec(Spec):
    """A Hugging Face Job from a Docker image."""

    image: Image
    command: Command
    flavor: Flavor = "cpu-basic"
    timeout: Annotated[timedelta, BeforeValidator(read_job_timeout), IN_SECONDS] = timedelta(
        minutes=30
    )
    env: Env = {}
    secrets: SecretNames = []
    """Names only; what they stand for is sealed apart, and wiped after the launch."""
    pass_token: bool = False
    """Whether the command gets the subject's own token, as the secret HF_TOKEN."""

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        if twice := sorted(set(self.secrets) & self.env.keys()):
            message = f"{twice[0]} is both in env and in secrets; give it once"
            raise ValueError(message)
        if self.pass_token and TOKEN_VARIABLE in {*self.secrets, *self.env}:
            message = f"{TOKEN_VARIABLE} is given, and pass_token would set it; choose one of them"
            raise ValueError(message)
        return self

    @property
    def title(self) -> str:
        """What it is called if nobody gives it a name."""
        return f"{self.image}: {shlex.join(self.command)}"


class Message(Spec):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


class InferenceSpec(Spec):
    """One call to Inference Providers."""

    task: Task = "chat-completion"
    model: Model
    messages: Annotated[list[Message], Field(min_length=1)]
    parameters: Parameters = {}
    provider: Provider | None = None
    timeout: Annotated[timedelta, BeforeValidator(read_call_timeout), IN_SECONDS] = timedelta(
        minutes=10
    )

    @property
    def title(self) -> str:
        """What it is called if nobody gives it a name: no prompt, for titles are counted by."""
        return self.model
