"""A job as the Hub describes it, parsed leniently: only its id is required.

The Hub adds fields and changes their shapes. A field that cannot be read counts as absent, because
we must not lose the id of a job that runs and is paid for.
"""

from datetime import datetime, timedelta
from typing import Annotated, Any, Final

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
from schema.jobs.run_tables import RunAddresses

_MAX_RUNNING_SECONDS: Final = 10**9
"""More is not a plausible duration."""
_MAX_URL_CHARS: Final = 500


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


_Text = Annotated[str | None, AfterValidator(to_storable), WrapValidator(_none_if_invalid)]
_Timestamp = Annotated[datetime | None, WrapValidator(_none_if_invalid)]
_Url = Annotated[str | None, AfterValidator(_expect_printable_url), WrapValidator(_none_if_invalid)]
_Urls = Annotated[
    list[Annotated[str, AfterValidator(_expect_printable_url)]] | None,
    WrapValidator(_none_if_invalid),
]
_TextMap = Annotated[dict[str, str] | None, WrapValidator(_none_if_invalid)]


class RemoteStatus(HubJson):
    """The status of a job at the Hub."""

    stage: _Text = None
    message: _Text = None
    cancel_reason: _Text = None
    expose_urls: _Urls = None
    ssh_url: _Url = None


class Durations(HubJson):
    """Durations of a job by the Hub's clock; it bills the running time."""

    running_secs: Annotated[
        Annotated[float, Field(ge=0, le=_MAX_RUNNING_SECONDS)] | None,
        WrapValidator(_none_if_invalid),
    ] = None


class Initiator(HubJson):
    """The person or mechanism that made the Hub create a job."""

    type: _Text = None


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
    labels: _TextMap = None
    environment: _TextMap = None

    @property
    def stage(self) -> str | None:
        """The Hub's name of its stage."""
        return self.status.stage if self.status else None

    @property
    def addresses(self) -> RunAddresses | None:
        """The addresses it can be reached at; None if there are none."""
        status = self.status or RemoteStatus()
        if not status.expose_urls and status.ssh_url is None:
            return None
        return {"exposed": status.expose_urls or [], "ssh": status.ssh_url}

    @property
    def running_time(self) -> timedelta | None:
        """How long it ran, if known; a cancelled job may lack the end."""
        if self.durations is not None and self.durations.running_secs is not None:
            return timedelta(seconds=self.durations.running_secs)
        if self.started_at is None or self.finished_at is None:
            return None
        try:
            return max(timedelta(0), self.finished_at - self.started_at)
        except TypeError:  # one of them has no time zone
            return None


JOB_LIST_ADAPTER: TypeAdapter[list[RemoteJob]] = TypeAdapter(list[RemoteJob])
JOB_ADAPTER: TypeAdapter[RemoteJob] = TypeAdapter(RemoteJob)
