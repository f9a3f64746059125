"""What does a token say of itself? Read strictly, and held against our name and our clock.

Nothing here is believed yet: only a signature over it makes it true.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schema.common.durations import format_duration
from schema.common.errors import Unauthenticated

_MAX_TIMESTAMP_SECONDS: Final = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
_CLOCK_REMEDY: Final = (
    "If that is not so, set the clocks of this machine and of the authorization server by NTP."
)
_MAX_DISPLAY_CHARACTERS: Final = 320
"""The longest e-mail address."""

_TimestampSeconds = Annotated[float, Field(ge=0, le=_MAX_TIMESTAMP_SECONDS)]


class Claims(BaseModel):
    """The payload of an access token, RFC 9068 and what is usual besides."""

    model_config = ConfigDict(strict=True)

    iss: str
    sub: str = Field(pattern=r"^[^\p{C}]+$", max_length=255)
    aud: str | list[str] = []
    exp: _TimestampSeconds
    nbf: _TimestampSeconds | None = None
    iat: _TimestampSeconds | None = None
    scope: str | None = None
    scp: str | list[str] | None = None
    client_id: str | None = None
    azp: str | None = None
    email: Any = None
    name: Any = None

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """Read a payload.

        Raises:
            Unauthenticated: a claim that is needed is missing, or one is malformed.
        """
        try:
            return cls.model_validate_json(payload)
        except ValidationError as error:
            wrong = {str(entry["loc"][0]) for entry in error.errors() if entry["loc"]}
            raise Unauthenticated(
                f"This token cannot be used: {', '.join(sorted(wrong)) or 'its payload'} is "
                f"missing or malformed. Holdfast needs iss, aud, exp and sub."
            ) from None

    def require_issuer(self, issuer: str) -> None:
        """Refuse what another server issued, letter by letter."""
        if self.iss != issuer:
            slash = _trailing_slash_remark([self.iss], issuer)
            raise Unauthenticated(
                f"This token is from another authorization server: its issuer (iss) must be "
                f"exactly {issuer}{slash}. Sign in there, or correct HOLDFAST_JWT_ISSUER.",
                problem="invalid_issuer",
            )

    def require_audience(self, audience: str) -> None:
        """Refuse what was made for another service, letter by letter (RFC 7519, section 4.1.3)."""
        named = [self.aud] if isinstance(self.aud, str) else self.aud
        if audience not in named:
            raise Unauthenticated(
                f"This token is for another service: its audience (aud) must name exactly "
                f"{audience}{_trailing_slash_remark(named, audience)}. Ask the authorization "
                "server for "
                f"a token for that resource, or correct HOLDFAST_JWT_AUDIENCE.",
                problem="invalid_audience",
            )

    def require_valid_at(self, now: datetime, leeway: timedelta) -> None:
        """Refuse what is over, or has not begun."""
        if now >= self.expires_at + leeway:
            raise Unauthenticated(
                f"This token expired at {_format_time(self.exp)}. Sign in again to get a new one. "
                f"{_CLOCK_REMEDY}",
                problem="token_expired",
            )
        begins = max(self.nbf or 0, self.iat or 0)
        if begins > (now + leeway).timestamp():
            raise Unauthenticated(
                f"This token is not valid before {_format_time(begins)}, and here it is "
                f"{_format_time(now.timestamp())} (give or take {format_duration(leeway)}, "
                "HOLDFAST_JWT_LEEWAY). "
                f"{_CLOCK_REMEDY}",
                problem="not_yet_valid",
            )

    @property
    def expires_at(self) -> datetime:
        """When it is over."""
        return datetime.fromtimestamp(self.exp, UTC)

    @property
    def scopes(self) -> frozenset[str]:
        """What it allows: `scope`, or what some servers call `scp`."""
        given = self.scp if self.scope is None else self.scope
        return frozenset(given.split() if isinstance(given, str) else given or [])


def display_text(claim: object) -> str | None:
    """Return a claim that is only ever shown; nobody is refused for an odd one."""
    return claim if isinstance(claim, str) and 0 < len(claim) <= _MAX_DISPLAY_CHARACTERS else None


def _trailing_slash_remark(actual: list[str], expected: str) -> str:
    alike = expected.rstrip("/") in (name.rstrip("/") for name in actual)
    return " (it differs by a trailing slash)" if alike else ""


def _format_time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
