"""Sealed models: what a flow in a browser carries with it, as sealed tokens."""

import time
from datetime import timedelta
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from service.runtime.sealed_tokens import SealedTokens

Sealed = TypeVar("Sealed", bound=BaseModel)


def seal_model(tokens: SealedTokens, content: BaseModel, lifetime: timedelta) -> str:
    """Seal a model for a while; nobody else can read, change or make the token."""
    # The name of the class keeps two kinds under the same keys apart. What has no default is sealed
    # also where it is None: without it, nothing could be read back.
    payload = f"{type(content).__name__}\n{content.model_dump_json(exclude_defaults=True)}"
    return tokens.seal(payload.encode(), expires_at=time.time() + lifetime.total_seconds())


def unseal_model(tokens: SealedTokens, sealed: str, kind: type[Sealed]) -> Sealed | None:
    """Return the model in a token; None if the token is forged, too old, or of another kind."""
    payload = tokens.unseal(sealed, now=time.time())
    name, _, content = (payload or b"").partition(b"\n")
    if name.decode(errors="replace") != kind.__name__:
        return None
    try:
        return kind.model_validate_json(content)
    except ValidationError:
        return None  # of a release that sealed it in another form
