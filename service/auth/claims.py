"""What does a token say of itself? Read strictly, and held against our name and our clock.

Nothing here is believed yet: only a signature over it makes it true.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schema.common.durations import say
from schema.common.errors import Unauthenticated

_LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
_CLOCKS: Final = (
    "If that is not so, set the clocks of this machine and of the authorization server by NTP."
)
_SPOKEN: Final = 320
"""The longest e-mail address."""

_Time = Annotated[float, Field(ge=0, le=_LATEST)]


class Claims(BaseModel):
    """The payload of an access token, RFC 9068 and what is usual besides."""

    model_config = ConfigDict(strict=True)

    iss: str
    sub: str = Field(pattern=r"^[^\p{C}]+$", max_length=255)
    aud: str | list[str] = []
    exp: _Time
    nbf: _Time | None = None
    iat: _Time | None = None
    scope: str | None = None
    scp: str | list[str] | None = None
    client_id: str | None = None
    azp: str | None = None
    email: Any = None
    name: Any = None

    @classmethod
    def read(cls, payload: bytes) -> Self:
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

    def must_be_from(self, issuer: str) -> None:
        """Refuse what another server issued, letter by letter."""
        if self.iss != issuer:
            slash = _but_for_a_slash([self.iss], issuer)
            raise Unauthenticated(
                f"This token is from another authorization server: its issuer (iss) must be "
                f"exactly {issuer}{slash}. Sign in there, or correct HOLDFAST_JWT_ISSUER.",
                problem="invalid_issuer",
            )

    def must_be_for(self, audience: str) -> None:
        """Refuse what was made for another service, letter by letter (RFC 7519, section 4.1.3)."""
        named = [self.aud] if isinstance(self.aud, str) else self.aud
        if audience not in named:
            raise Unauthenticated(
                f"This token is for another service: its audience (aud) must name exactly "
                f"{audience}{_but_for_a_slash(named, audience)}. Ask the authorization server for "
                f"a token for that resource, or correct HOLDFAST_JWT_AUDIENCE.",
                problem="invalid_audience",
            )

    def must_be_valid(self, now: datetime, leeway: timedelta) -> None:
        """Refuse what is over, or has not begun."""
        if now >= self.expires_at + leeway:
            raise Unauthenticated(
                f"This token expired at {_said(self.exp)}. Sign in again to get a new one. "
                f"{_CLOCKS}",
                problem="token_expired",
            )
        begins = max(self.nbf or 0, self.iat or 0)
        if begins > (now + leeway).timestamp():
            raise Unauthenticated(
                f"This token is not valid before {_said(begins)}, and here it is "
                f"{_said(now.timestamp())} (give or take {say(leeway)}, HOLDFAST_JWT_LEEWAY). "
                f"{_CLOCKS}",
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


def spoken(claim: object) -> str | None:
    """Return a claim that is only ever shown; nobody is refused for an odd one."""
    return claim if isinstance(claim, str) and 0 < len(claim) <= _SPOKEN else None


def _but_for_a_slash(named: list[str], expected: str) -> str:
    alike = expected.rstrip("/") in (name.rstrip("/") for name in named)
    return " (it differs by a trailing slash)" if alike else ""


def _said(time: float) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S} UTC"
