"""A job as the Hub describes it, parsed leniently: only its id is required.

The Hub adds fields and changes their shapes. A field that cannot be read counts as absent, because
we must not lose the id of a job that runs and is paid for.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, TypedDict

from pydantic import (
    AfterValidator,
    Field,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from schema.db.storable import to_storable
from schema.hub.client import HubJson

_MAX_RUNNING_SECONDS: Final = 10**9
"""More is not a plausible duration."""
_MAX_URL_CHARS: Final = 500
COPY_INITIATORS: Final = frozenset({"duplicated-job", "scheduled-job"})
"""Initiators whose jobs carry our labels because a person copied them: not ours to count."""


class RemoteAddresses(TypedDict):
    """Where a job can be reached from outside; stored as `schema.jobs.run_tables.RunAddresses`."""

    exposed: list[str]
    ssh: str | None


def _none_if_invalid(value: object, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        return validate(value)
    except ValidationError:
        return None


def _expect_printable_url(url: str) -> str:
    if not url.isascii() or not url.isprintable() or len(url) > _MAX_URL_CHARS:
        message = "not a URL"
        raise ValueError(message)
    return url


def _to_utc(timestamp: datetime) -> datetime:
    """Take a timestamp without a time zone as one in UTC, as all of the Hub's are."""
    if timestamp.tzinfo is None:
        return timestamp.replace(tzinfo=UTC)
    try:
        return timestamp.astimezone(UTC)
    except OverflowError:
        message = "not a plausible time"
        raise ValueError(message) from None


_Text = Annotated[str | None, AfterValidator(to_storable), WrapValidator(_none_if_invalid)]
_Timestamp = Annotated[
    Annotated[datetime, AfterValidator(_to_utc)] | None, WrapValidator(_none_if_invalid)
]
_TIMESTAMP_ADAPTER: TypeAdapter[datetime | None] = TypeAdapter(_Timestamp)
_Url = Annotated[str | None, AfterValidator(_expect_printable_url), WrapValidator(_none_if_invalid)]
_Urls = Annotated[
    list[Annotated[str, AfterValidator(_expect_printable_url)]] | None,
    WrapValidator(_none_if_invalid),
]
_Texts = Annotated[
    list[Annotated[str, AfterValidator(to_storable)]] | None, WrapValidator(_none_if_invalid)
]
_StorableText = Annotated[str, AfterValidator(to_storable)]
_TextMap = Annotated[dict[_StorableText, _StorableText] | None, WrapValidator(_none_if_invalid)]


class RemoteStatus(HubJson):
    """The status of a job at the Hub."""

    stage: _Text = None
    message: _Text = None
    cancel_reason: _Text = None
    expose_urls: _Urls = None
    ssh_url: _Url = None


class Durations(HubJson):
    """Durations of a job by the Hub's clock, in whole seconds."""

    running_secs: Annotated[
        Annotated[float, Field(ge=0, le=_MAX_RUNNING_SECONDS)] | None,
        WrapValidator(_none_if_invalid),
    ] = None


class Initiator(HubJson):
    """The person or mechanism that made the Hub create a job."""

    type: _Text = None


class Creator(HubJson):
    """The person whose token created a job."""

    id: _Text = None


class Exposure(HubJson):
    """The ports of a job that can be reached from outside."""

    ports: list[int] = []


class RemoteVolume(HubJson):
    """A bucket or a repository that a job has mounted."""

    type: _Text = None
    source: _Text = None
    mount_path: _Text = None
    path: _Text = None
    revision: _Text = None
    read_only: bool = False


class ResourceGroup(HubJson):
    """The part of an organisation that pays."""

    id: str


class RemoteJob(HubJson):
    """One job at the Hub."""

    id: Annotated[str, Field(min_length=1)]
    created_at: _Text = None
    """As text: timestamps of one format sort as text."""
    started_at: _Timestamp = None
    finished_at: _Timestamp = None
    durations: Annotated[Durations | None, WrapValidator(_none_if_invalid)] = None
    status: Annotated[RemoteStatus | None, WrapValidator(_none_if_invalid)] = None
    initiator: Annotated[Initiator | None, WrapValidator(_none_if_invalid)] = None
    created_by: Annotated[Creator | None, WrapValidator(_none_if_invalid)] = None
    labels: _TextMap = None
    environment: _TextMap = None
    docker_image: _Text = None
    space_id: _Text = None
    command: _Texts = None
    arguments: _Texts = None
    secrets: _Texts = None
    """Names only."""
    flavor: _Text = None
    timeout: Annotated[
        Annotated[float, Field(gt=0, le=_MAX_RUNNING_SECONDS)] | None,
        WrapValidator(_none_if_invalid),
    ] = None
    """In seconds, of each attempt."""
    retry: Annotated[
        Annotated[int, Field(ge=0, le=1000)] | None, WrapValidator(_none_if_invalid)
    ] = None
    """How often the Hub starts it again."""
    expose: Annotated[Exposure | None, WrapValidator(_none_if_invalid)] = None
    volumes: Annotated[list[RemoteVolume] | None, WrapValidator(_none_if_invalid)] = None
    network: Annotated[dict[str, Any] | None, WrapValidator(_none_if_invalid)] = None
    arch: _Text = None
    resource_group: Annotated[ResourceGroup | None, WrapValidator(_none_if_invalid)] = None

    @property
    def is_copy(self) -> bool:
        """Whether a person, or a schedule of the Hub, has copied another job, with its labels."""
        return self.initiator is not None and self.initiator.type in COPY_INITIATORS

    @property
    def stage(self) -> str | None:
        """The Hub's name of its stage."""
        return self.status.stage if self.status else None

    @property
    def addresses(self) -> RemoteAddresses | None:
        """The addresses it can be reached at; None if there are none."""
        status = self.status or RemoteStatus()
        if not status.expose_urls and status.ssh_url is None:
            return None
        return {"exposed": status.expose_urls or [], "ssh": status.ssh_url}

    @property
    def creation_time(self) -> datetime | None:
        """When it was created, by the Hub's clock, if that can be read."""
        return _TIMESTAMP_ADAPTER.validate_python(self.created_at)

    @property
    def running_time(self) -> timedelta | None:
        """How long it ran by the Hub's clock, if known; a cancelled job may lack the end.

        The Hub rounds its durations down to whole seconds, and bills by the timestamps. So the
        longer of the two counts.
        """
        times = list[timedelta]()
        if self.durations is not None and self.durations.running_secs is not None:
            times.append(timedelta(seconds=self.durations.running_secs))
        if self.started_at is not None and self.finished_at is not None:
            times.append(max(timedelta(0), self.finished_at - self.started_at))
        return max(times, default=None)

    @property
    def time_to_start(self) -> timedelta | None:
        """How long it waited between its creation and its start, by the Hub's clock, if known."""
        created_at = self.creation_time
        if created_at is None or self.started_at is None:
            return None
        return max(timedelta(0), self.started_at - created_at)


JOB_LIST_ADAPTER: TypeAdapter[list[RemoteJob]] = TypeAdapter(list[RemoteJob])
JOB_ADAPTER: TypeAdapter[RemoteJob] = TypeAdapter(RemoteJob)
