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

from schema.common.async_cache import UNAVAILABLE_TTL, AsyncCache, CacheEntry
from schema.common.errors import Conflict, HoldfastError, Invalid, Unavailable
from schema.hub.gradio_api import GradioApi, InvalidCall
from schema.hub.gradio_client import (
    SpaceBroken,
    SpaceUnavailable,
    fetch_api,
    open_space_session,
    parse_space,
)
from schema.jobs import queries as job_queries
from schema.specs.space import SpaceCallSpec
from service.auth.caller import Caller
from service.auth.hub_client import HubAccountClient
from service.database import TenantDatabase

_TIMEOUT_SECONDS: Final = 5.0
"""Seconds for the Hub and the Space together."""
_INTERFACE_LIFETIME: Final = timedelta(seconds=60)
_FAILURE_LIFETIME: Final = timedelta(seconds=2)
_MAX_CACHED_SPACES: Final = 1000

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class _SpaceLookup:
    """What a Space takes; or why nobody can tell for now."""

    interface: GradioApi | None
    reason_unknown: str = ""


class SpaceCatalog:
    """Knows what was seen of Spaces lately, by each subject for themselves."""

    def __init__(self, hub: HubAccountClient, database: TenantDatabase, spaces_url: str) -> None:
        self._hub = hub
        self._database = database
        self._spaces_url = spaces_url
        self._cache: AsyncCache[_SpaceLookup | HoldfastError] = AsyncCache(
            max_entries=_MAX_CACHED_SPACES
        )

    async def check_call(
        self, caller: Caller, spec: SpaceCallSpec, *, idempotency_key: str | None, describe: bool
    ) -> list[str]:
        """Check a call against what its Space takes, and say what there is to know about it.

        A call that repeats one under its idempotency key is not looked at: it finds the job it
        made, whatever has become of the Space. To `describe` is to say what could be called.

        Raises:
            Invalid: it does not fit, and the text says what would; or there is no such Space.
            Conflict: the Space cannot be called until its owner has done something.
            Unavailable: the Hub does not say.
        """
        if idempotency_key is not None:
            async with self._database.as_subject(caller.subject_id) as (tx, _):
                if await job_queries.is_idempotency_key_used(
                    tx, caller.subject_id, idempotency_key
                ):
                    return []
        seen = await self._cache.get_or_load(
            f"{caller.subject_id} {spec.space}".encode(), lambda: self._look_up(caller, spec.space)
        )
        if isinstance(seen, HoldfastError):
            raise seen.with_traceback(None)
        if seen.interface is None:
            return [seen.reason_unknown]
        if describe:
            return [seen.interface.description]
        try:
            seen.interface.choose_endpoint(spec.api_name).bind_arguments(spec.arguments)
        except InvalidCall as no:
            raise Invalid(
                f"The Space {spec.space} {no} Nothing was launched. {seen.interface.description}\n"
            ) from None
        return []

    async def _look_up(self, caller: Caller, name: str) -> CacheEntry[_SpaceLookup | HoldfastError]:
        try:
            with anyio.fail_after(_TIMEOUT_SECONDS):
                seen = await self._fetch_interface(caller, name)
                return CacheEntry(
                    seen, _FAILURE_LIFETIME if seen.interface is None else _INTERFACE_LIFETIME
                )
        except (TimeoutError, SpaceUnavailable) as shut:
            log.info("space.unseen", space=name, why=str(shut) or "too slow")
            return CacheEntry(
                _unknown_interface(name, "does not answer for now"), _FAILURE_LIFETIME
            )
        except InvalidCall as no:
            return CacheEntry(
                Invalid(f"The Space {name} {no} Nothing was launched."), _FAILURE_LIFETIME
            )
        except SpaceBroken as broken:
            return CacheEntry(
                Conflict(
                    f"The Space {name} {broken} Only its owner can change that, so nothing was "
                    f"launched. Call another, or duplicate it at "
                    f"https://huggingface.co/spaces/{name}."
                ),
                _FAILURE_LIFETIME,
            )
        except (Invalid, Unavailable) as unknown:
            return CacheEntry(unknown, UNAVAILABLE_TTL)

    async def _fetch_interface(self, caller: Caller, name: str) -> _SpaceLookup:
        answer = await self._hub.fetch_space(caller.token, name)
        if answer is None:
            raise Invalid(
                f"There is no Space {name}, or your token may not see it. Nothing was launched."
            )
        space = parse_space(answer)
        space.expect_callable()
        if space.pending_stage is not None:
            return _unknown_interface(name, space.pending_stage)
        # Who may see a Space that is not private is nobody's business, so nobody is named there.
        token = caller.token if space.private else None
        async with open_space_session(space.build_url(self._spaces_url), token) as session:
            return _SpaceLookup(await fetch_api(session))


def _unknown_interface(name: str, reason: str) -> _SpaceLookup:
    return _SpaceLookup(
        None, f"The Space {name} {reason}, so what it takes is checked only when the call is made."
    )
