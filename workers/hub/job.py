"""A job as the Hub describes it, read leniently: only its id is needed to know that it exists.

The Hub adds fields and changes their shapes. A description that we half understand must never cost
us the id of something that is running and being paid for, so what cannot be read counts as absent.
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
"""Seconds; more is no length of time that anything ran."""
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
    """Where the Hub says the job stands."""

    stage: _Text = None
    message: _Text = None
    cancel_reason: _Text = None
    expose_urls: _Urls = None
    ssh_url: _Url = None


class Durations(HubJson):
    """How long the Hub says it took; it bills what it ran."""

    running_secs: Annotated[
        Annotated[float, Field(ge=0, le=_MAX_RUNNING_SECONDS)] | None,
        WrapValidator(_none_if_invalid),
    ] = None


class Initiator(HubJson):
    """Who or what made the Hub create it."""

    type: _Text = None


class RemoteJob(HubJson):
    """One job at the Hub."""

    id: Annotated[str, Field(min_length=1)]
    created_at: _Text = None
    """As written: moments of one format sort as text."""
    started_at: _Timestamp = None
    finished_at: _Timestamp = None
    durations: Annotated[Durations | None, WrapValidator(_none_if_invalid)] = None
    status: Annotated[RemoteStatus | None, WrapValidator(_none_if_invalid)] = None
    initiator: Annotated[Initiator | None, WrapValidator(_none_if_invalid)] = None
    labels: _TextMap = None
    environment: _TextMap = None

    @property
    def stage(self) -> str | None:
        """The stage, in the Hub's words."""
        return self.status.stage if self.status else None

    @property
    def addresses(self) -> RunAddresses | None:
        """Where it can be reached, if anywhere."""
        told = self.status or RemoteStatus()
        if not told.expose_urls and told.ssh_url is None:
            return None
        return {"exposed": told.expose_urls or [], "ssh": told.ssh_url}

    @property
    def running_time(self) -> timedelta | None:
        """How long it ran, if that is told; what was cancelled may lack the end."""
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
