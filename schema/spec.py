"""What a subject may ask for: the request as it is checked once, stored, and read by a worker.

The rules are the Hub's (names of variables, characters of labels), checked before a handle is made,
so that nothing is queued which can never be launched. Messages say what to write instead.
"""

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

from schema.durations import Duration

OWN_PREFIX: Final = "HOLDFAST_"
TOKEN_VARIABLE: Final = "HF_TOKEN"  # noqa: S105  # the name of a variable
_ENV_NAME: Final = re.compile(r"[a-zA-Z][_a-zA-Z0-9]+")
_LABEL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,100}")
_LABEL_VALUE: Final = re.compile(r"[a-zA-Z0-9_-]{0,100}")
_FLAVOR: Final = re.compile(r"[a-z0-9][a-z0-9-]*")
_OPERATOR: Final = re.compile(r"[();<>|&]+")


def _command(written: object) -> object:
    """Split a command that was written as one string, unless it needs a shell."""
    if not isinstance(written, str):
        return written
    try:
        splitter = shlex.shlex(written, posix=True, punctuation_chars=True)
        splitter.whitespace_split = True
        splitter.commenters = ""
        words = list(splitter)
    except ValueError as error:
        message = f'the quotes do not match ({error}); give a list: ["python", "-c", "print(1)"]'
        raise ValueError(message) from None
    if found := [word for word in words if _OPERATOR.fullmatch(word)]:
        message = (
            f"{found[0]} is for a shell and no shell runs this; "
            f"to use one, give the list {['sh', '-c', written]!r}"
        )
        raise ValueError(message)
    return words


def _no_empty_word(command: list[str]) -> list[str]:
    if not all(command):
        message = "the Hub takes no empty words in a command; leave them out"
        raise ValueError(message)
    return command


def _flavor(flavor: str) -> str:
    if not _FLAVOR.fullmatch(flavor):
        message = f'{flavor!r} is not a hardware flavor; write one such as "cpu-basic"'
        raise ValueError(message)
    return flavor


def _env(env: dict[str, str]) -> dict[str, str]:
    for name in env:
        if not _ENV_NAME.fullmatch(name):
            message = f"{name!r} is not a name the Hub takes: a letter, then letters, digits or _"
            raise ValueError(message)
        if name.upper().startswith(OWN_PREFIX):
            message = f"{name!r} is reserved; choose a name that does not start with {OWN_PREFIX}"
            raise ValueError(message)
    return env


def _secret_names(names: list[str]) -> list[str]:
    _env(dict.fromkeys(names, ""))
    return sorted(names)


def _labels(labels: dict[str, str]) -> dict[str, str]:
    for name, value in labels.items():
        if not _LABEL_NAME.fullmatch(name) or not _LABEL_VALUE.fullmatch(value):
            message = (
                f"{name!r}: {value!r} is not a label the Hub takes: "
                f"up to 100 letters, digits, - or _ on either side"
            )
            raise ValueError(message)
        if name.lower().startswith("holdfast"):
            message = f"{name!r} is reserved; choose a label that does not start with holdfast"
            raise ValueError(message)
    return labels


Command = Annotated[
    list[str], BeforeValidator(_command), AfterValidator(_no_empty_word), Field(min_length=1)
]
Flavor = Annotated[str, AfterValidator(_flavor)]
Env = Annotated[dict[str, str], AfterValidator(_env)]
SecretNames = Annotated[list[str], AfterValidator(_secret_names), Field(max_length=50)]
Labels = Annotated[dict[str, str], AfterValidator(_labels), Field(max_length=20)]


class Spec(BaseModel):
    """What every kind of request has in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def stored(self) -> dict[str, Any]:
        """Return the JSON that is kept, and that the same request gives again."""
        return self.model_dump(mode="json")


class HubJobSpec(Spec):
    """A Hugging Face Job from a Docker image."""

    image: Annotated[str, Field(min_length=1, max_length=500)]
    command: Command
    flavor: Flavor = "cpu-basic"
    timeout: Duration = timedelta(minutes=30)
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


class Message(Spec):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


class InferenceSpec(Spec):
    """One call to Inference Providers."""

    task: Literal["chat-completion"] = "chat-completion"
    model: Annotated[str, Field(min_length=1, max_length=300)]
    messages: Annotated[list[Message], Field(min_length=1)]
    parameters: dict[str, Any] = {}
    provider: Annotated[str | None, Field(pattern=r"^[a-z0-9-]+$")] = None
    timeout: Duration = timedelta(minutes=10)
