"""The users of the emulated Hub, with every kind of token that the Hub issues.

The tokens are random and kept in a private file. With a well-known token, any page in a browser
could run commands on this machine through the loopback address.
"""

import json
import secrets
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal

from service.local.data_dir import read_or_create_private_file
from service.local.hub_emulator.shared.clock import read_clock

_USERS_FILE: Final = "users.json"
_SESSION_LIFETIME: Final = timedelta(hours=8)
_ACME: Final = "acme"
ORG_IDS: Final = {_ACME: "a" * 24}
"""The id of each organisation, by name."""
AVATAR_PATH: Final = "/avatars/local.svg"


class LocalTokenKind(StrEnum):
    """The kinds of tokens, in the Hub's words."""

    WRITE = "write"
    READ = "read"
    FINE_GRAINED = "fineGrained"
    OAUTH = "oauth"


class Permission(StrEnum):
    """What a request needs from a token, in the words of fine-grained tokens."""

    READ_JOBS = "job.read"
    WRITE_JOBS = "job.write"
    CALL_MODELS = "inference.serverless.write"
    READ_REPOS = "repo.content.read"
    WRITE_REPOS = "repo.write"
    READ_BILLING = "user.billing.read"


_WRITE_REPO_SCOPES: Final = frozenset({"contribute-repos", "write-repos", "manage-repos"})
_SCOPES_BY_PERMISSION: Final = {
    Permission.READ_JOBS: frozenset({"jobs"}),
    Permission.WRITE_JOBS: frozenset({"jobs"}),
    Permission.CALL_MODELS: frozenset({"inference-api"}),
    Permission.READ_REPOS: _WRITE_REPO_SCOPES | {"read-repos"},
    Permission.WRITE_REPOS: _WRITE_REPO_SCOPES,
    Permission.READ_BILLING: frozenset({"read-billing"}),
}
"""For each permission the scopes of which an OAuth token needs one.

For buckets the Hub does not document them.
"""
_WRITE_PERMISSION_BY_READ: Final = {
    Permission.READ_JOBS: Permission.WRITE_JOBS,
    Permission.READ_REPOS: Permission.WRITE_REPOS,
}
"""Permission to write includes permission to read."""
_READ_PERMISSIONS: Final = frozenset({*_WRITE_PERMISSION_BY_READ, Permission.READ_BILLING})
"""What a token of the role read may be used for."""
_ALL_PERMISSIONS: Final = [
    *(Permission.WRITE_JOBS, Permission.CALL_MODELS, Permission.WRITE_REPOS),
    Permission.READ_BILLING,
]
ZERO_GPU_SECONDS: Final = 300.0
"""What a free user has; in the local Hub nearly all of it is used up."""
ZERO_GPU_SECONDS_LEFT: Final = 12.0
_ZERO_GPU_RESET: Final = timedelta(hours=2, minutes=5, seconds=11)


@dataclass(frozen=True, slots=True)
class Namespace:
    """The owner of jobs, buckets and repositories, who also pays: a user or an organisation."""

    id: str
    name: str
    type: Literal["user", "org"]

    def to_dict(self) -> dict[str, str]:
        """Describe the namespace as the Hub describes an owner."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class LocalUser:
    """One token and its user; a user with several tokens is several of these."""

    id: str
    name: str
    kind: LocalTokenKind
    token: str
    pays: bool
    orgs: list[str]
    expires_at: str | None
    permissions: list[str] | None = None
    """What a fine-grained token may be used for; None means everything."""
    scopes: list[str] | None = None
    """What an OAuth token may be used for; None means everything."""

    def has_permission(self, permission: Permission) -> bool:
        """Say whether the token grants a permission, in the namespaces that it reaches."""
        match self.kind:
            case LocalTokenKind.WRITE:
                return True
            case LocalTokenKind.READ:
                return permission in _READ_PERMISSIONS
            case LocalTokenKind.OAUTH:
                return self.scopes is None or not _SCOPES_BY_PERMISSION[permission].isdisjoint(
                    self.scopes
                )
            case LocalTokenKind.FINE_GRAINED:
                sufficient = {permission, _WRITE_PERMISSION_BY_READ.get(permission, permission)}
                return self.permissions is None or not sufficient.isdisjoint(self.permissions)

    def find_namespace(self, name: str) -> Namespace | None:
        """Return a namespace by name; None if the token does not reach it."""
        if name == self.name:
            return Namespace(self.id, name, "user")
        return Namespace(ORG_IDS[name], name, "org") if name in self.orgs else None

    def has_expired(self) -> bool:
        """Say whether the token has expired."""
        if self.expires_at is None:
            return False
        return datetime.fromisoformat(self.expires_at) <= read_clock()


def has_users(folder: Path) -> bool:
    """Say whether the Hub whose data is in `folder` has its users already."""
    return (folder / _USERS_FILE).exists()


def load_users(folder: Path) -> list[LocalUser]:
    """Return the users of the Hub whose data is in `folder`; create them on the first call."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    rows = json.loads(
        read_or_create_private_file(
            folder / _USERS_FILE, lambda: json.dumps(_create_users(), indent=2)
        )
    )
    return [LocalUser(**row | {"kind": LocalTokenKind(row["kind"])}) for row in rows]


def find_user(
    users: list[LocalUser], name: str, kind: LocalTokenKind = LocalTokenKind.WRITE
) -> LocalUser:
    """Return the first user of a name and a kind of token."""
    return next(user for user in users if (user.name, user.kind) == (name, kind))


def _create_users() -> list[dict[str, Any]]:
    alice, bob, carol = (secrets.token_hex(12) for _ in range(3))
    session_end = format_timestamp(read_clock() + _SESSION_LIFETIME)
    users = [
        _create_user(alice, "alice", LocalTokenKind.WRITE, orgs=[_ACME]),
        _create_user(alice, "alice", LocalTokenKind.READ),
        _create_user(alice, "alice", LocalTokenKind.FINE_GRAINED),
        _create_user(alice, "alice", LocalTokenKind.OAUTH, orgs=[_ACME], expires_at=session_end),
        _create_user(bob, "bob", LocalTokenKind.WRITE),
        _create_user(carol, "carol", LocalTokenKind.WRITE, pays=False),
        *(
            _create_user(alice, "alice", LocalTokenKind.FINE_GRAINED, permissions=[permission])
            for permission in Permission
        ),
    ]
    return [asdict(user) for user in users]


def _create_user(
    user_id: str,
    name: str,
    kind: LocalTokenKind,
    *,
    pays: bool = True,
    orgs: list[str] | None = None,
    expires_at: str | None = None,
    permissions: list[str] | None = None,
) -> LocalUser:
    prefix = "hf_oauth_local" if kind is LocalTokenKind.OAUTH else "hf_local"
    token = f"{prefix}_{name}_{secrets.token_urlsafe(24)}"
    return LocalUser(user_id, name, kind, token, pays, orgs or [], expires_at, permissions)


def format_timestamp(moment: datetime) -> str:
    """Format a timestamp as the Hub does: in UTC, with milliseconds."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def build_whoami(user: LocalUser) -> dict[str, Any]:
    """Describe a user as `GET /api/whoami-v2` does, which does not show an OAuth token's scopes."""
    return {
        "type": "user",
        "id": user.id,
        "name": user.name,
        "fullname": user.name.title(),
        "isPro": False,
        "avatarUrl": AVATAR_PATH,
        "orgs": [
            {
                "type": "org",
                "id": ORG_IDS[org],
                "name": org,
                "fullname": org,
                "avatarUrl": AVATAR_PATH,
                "roleInOrg": "write",
                "plan": "team",
                **_org_billing_fields(user),
            }
            for org in user.orgs
        ],
        "auth": _auth_fields(user),
        **_billing_fields(user),
        **(_email_fields(user, "emailVerified") if _has_scope(user, "email") else {}),
    }


def build_userinfo(user: LocalUser, issuer: str) -> dict[str, Any]:
    """Describe a user as the userinfo endpoint of OpenID Connect does."""
    profile = {
        "name": user.name.title(),
        "preferred_username": user.name,
        "profile": f"{issuer}/{user.name}",
        "picture": f"{issuer}{AVATAR_PATH}",
        "website": "",
        "isPro": False,
    }
    return {
        "sub": user.id,
        **(profile if _has_scope(user, "profile") else {}),
        **(_email_fields(user, "email_verified") if _has_scope(user, "email") else {}),
        **_billing_fields(user),
        "orgs": [
            {
                "sub": ORG_IDS[org],
                "name": org,
                "preferred_username": org,
                "picture": f"{issuer}{AVATAR_PATH}",
                "roleInOrg": "write",
                "plan": "team",
                **({"canPay": True} if user.has_permission(Permission.READ_BILLING) else {}),
            }
            for org in user.orgs
        ],
    }


def build_zero_gpu_quota() -> dict[str, Any]:
    """Describe a quota as `GET /api/spaces/zero-gpu/quota` does, in seconds of a GPU.

    It says what the error of the demo Space says of itself.
    """
    return {
        "base": ZERO_GPU_SECONDS,
        "current": ZERO_GPU_SECONDS_LEFT,
        "resetsAt": format_timestamp(read_clock() + _ZERO_GPU_RESET),
        "overquotaUsed": 0,
    }


def _billing_fields(user: LocalUser) -> dict[str, Any]:
    if not user.has_permission(Permission.READ_BILLING):
        return {}
    return {"canPay": user.pays, "billingMode": "prepaid"}


def _org_billing_fields(user: LocalUser) -> dict[str, Any]:
    if not user.has_permission(Permission.READ_BILLING):
        return {}
    return {"canPay": True, "spendLimitReached": False, "billingMode": "postpaid"}


def _has_scope(user: LocalUser, scope: str) -> bool:
    return user.scopes is None or scope in user.scopes


def _email_fields(user: LocalUser, verified_key: str) -> dict[str, Any]:
    return {"email": f"{user.name}@local.invalid", verified_key: True}


def _auth_fields(user: LocalUser) -> dict[str, Any]:
    if user.kind is LocalTokenKind.OAUTH:
        return {"type": "oauth", "expiresAt": user.expires_at}
    token: dict[str, Any] = {
        "displayName": "local",
        "role": user.kind,
        "createdAt": "2026-01-01T00:00:00.000Z",
    }
    if user.kind is LocalTokenKind.FINE_GRAINED:
        entity = {"_id": user.id, "type": "user", "name": user.name}
        permissions = user.permissions or _ALL_PERMISSIONS
        token["fineGrained"] = {
            "canReadGatedRepos": False,
            "global": [],
            "scoped": [{"entity": entity, "permissions": permissions}],
        }
    return {"type": "access_token", "accessToken": token}
