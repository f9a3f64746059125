"""A small authorization server on a port of its own: metadata, keys that rotate, and tokens."""

import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from secrets import token_urlsafe
from threading import Event
from typing import Any
from urllib.parse import parse_qs, urlencode

import anyio.to_thread
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from schema.accounts.vault import Secret
from schema.common.errors import Unauthenticated
from service.auth.jwt_verifier import JwtVerifier
from tests.support.http_server import serve_app

AUDIENCE = "https://holdfast.example/mcp"
ADA_SUB = "auth0|1815"
LEEWAY = timedelta(seconds=30)

SigningKey = RSAKey | ECKey | OKPKey


class SignInEndpoints:
    """Whoever signs in: clients register, everybody consents, and codes are bound by PKCE."""

    def __init__(self) -> None:
        self.clients: dict[str, list[str]] = {}
        self.codes: dict[str, dict[str, str]] = {}
        self.claims: dict[str, Any] = {}
        """Of who signs in, besides the usual ones or instead."""

    def metadata(self, url: str) -> dict[str, Any]:
        """Say where all that is."""
        return {
            "authorization_endpoint": f"{url}/authorize",
            "token_endpoint": f"{url}/token",
            "registration_endpoint": f"{url}/register",
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
        }

    async def respond(self, server: "AuthorizationServer", request: Request) -> Response:
        """Take one step of a sign-in."""
        if request.url.path == "/register":
            about = await request.json()
            client = f"client-{len(self.clients)}"
            self.clients[client] = about["redirect_uris"]
            return JSONResponse({**about, "client_id": client}, 201)
        if request.url.path == "/authorize":
            parameters = dict(request.query_params)
            assert parameters["code_challenge_method"] == "S256"
            assert parameters["redirect_uri"] in self.clients[parameters["client_id"]]
            code = token_urlsafe()
            self.codes[code] = parameters
            back = urlencode({"code": code, "state": parameters["state"]})
            return RedirectResponse(f"{parameters['redirect_uri']}?{back}", 303)
        form = {
            name: values[0] for name, values in parse_qs((await request.body()).decode()).items()
        }
        claims: dict[str, Any] = {"aud": form["resource"], "client_id": form["client_id"]}
        if form["grant_type"] == "authorization_code":
            parameters = self.codes.pop(form["code"])
            proof = _base64url(sha256(form["code_verifier"].encode()).digest())
            assert parameters["code_challenge"] == proof
            claims |= {"aud": parameters["resource"], "scope": parameters["scope"]}
        token = server.issue_token(**claims | self.claims)
        return JSONResponse({"access_token": token.reveal(), "token_type": "Bearer"})


@dataclass
class AuthorizationServer:
    """Issues, publishes, and remembers what it was asked."""

    keys: list[SigningKey]
    """What is published; the first signs."""
    url: str = ""
    issuer_path: str = ""
    """Of the issuer: several live at one host."""
    metadata_paths: tuple[str, ...] = ("/.well-known/oauth-authorization-server",)
    metadata_overrides: dict[str, Any] = field(default_factory=dict[str, Any])
    """What is said otherwise than it should be."""
    jwks_path: str = "/jwks"
    published_jwks: bytes | None = None
    """A set of keys to publish instead."""
    failure_response: Response | None = None
    sign_in_endpoints: SignInEndpoints = field(default_factory=SignInEndpoints)
    requested_paths: list[str] = field(default_factory=list[str])
    jwks_gate: Event = field(default_factory=Event)
    """Cleared, it lets those who ask for keys wait."""

    @property
    def issuer(self) -> str:
        """Its name."""
        return self.url + self.issuer_path

    @property
    def jwks_fetch_count(self) -> int:
        """How often its keys were asked for."""
        return self.requested_paths.count("/jwks")

    def make_claims(self, **overrides: Any) -> dict[str, Any]:
        """Say of Ada what an access token says; None leaves a claim out."""
        now = int(time.time())
        usual = {
            "iss": self.issuer,
            "sub": ADA_SUB,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + 300,
            "client_id": "claude",
            "scope": "jobs openid",
        }
        return {name: claim for name, claim in (usual | overrides).items() if claim is not None}

    def make_payload(self, **overrides: Any) -> bytes:
        """Write these claims down."""
        return json.dumps(self.make_claims(**overrides)).encode()

    def issue_token(
        self, *, key: SigningKey | None = None, alg: str | None = None, **overrides: Any
    ) -> Secret:
        """Sign a token in good faith."""
        key = key or self.keys[0]
        alg = alg or _ALGORITHMS[key.key_type]
        header = {"typ": "at+jwt", "alg": alg, "kid": key.kid}
        return Secret(jwt.encode(header, self.make_claims(**overrides), key, algorithms=[alg]))

    async def respond(self, request: Request) -> Response:
        """Answer whatever it is."""
        path = request.url.path
        self.requested_paths.append(path)
        if path in {"/register", "/authorize", "/token"}:
            return await self.sign_in_endpoints.respond(self, request)
        await anyio.to_thread.run_sync(self.jwks_gate.wait, 10)
        if self.failure_response is not None:
            return self.failure_response
        if path in self.metadata_paths:
            honest = {"issuer": self.issuer, "jwks_uri": self.url + self.jwks_path}
            return JSONResponse(
                honest | self.sign_in_endpoints.metadata(self.url) | self.metadata_overrides
            )
        if path == self.jwks_path:
            return Response(self.published_jwks or self._key_set())
        return Response(status_code=404)

    def _key_set(self) -> str:
        return json.dumps(KeySet([*self.keys]).as_dict(private=False))


_ALGORITHMS = {"RSA": "RS256", "EC": "ES256"}


class AuthorizationServerHost:
    """A port at which one authorization server answers after another."""

    def __init__(self) -> None:
        self.url = ""
        self._server: AuthorizationServer | None = None

    @contextmanager
    def serve_new(self, *keys: SigningKey) -> Generator[AuthorizationServer]:
        """Let a new one answer."""
        self._server = server = AuthorizationServer(list(keys), self.url)
        server.jwks_gate.set()
        try:
            yield server
        finally:
            server.jwks_gate.set()

    async def respond(self, request: Request) -> Response:
        """Pass a question on."""
        assert self._server is not None
        return await self._server.respond(request)


@contextmanager
def run_host() -> Generator[AuthorizationServerHost]:
    """Run a host; to start and stop a server for each test takes longer than the test."""
    host = AuthorizationServerHost()
    everything = Route("/{path:path}", host.respond, methods=["GET", "POST"])
    with serve_app(Starlette(routes=[everything])) as host.url:
        yield host


def forge_token(header: dict[str, Any], payload: bytes, signature: bytes = b"") -> Secret:
    """Put a token together that no library would write."""
    return Secret(f"{signing_input(header, payload)}.{_base64url(signature)}")


def sign_token(header: dict[str, Any], payload: bytes, key: RSAKey | OKPKey) -> Secret:
    """Sign whatever it is, with RS256 or EdDSA."""
    bound = signing_input(header, payload).encode()
    if isinstance(key.private_key, RSAPrivateKey):
        return forge_token(header, payload, key.private_key.sign(bound, PKCS1v15(), SHA256()))
    assert isinstance(key.private_key, Ed25519PrivateKey)
    return forge_token(header, payload, key.private_key.sign(bound))


def signing_input(header: dict[str, Any], payload: bytes) -> str:
    """Write what a signature is made over."""
    return f"{_base64url(json.dumps(header).encode())}.{_base64url(payload)}"


async def assert_refused(authority: JwtVerifier, token: Secret) -> Unauthenticated:
    """Return why a token is refused, which never repeats it."""
    with pytest.raises(Unauthenticated) as refusal:
        await authority.verify(token)
    assert not any(part in str(refusal.value) for part in token.reveal().split(".") if part[3:])
    return refusal.value


class ManualClock:
    """A clock that stands still until the test moves it."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def advance(self, duration: timedelta) -> None:
        """Let time pass."""
        self.seconds += duration.total_seconds()


def _base64url(part: bytes) -> str:
    return urlsafe_b64encode(part).rstrip(b"=").decode()
