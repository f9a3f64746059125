"""A small authorization server on a port of its own: metadata, keys that rotate, and tokens."""

import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from secrets import token_urlsafe
from threading import Event
from typing import Any
from urllib.parse import parse_qs, urlencode

import anyio.to_thread
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
from tests.service.stand_in import serving

AUDIENCE = "https://holdfast.example/mcp"
ADA = "auth0|1815"

SigningKey = RSAKey | ECKey | OKPKey


class People:
    """Whoever signs in: clients register, everybody consents, and codes are bound by PKCE."""

    def __init__(self) -> None:
        self.clients: dict[str, list[str]] = {}
        self.codes: dict[str, dict[str, str]] = {}

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

    async def answer(self, server: "AuthorizationServer", request: Request) -> Response:
        """Take one step of a sign-in."""
        if request.url.path == "/register":
            about = await request.json()
            client = f"client-{len(self.clients)}"
            self.clients[client] = about["redirect_uris"]
            return JSONResponse({**about, "client_id": client}, 201)
        if request.url.path == "/authorize":
            asked = dict(request.query_params)
            assert asked["code_challenge_method"] == "S256"
            assert asked["redirect_uri"] in self.clients[asked["client_id"]]
            code = token_urlsafe()
            self.codes[code] = asked
            back = urlencode({"code": code, "state": asked["state"]})
            return RedirectResponse(f"{asked['redirect_uri']}?{back}", 303)
        form = {name: given[0] for name, given in parse_qs((await request.body()).decode()).items()}
        claims: dict[str, Any] = {"aud": form["resource"], "client_id": form["client_id"]}
        if form["grant_type"] == "authorization_code":
            asked = self.codes.pop(form["code"])
            proof = _encoded(sha256(form["code_verifier"].encode()).digest())
            assert asked["code_challenge"] == proof
            claims |= {"aud": asked["resource"], "scope": asked["scope"]}
        token = server.issue(**claims)
        return JSONResponse({"access_token": token.reveal(), "token_type": "Bearer"})


@dataclass
class AuthorizationServer:
    """Issues, publishes, and remembers what it was asked."""

    keys: list[SigningKey]
    """What is published; the first signs."""
    url: str = ""
    path: str = ""
    """Of the issuer: several live at one host."""
    known_as: tuple[str, ...] = ("/.well-known/oauth-authorization-server",)
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    """What is said otherwise than it should be."""
    keys_at: str = "/jwks"
    published: bytes | None = None
    """A set of keys to publish instead."""
    failing: Response | None = None
    people: People = field(default_factory=People)
    asked: list[str] = field(default_factory=list[str])
    answering: Event = field(default_factory=Event)
    """Cleared, it lets those who ask for keys wait."""

    @property
    def issuer(self) -> str:
        """Its name."""
        return self.url + self.path

    @property
    def fetches(self) -> int:
        """How often its keys were asked for."""
        return self.asked.count("/jwks")

    def claims(self, **overrides: Any) -> dict[str, Any]:
        """Say of Ada what an access token says; None leaves a claim out."""
        now = int(time.time())
        usual = {
            "iss": self.issuer,
            "sub": ADA,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + 300,
            "client_id": "claude",
            "scope": "jobs openid",
        }
        return {name: claim for name, claim in (usual | overrides).items() if claim is not None}

    def payload(self, **overrides: Any) -> bytes:
        """Write these claims down."""
        return json.dumps(self.claims(**overrides)).encode()

    def issue(
        self, *, key: SigningKey | None = None, alg: str | None = None, **overrides: Any
    ) -> Secret:
        """Sign a token in good faith."""
        key = key or self.keys[0]
        alg = alg or _ALGORITHMS[key.key_type]
        header = {"typ": "at+jwt", "alg": alg, "kid": key.kid}
        return Secret(jwt.encode(header, self.claims(**overrides), key, algorithms=[alg]))

    async def answer(self, request: Request) -> Response:
        """Answer whatever it is."""
        path = request.url.path
        self.asked.append(path)
        if path in {"/register", "/authorize", "/token"}:
            return await self.people.answer(self, request)
        await anyio.to_thread.run_sync(self.answering.wait, 10)
        if self.failing is not None:
            return self.failing
        if path in self.known_as:
            honest = {"issuer": self.issuer, "jwks_uri": self.url + self.keys_at}
            return JSONResponse(honest | self.people.metadata(self.url) | self.metadata)
        if path == self.keys_at:
            return Response(self.published or self._key_set())
        return Response(status_code=404)

    def _key_set(self) -> str:
        return json.dumps(KeySet([*self.keys]).as_dict(private=False))


_ALGORITHMS = {"RSA": "RS256", "EC": "ES256"}


class Host:
    """A port at which one authorization server answers after another."""

    def __init__(self) -> None:
        self.url = ""
        self._server: AuthorizationServer | None = None

    @contextmanager
    def of(self, *keys: SigningKey) -> Generator[AuthorizationServer]:
        """Let a new one answer."""
        self._server = server = AuthorizationServer(list(keys), self.url)
        server.answering.set()
        try:
            yield server
        finally:
            server.answering.set()

    async def answer(self, request: Request) -> Response:
        """Pass a question on."""
        assert self._server is not None
        return await self._server.answer(request)


@contextmanager
def hosting() -> Generator[Host]:
    """Run a host; to start and stop a server for each test takes longer than the test."""
    host = Host()
    everything = Route("/{path:path}", host.answer, methods=["GET", "POST"])
    with serving(Starlette(routes=[everything])) as host.url:
        yield host


def forged(header: dict[str, Any], payload: bytes, signature: bytes = b"") -> Secret:
    """Put a token together that no library would write."""
    return Secret(f"{unsigned(header, payload)}.{_encoded(signature)}")


def signed(header: dict[str, Any], payload: bytes, key: RSAKey | OKPKey) -> Secret:
    """Sign whatever it is, with RS256 or EdDSA."""
    bound = unsigned(header, payload).encode()
    if isinstance(key.private_key, RSAPrivateKey):
        return forged(header, payload, key.private_key.sign(bound, PKCS1v15(), SHA256()))
    assert isinstance(key.private_key, Ed25519PrivateKey)
    return forged(header, payload, key.private_key.sign(bound))


def unsigned(header: dict[str, Any], payload: bytes) -> str:
    """Write what a signature is made over."""
    return f"{_encoded(json.dumps(header).encode())}.{_encoded(payload)}"


def _encoded(part: bytes) -> str:
    return urlsafe_b64encode(part).rstrip(b"=").decode()
