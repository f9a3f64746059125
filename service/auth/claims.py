"""Claims of an access token in strict form, and the errors for claims that are refused.

PyJWT compares the times and the audience, but it takes `"9999999999"` or `true` for a time. Nothing
here is believed before the signature has been verified.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schema.common.durations import format_duration
from schema.common.errors import Unauthenticated

_MAX_TIMESTAMP_SECONDS: Final = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
_CLOCK_REMEDY: Final = (
    "If that is not so, set the clocks of this machine and of the authorization server by NTP."
)
_MAX_DISPLAY_CHARS: Final = 320
"""The longest e-mail address."""

_TimestampSeconds = Annotated[float, Field(ge=0, le=_MAX_TIMESTAMP_SECONDS)]


class Claims(BaseModel):
    """The payload of an access token: RFC 9068, and what other servers usually add."""

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
    cnf: Any = None
    email: Any = None
    name: Any = None

    @classmethod
    def parse(cls, payload: Mapping[str, Any]) -> Self:
        """Parse a payload.

        Raises:
            Unauthenticated: a required claim is missing, or a claim is malformed.
        """
        try:
            return cls.model_validate(payload)
        except ValidationError as error:
            names = {str(entry["loc"][0]) for entry in error.errors() if entry["loc"]}
            raise Unauthenticated(
                f"This token cannot be used: {', '.join(sorted(names)) or 'its payload'} is "
                f"missing or malformed. Holdfast needs iss, aud, exp and sub."
            ) from None

    def require_issuer(self, issuer: str) -> None:
        """Refuse the token of another issuer; the names are compared letter by letter.

        Raises:
            Unauthenticated: another server issued it.
        """
        if self.iss != issuer:
            slash = _trailing_slash_remark([self.iss], issuer)
            raise Unauthenticated(
                f"This token is from another authorization server: its issuer (iss) must be "
                f"exactly {issuer}{slash}. Sign in there, or correct HOLDFAST_JWT_ISSUER.",
                problem="invalid_issuer",
            )

    def require_bearer(self) -> None:
        """Refuse a token that is bound to a key of its client (RFC 7800, DPoP, mutual TLS).

        Whoever steals it must not be able to use it, and here no proof of the key is checked.

        Raises:
            Unauthenticated: the token is bound to a key.
        """
        if self.cnf is not None:
            raise Unauthenticated(
                "This token is bound to a key of its client (cnf), and Holdfast checks no proof of "
                "such a key. Have the authorization server issue bearer tokens for this service."
            )

    def audience_error(self, audience: str) -> Unauthenticated:
        """Build the error of a token for another service (RFC 7519, section 4.1.3)."""
        slash = _trailing_slash_remark(self.audiences, audience)
        return Unauthenticated(
            f"This token is for another service: its audience (aud) must name exactly "
            f"{audience}{slash}. Ask the authorization server for a token for that resource, or "
            f"correct HOLDFAST_JWT_AUDIENCE.",
            problem="invalid_audience",
        )

    def expired_error(self) -> Unauthenticated:
        """Build the error of a token that has expired."""
        return Unauthenticated(
            f"This token expired at {_format_time(self.exp)}. Sign in again to get a new one. "
            f"{_CLOCK_REMEDY}",
            problem="token_expired",
        )

    def not_yet_valid_error(self, now: datetime, leeway: timedelta) -> Unauthenticated:
        """Build the error of a token whose `nbf` or `iat` is in the future."""
        valid_from = max(self.nbf or 0, self.iat or 0)
        return Unauthenticated(
            f"This token is not valid before {_format_time(valid_from)}, and here it is "
            f"{_format_time(now.timestamp())} (give or take {format_duration(leeway)}, "
            f"HOLDFAST_JWT_LEEWAY). {_CLOCK_REMEDY}",
            problem="not_yet_valid",
        )

    @property
    def audiences(self) -> list[str]:
        """The services that the token is for."""
        return [self.aud] if isinstance(self.aud, str) else self.aud

    @property
    def expires_at(self) -> datetime:
        """The moment in `exp`."""
        return datetime.fromtimestamp(self.exp, UTC)

    @property
    def scopes(self) -> frozenset[str]:
        """The scopes in `scope`, or in `scp`, as some servers call it; the standard's name wins."""
        scopes = self.scp if self.scope is None else self.scope
        return frozenset(scopes.split() if isinstance(scopes, str) else scopes or [])


def display_text(claim: object) -> str | None:
    """Return a claim that is for display only, or None: nobody is refused for an odd one."""
    return claim if isinstance(claim, str) and 0 < len(claim) <= _MAX_DISPLAY_CHARS else None


def _trailing_slash_remark(actual: list[str], expected: str) -> str:
    differs_by_slash = expected.rstrip("/") in (name.rstrip("/") for name in actual)
    return " (it differs by a trailing slash)" if differs_by_slash else ""


def _format_time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
