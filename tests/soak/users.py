"""The people of a soak: most have a token that lasts, one has a new one every minute."""

import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from service.local.hub_emulator.users import LocalTokenKind, LocalUser, format_timestamp
from tests.e2e.secret_canary import Canary

_LASTING_NAMES: Final = ("alice", "bob", "dora", "emil", "fritz")
_EXPIRING_NAME: Final = "grace"
TOKEN_LIFETIME: Final = timedelta(seconds=75)
_TOKEN_INTERVAL: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class SoakUser:
    """A person, and the tokens they have one after another."""

    name: str
    tokens: list[LocalUser]
    started_at: float
    """By the monotonic clock, in seconds."""

    @property
    def token(self) -> str:
        """The newest token."""
        elapsed = time.monotonic() - self.started_at
        number = int(elapsed / _TOKEN_INTERVAL.total_seconds())
        return self.tokens[min(number, len(self.tokens) - 1)].token


def make_users(canary: Canary, *, duration: timedelta) -> list[SoakUser]:
    """Make people with tokens for at least so long; each token has the mark of a canary."""
    now, started_at = datetime.now(UTC), time.monotonic()
    expiring_id = secrets.token_hex(12)
    expiring = [
        _make_token(
            _EXPIRING_NAME,
            expiring_id,
            canary,
            expires_at=format_timestamp(now + number * _TOKEN_INTERVAL + TOKEN_LIFETIME),
        )
        for number in range(int(duration / _TOKEN_INTERVAL) + 1)
    ]
    # For what is left when the load is over.
    expiring.append(_make_token(_EXPIRING_NAME, expiring_id, canary))
    return [
        *(
            SoakUser(name, [_make_token(name, secrets.token_hex(12), canary)], started_at)
            for name in _LASTING_NAMES
        ),
        SoakUser(_EXPIRING_NAME, expiring, started_at),
    ]


def _make_token(
    name: str, user_id: str, canary: Canary, *, expires_at: str | None = None
) -> LocalUser:
    kind = LocalTokenKind.OAUTH if expires_at else LocalTokenKind.WRITE
    return LocalUser(
        id=user_id,
        name=name,
        kind=kind,
        token=canary.make_secret(name),
        pays=True,
        orgs=[],
        expires_at=expires_at,
    )
