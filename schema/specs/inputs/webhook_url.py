"""URLs of webhooks: `https://` URLs on the public web, or at an origin that the operator allows.

The operator allows origins for development and for receivers in their own network. Nothing of
such an origin is looked up in public, so whoever may launch can make a worker POST to any path
there.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self

from schema.specs.inputs.public_url import PublicUrl
from schema.specs.inputs.url_scheme import lower_scheme

MAX_WEBHOOK_URL_CHARS: Final = 2000
_PRIVATE_PATTERN: Final = re.compile(
    r"(?P<origin>https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?)(?P<target>/[^\s#\\]*)?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class WebhookUrl:
    """A parsed URL."""

    origin: str
    """Scheme, host and port, in lower case."""
    host: str
    target: str
    """Its path and query, which may give access to something."""
    is_public: bool
    """Whether it has to lead to the public web; else the operator allows its origin."""

    @classmethod
    def parse(cls, url: str, allowed_origins: Collection[str] = ()) -> Self:
        """Parse a URL.

        Args:
            url: as a caller writes it.
            allowed_origins: of the operator, in lower case and without a default port.

        Raises:
            ValueError: it has another form. The text repeats nothing of the URL.
        """
        url = lower_scheme(url)
        private = _PRIVATE_PATTERN.fullmatch(url) if url.isprintable() else None
        if private is not None and private["origin"] in allowed_origins:
            origin = private["origin"]
            host = origin.partition("://")[2]
            return cls(origin, host, private["target"] or "/", is_public=False)
        try:
            public = PublicUrl.parse(url if len(url) <= MAX_WEBHOOK_URL_CHARS else "")
        except ValueError:
            message = (
                "this is not the URL of a receiver on the public web; write one such as "
                '"https://example.com/hooks/holdfast": https, the full name of the host (no IP '
                "address, no user, no port)"
            )
            raise ValueError(message) from None
        return cls(f"https://{public.host}", public.host, public.target, is_public=True)

    @property
    def text(self) -> str:
        """The whole URL."""
        return f"{self.origin}{self.target}"

    @property
    def digest(self) -> bytes:
        """SHA-256 of the URL, which finds it again and gives no access."""
        return sha256(self.text.encode()).digest()

    def __str__(self) -> str:
        # Without the rest, which may be all that its receiver checks.
        return f"{self.origin}/…"

    __repr__ = __str__
