"""Configuration, read from the environment once in each composition root."""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import (
    AliasChoices,
    Field,
    HttpUrl,
    PostgresDsn,
    RedisDsn,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from schema.durations import Duration, say
from schema.errors import Invalid
from schema.vault import Vault

_PREFIX = "HOLDFAST_"


class Settings(BaseSettings):
    """Every knob of both processes; durations read `30`, `"30s"` or `"5m"`."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="ignore")

    database_url: Annotated[
        PostgresDsn, Field(validation_alias=AliasChoices(f"{_PREFIX}DATABASE_URL", "DATABASE_URL"))
    ]
    """Where the truth is."""
    redis_url: Annotated[
        RedisDsn, Field(validation_alias=AliasChoices(f"{_PREFIX}REDIS_URL", "REDIS_URL"))
    ]
    """Where the doorbell hangs; losing what is in it costs one sweep."""
    hub_url: HttpUrl = HttpUrl("https://huggingface.co")
    router_url: HttpUrl = HttpUrl("https://router.huggingface.co")
    public_url: HttpUrl = HttpUrl("http://127.0.0.1:8765")
    """How clients reach the service: in metadata, and the Host and Origin they may send."""
    auth: Literal["huggingface"] = "huggingface"
    """Who vouches for a caller."""
    anonymous: Literal["refuse", "browse"] = "refuse"
    """Whether somebody who has not signed in may list the tools, or is sent to sign in at once."""
    vault_keys: SecretStr
    """The key ring, `ID:BASE64,…` of 32 bytes each; the first seals, all open."""
    data_dir: str = ".holdfast"
    """Where the local stack keeps its servers' data."""
    lease: Duration = timedelta(seconds=90)
    """How long a worker may be silent before another takes its work over."""
    post_timeout: Duration = timedelta(seconds=30)
    """How long a create request may take, from its first byte to the end of its answer."""
    settle: Duration = timedelta(minutes=10)
    """How long an unlisted create request may still turn out to have been carried out."""
    sweep: Duration = timedelta(seconds=1)
    """How often a worker looks for what no wake told it about."""
    observe_min: Duration = timedelta(seconds=2)
    """How often young remote runs are looked at."""
    observe_max: Duration = timedelta(seconds=60)
    """How often old ones are."""
    unknown: Literal["fail", "relaunch"] | None = None
    """What becomes of a launch that was never confirmed; unset, only CPU flavors are relaunched."""
    scheduling_deadline: Duration = timedelta(hours=24)
    """How long the Hub may leave a job waiting for hardware."""
    run_slack: Duration = timedelta(minutes=10)
    """How long past its own timeout a remote run may be said to be running."""
    queue_deadline: Duration = timedelta(days=7)
    """How long a job may wait for what only its subject can give: a token, mostly."""
    calls_per_minute: Annotated[int, Field(ge=0)] = 600
    """How often a subject may call, over all replicas; 0 is as often as they like."""
    open_jobs: Annotated[int, Field(ge=1)] = 1000
    """How many unfinished jobs a subject may have at a time."""
    failpoint: str | None = None
    """Where a crash test ends this process; see `schema.failpoints`."""
    retention: Duration = timedelta(days=30)
    """How long a finished job can still be read."""

    @field_validator("vault_keys")
    @classmethod
    def _ring_is_readable(cls, ring: SecretStr) -> SecretStr:
        Vault.of(ring.get_secret_value())
        return ring

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for shorter, longer in (
            ("post_timeout", "lease"),
            ("post_timeout", "settle"),
            ("observe_min", "observe_max"),
        ):
            if getattr(self, shorter) > getattr(self, longer):
                message = (
                    f"{_name(shorter)} ({say(getattr(self, shorter))}) must not exceed "
                    f"{_name(longer)} ({say(getattr(self, longer))})"
                )
                raise ValueError(message)
        return self

    @classmethod
    def read(cls) -> Self:
        """Read the environment.

        Raises:
            Invalid: with a line for each variable that is missing or wrong.
        """
        try:
            return cls.model_validate({})
        except ValidationError as error:
            # Never the input: a mistyped key or password is not to be repeated in a log.
            wrong = error.errors(include_url=False)
            lines = [f"  {_location(entry['loc'])}{entry['msg']}" for entry in wrong]
            raise Invalid("\n".join(["The configuration cannot be used:", *lines])) from None


def _location(path: tuple[int | str, ...]) -> str:
    return f"{_name(str(path[0]))}: " if path else ""


def _name(field: str) -> str:
    return f"{_PREFIX}{field.removeprefix(_PREFIX).upper()}"
