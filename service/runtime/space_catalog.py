"""What can be called in a Space, as far as whoever asks may know? Looked up while they wait.

Briefly, and with no transaction open. The Hub says whether there is such a Space for this caller,
in the same words whether it is private or not there; the Space says what it takes. One that is
asleep is not woken for that: what it takes is checked when the call is made.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import anyio
import structlog

from schema.common.async_cache import UNKNOWN, Cache, Kept
from schema.common.errors import Conflict, HoldfastError, Invalid, Unavailable
from schema.gradio.api import Interface, Mismatch
from schema.gradio.client import Broken, Shut, door, interface, read_space
from schema.jobs import queries as job_queries
from schema.specs.space import SpaceCallSpec
from service.auth.caller import Caller
from service.auth.hub_client import HuggingFace
from service.database import Ground

_WITHIN: Final = 5.0
"""Seconds for the Hub and the Space together."""
_FRESH: Final = timedelta(seconds=60)
_STALE: Final = timedelta(seconds=2)
_REMEMBERED: Final = 1000

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a Space takes; or why nobody can tell for now."""

    app: Interface | None
    unseen: str = ""


class Spaces:
    """Knows what was seen of Spaces lately, by each subject for themselves."""

    def __init__(self, hub: HuggingFace, ground: Ground, spaces_url: str) -> None:
        self._hub = hub
        self._ground = ground
        self._spaces_url = spaces_url
        self._cache: Cache[_Seen | HoldfastError] = Cache(size=_REMEMBERED)

    async def expect_callable(
        self, caller: Caller, spec: SpaceCallSpec, *, key: str | None, describe: bool
    ) -> list[str]:
        """Check a call against what its Space takes, and say what there is to know about it.

        A call that repeats one under its idempotency key is not looked at: it finds the job it
        made, whatever has become of the Space. To `describe` is to say what could be called.

        Raises:
            Invalid: it does not fit, and the text says what would; or there is no such Space.
            Conflict: the Space cannot be called until its owner has done something.
            Unavailable: the Hub does not say.
        """
        if key is not None:
            async with self._ground.acting_for(caller.subject_id) as (tx, _):
                if await job_queries.is_held(tx, caller.subject_id, key):
                    return []
        seen = await self._cache.get(
            f"{caller.subject_id} {spec.space}".encode(), lambda: self._look(caller, spec.space)
        )
        if isinstance(seen, HoldfastError):
            raise seen.with_traceback(None)
        if seen.app is None:
            return [seen.unseen]
        if describe:
            return [seen.app.said]
        try:
            seen.app.endpoint(spec.api_name).bind(spec.arguments)
        except Mismatch as no:
            raise Invalid(
                f"The Space {spec.space} {no} Nothing was launched. {seen.app.said}\n"
            ) from None
        return []

    async def _look(self, caller: Caller, name: str) -> Kept[_Seen | HoldfastError]:
        try:
            with anyio.fail_after(_WITHIN):
                seen = await self._see(caller, name)
                return Kept(seen, _STALE if seen.app is None else _FRESH)
        except (TimeoutError, Shut) as shut:
            log.info("space.unseen", space=name, why=str(shut) or "too slow")
            return Kept(_unseen(name, "does not answer for now"), _STALE)
        except Mismatch as no:
            return Kept(Invalid(f"The Space {name} {no} Nothing was launched."), _STALE)
        except Broken as broken:
            return Kept(
                Conflict(
                    f"The Space {name} {broken} Only its owner can change that, so nothing was "
                    f"launched. Call another, or duplicate it at "
                    f"https://huggingface.co/spaces/{name}."
                ),
                _STALE,
            )
        except (Invalid, Unavailable) as unknown:
            return Kept(unknown, UNKNOWN)

    async def _see(self, caller: Caller, name: str) -> _Seen:
        answer = await self._hub.space(caller.token, name)
        if answer is None:
            raise Invalid(
                f"There is no Space {name}, or your token may not see it. Nothing was launched."
            )
        space = read_space(answer)
        space.expect_alive()
        if space.coming is not None:
            return _unseen(name, space.coming)
        # Who may see a Space that is not private is nobody's business, so nobody is named there.
        token = caller.token if space.private else None
        async with door(space.url(self._spaces_url), token) as session:
            return _Seen(await interface(session))


def _unseen(name: str, why: str) -> _Seen:
    return _Seen(
        None, f"The Space {name} {why}, so what it takes is checked only when the call is made."
    )
