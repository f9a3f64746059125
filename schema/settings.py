"""Settings of both processes, read from the environment once in each composition root."""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    HttpUrl,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from schema.accounts.vault import Vault
from schema.common.durations import Duration, format_duration
from schema.common.errors import Invalid
from schema.common.http import DEFAULT_PORT, SUBDOMAIN_PLACEHOLDER, is_secure_url, loopback_aliases
from schema.common.money import to_micro_usd
from schema.common.name_matching import did_you_mean
from schema.common.urls.postgres import check_postgres_url
from schema.common.urls.redis import check_redis_url
from schema.specs.validation_errors import describe_problem

DEFAULT_LOG_BYTES: Final = 64 * 1024 * 1024
"""Bytes that are kept of the log of a job: one half from its beginning, the other from its end."""

_ENV_PREFIX = "HOLDFAST_"
_OTHER_VARIABLES: Final = frozenset(
    f"{_ENV_PREFIX}{name}"
    for name in ("VENV", "BOOTSTRAPPED", "POSTGRES_BIN", "VALKEY_BIN", "RECORD_INTEROP")
)
"""Variables of the command line and of the tests, which are no settings of the processes."""
_SPACE_HOST: Final = "SPACE_HOST"
"""What a Space at Hugging Face has, and nothing else: the host at which it is reached."""
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}
_KINDS: Final = ("hub_job", "inference", "batch", "space_call")
_RETENTION_FIELDS: Final = {kind: f"retention_{kind}" for kind in _KINDS}
"""The settings of the kinds of job; an executor of somebody else's has the general one."""
_ORIGIN: Final = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?/?")


MaxActive = Annotated[int, Field(ge=1, le=100_000)]
"""How many jobs may run at a time."""


_ScopeToken = Annotated[str, Field(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+$", max_length=200)]
"""The name of a scope (RFC 6749, section 3.3)."""


class Settings(BaseSettings):
    """All settings of both processes; a duration is `30`, `"30s"` or `"5m"`."""

    model_config = SettingsConfigDict(env_prefix=_ENV_PREFIX, frozen=True, extra="ignore")

    database_url: Annotated[
        str,
        AfterValidator(check_postgres_url),
        Field(validation_alias=AliasChoices(f"{_ENV_PREFIX}DATABASE_URL", "DATABASE_URL")),
    ]
    """The Postgres that holds all state."""
    pooled: bool = False
    """Whether a pooler such as PgBouncer stands before Postgres, in transaction mode."""
    database_connections: Annotated[int, Field(ge=1, le=1000)] = 10
    """How many connections a process keeps open to Postgres, or to the pooler."""
    redis_url: Annotated[
        str,
        AfterValidator(check_redis_url),
        Field(validation_alias=AliasChoices(f"{_ENV_PREFIX}REDIS_URL", "REDIS_URL")),
    ]
    """For wake-ups; losing what is in it delays jobs by one sweep."""
    hub_url: HttpUrl = HttpUrl("https://huggingface.co")
    router_url: HttpUrl = HttpUrl("https://router.huggingface.co")
    spaces_url: str = f"https://{SUBDOMAIN_PLACEHOLDER}.hf.space"
    """The address of a Space, with a placeholder; a caller's token is sent there."""
    public_url: HttpUrl = HttpUrl(f"http://127.0.0.1:{DEFAULT_PORT}")
    """The URL of the service for clients: in metadata, and as the Host and Origin they may send."""
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins whose pages may call the service, besides its own and those of this machine."""
    anonymous: Literal["refuse", "browse"] = "browse"
    """Whether a client without a token may look around, or has to sign in at once."""
    auth: Literal["huggingface", "jwt"] = "huggingface"
    """Who authenticates a caller: the Hub, or the signature of an authorization server."""
    jwt_issuer: str | None = None
    """The issuer, spelled exactly as in the tokens and the metadata of that server."""
    jwt_audience: Annotated[str, Field(min_length=1)] | None = None
    """The audience that its tokens must have; unset: the URL of our MCP endpoint."""
    jwt_jwks_url: str | None = None
    """The URL of its keys; unset: as its metadata says."""
    jwt_plain_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Hosts of that server that are reached without TLS, on a network of the operator's own."""
    jwt_leeway: Annotated[Duration, Field(le=timedelta(minutes=5))] = timedelta(seconds=30)
    """How far its clock may differ from ours."""
    jwt_scopes: Annotated[dict[Literal["jobs", "inference-api"], _ScopeToken], NoDecode] = {}
    """What that server calls the scopes to launch; each has its own name unless it is here."""
    required_scopes: Annotated[tuple[_ScopeToken, ...], NoDecode] = ()
    """The scopes of that server without which a token is for nothing here."""
    oauth_client_id: str | None = None
    """An application at the authorization server, for clients that cannot register there."""
    oauth_client_secret: SecretStr | None = None
    """Its secret, if it has one; no client gets it."""
    oauth_metadata: dict[str, Any] = {}
    """JSON: metadata that count instead of those of the authorization server, or besides."""
    hf_oauth_client_id: str | None = None
    """An application at the Hub, by which people sign in on our pages, or connect their account."""
    hf_oauth_client_secret: SecretStr | None = None
    """Its secret, if it has one."""
    hf_oauth_scopes: Annotated[tuple[_ScopeToken, ...], NoDecode] = (
        *("openid", "profile", "jobs", "inference-api", "contribute-repos", "read-repos"),
    )
    """What a person is asked to grant at the Hub, where an application of the operator's asks."""
    vault_keys: SecretStr
    """The keys of the vault, `ID:BASE64,…` of 32 bytes each; the first seals, all open."""
    data_dir: str = ".holdfast"
    """The folder in which the local stack keeps the data of its servers."""
    lease: Duration = timedelta(seconds=90)
    """How long a worker may be silent before another takes over its work."""
    post_timeout: Duration = timedelta(seconds=30)
    """How long a create request may take, from its first byte to the end of the response."""
    turn: Duration = timedelta(minutes=1)
    """How long a batch may keep its slot while others wait for one; it goes on in its next turn."""
    settle: Duration = timedelta(minutes=10)
    """How long a create request may turn out to have been carried out although no run is listed."""
    sweep: Duration = timedelta(seconds=1)
    """How often a worker looks for jobs whose wake-up was lost."""
    observe_min: Duration = timedelta(seconds=2)
    """How often a young remote run is polled."""
    observe_max: Duration = timedelta(seconds=60)
    """How often an old one is polled."""
    unknown: Literal["fail", "relaunch"] | None = None
    """What happens to a launch that was never confirmed; unset: only CPU flavors are relaunched."""
    scheduling_deadline: Duration = timedelta(hours=24)
    """How long the Hub may leave a job waiting for hardware."""
    run_slack: Duration = timedelta(minutes=10)
    """How long after its own timeout a remote run may still be reported as running."""
    bucket: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")] = "holdfast"
    """The name of the private bucket for outputs, in the namespace that runs the job."""
    outputs_patience: Duration = timedelta(seconds=60)
    """How long the outputs of a completed job may still be in transfer."""
    queue_deadline: Duration = timedelta(days=7)
    """How long a job may wait for something that only its subject can give, mostly a token."""
    calls_per_minute: Annotated[int, Field(ge=0)] = 600
    """How often a subject may call, over all replicas; 0 is without limit."""
    open_jobs: Annotated[int, Field(ge=1)] = 1000
    """How many unfinished jobs a subject may have at a time."""
    max_active: MaxActive = 100
    """How many of them may run at a time, unless the subject has a limit of their own."""
    max_active_hub_job: MaxActive | None = None
    """The same of one kind of job; unset: as many as of all kinds together."""
    max_active_inference: MaxActive | None = None
    max_active_batch: MaxActive | None = None
    max_active_space_call: MaxActive | None = None
    waits: Annotated[int, Field(ge=1)] = 50
    """How many calls of a subject may wait at a time, over all replicas."""
    monthly_budget_usd: Annotated[Decimal, Field(ge=0, le=1_000_000_000)] | None = None
    """What the jobs of a subject may cost in a calendar month (UTC); unset: without limit."""
    metrics_token: SecretStr | None = None
    """The bearer token for `/metrics` of the service; unset: there is no such page."""
    worker_metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The port at which a worker serves its metrics; unset: at none."""
    worker_metrics_host: str = "127.0.0.1"
    """The address of this machine at which it does."""
    otlp_endpoint: Annotated[
        HttpUrl | None,
        BeforeValidator(lambda url: url or None),
        Field(
            validation_alias=AliasChoices(
                f"{_ENV_PREFIX}OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"
            )
        ),
    ] = None
    """The base URL of a collector for traces, by OTLP over HTTP; unset: no traces are made."""
    failpoint: str | None = None
    """Where a crash test ends this process; see `schema.common.failpoints`."""
    call_bytes: Annotated[int, Field(ge=1024 * 1024, le=200 * 1024 * 1024)] = 20 * 1024 * 1024
    """How many bytes the input or the result of a call may have."""
    upload_bytes: Annotated[int, Field(ge=1024 * 1024, le=1024**3)] = 200 * 1024**2
    """How many bytes one upload may have."""
    upload_total_bytes: Annotated[int, Field(ge=1024 * 1024)] = 1024**3
    """How many bytes all uploads of a subject may have at a time."""
    uploads: Annotated[int, Field(ge=1)] = 100
    """How many uploads a subject may have at a time, sent or still to be sent."""
    log_bytes: Annotated[int, Field(ge=1024 * 1024)] = DEFAULT_LOG_BYTES
    """Bytes that are kept of the log of a job: one half its beginning, the other its end."""
    webhook_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins that webhooks may go to besides the public web; for development, and own networks."""
    webhook_timeout: Annotated[Duration, Field(le=timedelta(minutes=2))] = timedelta(seconds=15)
    """How long the receiver of a webhook may take to answer."""
    webhook_retry: Annotated[Duration, Field(le=timedelta(hours=1))] = timedelta(seconds=5)
    """The pause after the first failure to deliver a webhook; each is twice the one before."""
    webhook_deadline: Duration = timedelta(days=3)
    """How long after the end of a job its webhook is sent again."""
    retention: Duration = timedelta(days=30)
    """How long a finished job can still be read, unless its kind has a period of its own."""
    retention_hub_job: Duration | None = None
    retention_inference: Duration | None = None
    retention_batch: Duration | None = None
    retention_space_call: Duration | None = None
    retention_upload: Duration = timedelta(days=7)
    """How long an upload is there after it was sent; for longer while a job needs it."""
    retention_firing: Duration | None = None
    """How long it is shown what became of each time of a schedule; unset: as `retention`."""
    retention_audit: Duration = timedelta(days=365)
    """How long entries of the audit are kept."""
    retention_spending: Duration = timedelta(days=730)
    """How long sums of usage and cost are kept, also of jobs that were deleted long before."""

    @field_validator("vault_keys")
    @classmethod
    def _check_vault_keys(cls, vault_keys: SecretStr) -> SecretStr:
        Vault.from_key_ring(vault_keys.get_secret_value())
        return vault_keys

    @field_validator("metrics_token")
    @classmethod
    def _check_metrics_token_is_long(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and not re.fullmatch(r"[\x21-\x7e]{16,200}", token.get_secret_value()):
            message = (
                "write 16 to 200 letters, digits and signs, such as `openssl rand -hex 32` does"
            )
            raise ValueError(message)
        return token

    @field_validator("allowed_origins", "webhook_origins", mode="before")
    @classmethod
    def _parse_allowed_origins(cls, origins: str | tuple[str, ...]) -> tuple[str, ...]:
        separate = re.split(r"[\s,]+", origins.strip()) if isinstance(origins, str) else origins
        return tuple(_normalize_origin(origin) for origin in separate if origin)

    @field_validator("jwt_scopes", mode="before")
    @classmethod
    def _parse_jwt_scopes(cls, pairs: str | dict[str, str]) -> dict[str, str]:
        if not isinstance(pairs, str):
            return pairs
        separate = [pair.partition("=") for pair in re.split(r"[\s,]+", pairs.strip()) if pair]
        if not all(name for _, _, name in separate):
            message = "write jobs=NAME, inference-api=NAME, or both with a comma between them"
            raise ValueError(message)
        return {scope: name for scope, _, name in separate}

    @field_validator("required_scopes", "jwt_plain_hosts", "hf_oauth_scopes", mode="before")
    @classmethod
    def _parse_words(cls, words: str | tuple[str, ...]) -> tuple[str, ...]:
        separate = re.split(r"[\s,]+", words.strip()) if isinstance(words, str) else words
        return tuple(word for word in separate if word)

    @model_validator(mode="after")
    def _check_jwt_urls_are_secure(self) -> Self:
        for name in ("jwt_issuer", "jwt_jwks_url"):
            url = getattr(self, name)
            if url is not None and not is_secure_url(url, plain_hosts=self.jwt_plain_hosts):
                message = (
                    f"{_env_name(name)} has to be an https:// URL, or http:// on this machine, "
                    f"without user or fragment. {_env_name('jwt_plain_hosts')} allows http:// to a "
                    f"host of your own network"
                )
                raise ValueError(message)
        return self

    @field_validator("spaces_url")
    @classmethod
    def _check_spaces_url_template(cls, url: str) -> str:
        if SUBDOMAIN_PLACEHOLDER not in url or not is_secure_url(
            url.replace(SUBDOMAIN_PLACEHOLDER, "a")
        ):
            message = (
                f"write {SUBDOMAIN_PLACEHOLDER} into an https:// URL, or http:// on this machine"
            )
            raise ValueError(message)
        return url

    @field_validator("jwt_issuer")
    @classmethod
    def _check_issuer_has_no_query(cls, issuer: str | None) -> str | None:
        if issuer is not None and "?" in issuer:
            message = "an issuer has no query (RFC 8414, section 2)"
            raise ValueError(message)
        return issuer

    @model_validator(mode="after")
    def _check_jwt_has_issuer(self) -> Self:
        if self.auth == "jwt" and self.jwt_issuer is None:
            message = (
                f"{_env_name('auth')}=jwt needs {_env_name('jwt_issuer')}, the authorization server"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _check_connecting_has_sign_in(self) -> Self:
        needs = self.auth == "huggingface" or self.oauth_client_id is not None
        if self.hf_oauth_client_id is not None and not needs:
            message = (
                f"with {_env_name('auth')}=jwt a person signs in at that server first, so "
                f"{_env_name('hf_oauth_client_id')} needs {_env_name('oauth_client_id')} as well"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _check_durations_in_order(self) -> Self:
        for shorter, longer in (
            ("post_timeout", "lease"),
            ("post_timeout", "settle"),
            ("observe_min", "observe_max"),
            *(
                (period, longer)
                for period in ("retention", *_RETENTION_FIELDS.values())
                for longer in ("retention_audit", "retention_spending")
                if getattr(self, period) is not None
            ),
        ):
            if getattr(self, shorter) > getattr(self, longer):
                message = (
                    f"{_env_name(shorter)} ({format_duration(getattr(self, shorter))}) must not "
                    f"exceed {_env_name(longer)} ({format_duration(getattr(self, longer))})"
                )
                raise ValueError(message)
        return self

    @property
    def connects_accounts(self) -> bool:
        """Whether people connect their account at the Hub with a sign-in at another server."""
        return self.auth == "jwt" and self.hf_oauth_client_id is not None

    @property
    def max_active_by_kind(self) -> dict[str, int]:
        """How many jobs of a subject may run at a time, of the kinds with such a limit."""
        limits = {kind: getattr(self, f"max_active_{kind}") for kind in _KINDS}
        return {kind: limit for kind, limit in limits.items() if limit is not None}

    @property
    def retention_by_kind(self) -> dict[str, timedelta]:
        """The retention of the kinds of job that have one of their own."""
        return {
            kind: period
            for kind, field in _RETENTION_FIELDS.items()
            if (period := getattr(self, field)) is not None
        }

    def retention_of(self, kind: str) -> timedelta:
        """Return how long a finished job of a kind is kept."""
        return self.retention_by_kind.get(kind, self.retention)

    @property
    def token_audiences(self) -> tuple[str, ...]:
        """The audiences of which a token of the authorization server must have one.

        Unless one is set they are the URL of the MCP endpoint, on this machine under each name of
        it; the first is what refusals name.
        """
        if self.jwt_audience is not None:
            return (self.jwt_audience,)
        return loopback_aliases(f"{str(self.public_url).rstrip('/')}/mcp")

    @property
    def trace_collector(self) -> str | None:
        """The base URL of the collector for traces; None if there is none."""
        return None if self.otlp_endpoint is None else str(self.otlp_endpoint)

    @property
    def monthly_budget_micro_usd(self) -> int | None:
        """The budget of a month, in millionths of a dollar."""
        return None if self.monthly_budget_usd is None else to_micro_usd(self.monthly_budget_usd)

    @classmethod
    def from_env(cls, overrides: Mapping[str, str] | None = None) -> Self:
        """Read the settings from the environment.

        Args:
            overrides: variables that count instead of those of the environment.

        Raises:
            Invalid: with a line for each missing or wrong variable.
        """
        values = {
            # A field that takes two variables is known by their names alone.
            name if field.validation_alias else key: overrides[name]
            for key, field in cls.model_fields.items()
            if overrides and (name := _env_name(key)) in overrides
        }
        set_already = {name.upper() for name in (*os.environ, *(overrides or {}))}
        values |= {
            key: value
            for key, value in _read_space_variables(os.environ).items()
            if _env_name(key) not in set_already
        }
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            # Never the value: a mistyped key or password must not be repeated in a log.
            lines = [
                f"  {_format_location(entry['loc'])}{describe_problem(entry)}{_url_hint(entry)}"
                for entry in error.errors(include_url=False, include_input=False)
            ]
            raise Invalid("\n".join(["The configuration cannot be used:", *lines])) from None


def _read_space_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that a Space gives: where it is reached, and its application at the Hub.

    Without an authorization server of the operator's, clients sign in through that application.
    With one, people connect their account by it. Elsewhere its variables mean something else.
    """
    host = environment.get(_SPACE_HOST, "")
    if not host:
        return {}
    is_external = environment.get(_env_name("auth"), "").lower() == "jwt"
    prefix = "hf_oauth" if is_external else "oauth"
    settings = {
        "public_url": f"https://{host}",
        "hub_url": environment.get("OPENID_PROVIDER_URL", ""),
        f"{prefix}_client_id": environment.get("OAUTH_CLIENT_ID", ""),
        f"{prefix}_client_secret": environment.get("OAUTH_CLIENT_SECRET", ""),
        "hf_oauth_scopes": environment.get("OAUTH_SCOPES", ""),
    }
    return {name: value for name, value in settings.items() if value}


def describe_unknown_variables() -> list[str]:
    """Say which variables look like settings and are none, with the one that was meant."""
    known = {_env_name(field) for field in Settings.model_fields} | _OTHER_VARIABLES
    return [
        f"{name} is no setting. {did_you_mean(name, known)}".strip()
        for name in sorted(os.environ)
        if name.upper().startswith(_ENV_PREFIX) and name.upper() not in known
    ]


def _url_hint(entry: ErrorDetails) -> str:
    """Say how a URL is written, to whoever has left out its scheme."""
    if not entry["type"].startswith("url_"):
        return ""
    return "; write the whole URL, such as https://host.example"


def _format_location(path: tuple[int | str, ...]) -> str:
    return f"{_env_name(str(path[0]))}: " if path else ""


def _env_name(field: str) -> str:
    return f"{_ENV_PREFIX}{field.removeprefix(_ENV_PREFIX).upper()}"


def _normalize_origin(origin: str) -> str:
    """Write an origin as browsers send it: in lower case, and without the default port."""
    match = _ORIGIN.fullmatch(origin.lower())
    if match is None:
        message = "write origins such as https://inspector.example, with commas between them"
        raise ValueError(message)
    scheme, host, port = match.groups(default="")
    return f"{scheme}://{host}{'' if port == _DEFAULT_PORTS.get(scheme) else port}"
