"""A job as the Hub describes it, read leniently: only its id is needed to know that it exists.

The Hub adds fields and changes their shapes. A description that we half understand must never cost
us the id of something that is running and being paid for, so what cannot be read counts as absent.
"""

from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.alias_generators import to_camel

from schema.db.storable import storable
from schema.jobs.run_tables import Addresses

_LONGEST: Final = 10**9
"""Seconds; more is no length of time that anything ran."""
_LONGEST_URL: Final = 500


def _if_readable(value: object, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None


def _printable(url: str) -> str:
    if not url.isascii() or not url.isprintable() or len(url) > _LONGEST_URL:
        message = "not a URL"
        raise ValueError(message)
    return url


_Text = Annotated[str | None, AfterValidator(storable), WrapValidator(_if_readable)]
_Moment = Annotated[datetime | None, WrapValidator(_if_readable)]
_Address = Annotated[str | None, AfterValidator(_printable), WrapValidator(_if_readable)]
_Addresses = Annotated[
    list[Annotated[str, AfterValidator(_printable)]] | None, WrapValidator(_if_readable)
]
_Texts = Annotated[dict[str, str] | None, WrapValidator(_if_readable)]


class _Described(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="ignore")


class Status(_Described):
    """Where the Hub says the job stands."""

    stage: _Text = None
    message: _Text = None
    cancel_reason: _Text = None
    expose_urls: _Addresses = None
    ssh_url: _Address = None


class Durations(_Described):
    """How long the Hub says it took; it bills what it ran."""

    running_secs: Annotated[
        Annotated[float, Field(ge=0, le=_LONGEST)] | None, WrapValidator(_if_readable)
    ] = None


class Initiator(_Described):
    """Who or what made the Hub create it."""

    type: _Text = None


class RemoteJob(_Described):
    """One job at the Hub."""

    id: Annotated[str, Field(min_length=1)]
    created_at: _Text = None
    """As written: moments of one format sort as text."""
    started_at: _Moment = None
    finished_at: _Moment = None
    durations: Annotated[Durations | None, WrapValidator(_if_readable)] = None
    status: Annotated[Status | None, WrapValidator(_if_readable)] = None
    initiator: Annotated[Initiator | None, WrapValidator(_if_readable)] = None
    labels: _Texts = None
    environment: _Texts = None

    @property
    def stage(self) -> str | None:
        """The stage, in the Hub's words."""
        return self.status.stage if self.status else None

    @property
    def addresses(self) -> Addresses | None:
        """Where it can be reached, if anywhere."""
        told = self.status or Status()
        if not told.expose_urls and told.ssh_url is None:
            return None
        return {"exposed": told.expose_urls or [], "ssh": told.ssh_url}

    @property
    def ran(self) -> timedelta | None:
        """How long it ran, if that is told; what was cancelled may lack the end."""
        if self.durations is not None and self.durations.running_secs is not None:
            return timedelta(seconds=self.durations.running_secs)
        if self.started_at is None or self.finished_at is None:
            return None
        try:
            return max(timedelta(0), self.finished_at - self.started_at)
        except TypeError:  # one of them has no time zone
            return None


LISTING: TypeAdapter[list[RemoteJob]] = TypeAdapter(list[RemoteJob])
JOB: TypeAdapter[RemoteJob] = TypeAdapter(RemoteJob)
