"""The cookie that ties the pages of a flow to one browser.

What a page carries is sealed with the digest of the cookie in it. So only the browser that began a
flow can go on with it: another one has another cookie, or none, and a page of another origin can
post a form, but neither read nor set the cookie.
"""

import hmac
import secrets
from datetime import timedelta
from hashlib import sha256

from starlette.requests import Request
from starlette.responses import Response


class BrowserCookie:
    """A random value that one browser holds while its person goes through a flow."""

    def __init__(self, name: str, *, is_https: bool, lifetime: timedelta) -> None:
        """Name the cookie.

        Args:
            is_https: whether browsers reach the service by HTTPS.
            lifetime: how long the flow may take.
        """
        # The prefix keeps other hosts of the same domain from setting it (RFC 6265bis).
        self.name = f"__Host-{name}" if is_https else name
        self._is_https = is_https
        self._lifetime = lifetime

    def read(self, request: Request) -> str:
        """Return the value that the browser sent; empty if it has none."""
        return request.cookies.get(self.name, "")

    def read_or_make(self, request: Request) -> str:
        """Return the value that the browser sent, or another one to set."""
        return self.read(request) or secrets.token_urlsafe(32)

    def is_from(self, request: Request, digest: str) -> bool:
        """Say whether a request comes from the browser with the cookie of this digest."""
        value = self.read(request)
        return bool(value) and hmac.compare_digest(digest, digest_cookie(value))

    def set(self, response: Response, value: str) -> None:
        """Give the browser its value."""
        response.set_cookie(
            self.name,
            value,
            max_age=int(self._lifetime.total_seconds()),
            secure=self._is_https,
            httponly=True,
            samesite="lax",
        )

    def clear(self, response: Response) -> None:
        """End the flow: what was sealed for this browser is worth nothing any more."""
        response.delete_cookie(self.name, secure=self._is_https, httponly=True, samesite="lax")


def digest_cookie(value: str) -> str:
    """Return the digest of a cookie, which may be sealed into what is given away."""
    return sha256(value.encode()).hexdigest()
