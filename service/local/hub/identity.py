"""What does the local Hub tell about whoever shows a token? As much as the token may know."""

from typing import Any, Final

from service.local.hub.users import ORG_IDS, LocalUser, Permission, TokenKind

_AVATAR: Final = "/avatars/local.svg"
_EVERYTHING: Final = [Permission.WRITE_JOBS, Permission.CALL_MODELS, Permission.WRITE_REPOS]


def whoami(user: LocalUser) -> dict[str, Any]:
    """Describe a user as `GET /api/whoami-v2` does; an OAuth token's scopes are nowhere in it."""
    return {
        "type": "user",
        "id": user.id,
        "name": user.name,
        "fullname": user.name.title(),
        "isPro": False,
        "avatarUrl": _AVATAR,
        "orgs": [
            {"type": "org", "id": ORG_IDS[org], "name": org, "fullname": org, "roleInOrg": "write"}
            for org in user.orgs
        ],
        "auth": _auth(user),
        **({"canPay": user.pays} if _knows(user, "read-billing") else {}),
        **(_email(user, "emailVerified") if _knows(user, "email") else {}),
    }


def userinfo(user: LocalUser, issuer: str) -> dict[str, Any]:
    """Describe a user as OpenID Connect does."""
    profile = {
        "name": user.name.title(),
        "preferred_username": user.name,
        "profile": f"{issuer}/{user.name}",
        "picture": f"{issuer}{_AVATAR}",
        "website": "",
        "isPro": False,
    }
    return {
        "sub": user.id,
        **(profile if _knows(user, "profile") else {}),
        **(_email(user, "email_verified") if _knows(user, "email") else {}),
        **({"canPay": user.pays} if _knows(user, "read-billing") else {}),
        "orgs": [
            {
                "sub": ORG_IDS[org],
                "name": org,
                "preferred_username": org,
                "picture": f"{issuer}{_AVATAR}",
                "roleInOrg": "write",
            }
            for org in user.orgs
        ],
    }


def _knows(user: LocalUser, scope: str) -> bool:
    return user.scopes is None or scope in user.scopes


def _email(user: LocalUser, verified: str) -> dict[str, Any]:
    return {"email": f"{user.name}@local.invalid", verified: True}


def _auth(user: LocalUser) -> dict[str, Any]:
    if user.kind is TokenKind.OAUTH:
        return {"type": "oauth", "expiresAt": user.expires_at}
    token: dict[str, Any] = {
        "displayName": "local",
        "role": user.kind,
        "createdAt": "2026-01-01T00:00:00.000Z",
    }
    if user.kind is TokenKind.FINE_GRAINED:
        entity = {"_id": user.id, "type": "user", "name": user.name}
        permissions = user.permissions or _EVERYTHING
        token["fineGrained"] = {
            "canReadGatedRepos": False,
            "global": [],
            "scoped": [{"entity": entity, "permissions": permissions}],
        }
    return {"type": "access_token", "accessToken": token}
