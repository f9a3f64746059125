"""What can be called in a Space, looked up for a caller while they wait, and cached briefly.

The lookup has a short deadline and no open transaction. The Hub says whether this caller can see
such a Space, in the same words for a private and a missing one; the Space says what it takes. A
sleeping Space is not woken for that: its call is checked when it is made.
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
    """What a Space takes, or why that is not known now."""

    interface: GradioApi | None
    reason_unknown: str = ""


class SpaceCatalog:
    """The interfaces of Spaces that were looked up lately, for each subject separately."""

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
        """Check a call against what its Space takes; return remarks for the caller.

        A call that repeats an idempotency key is not checked: it finds the job that it made before,
        whatever has happened to the Space since. With `describe`, the remarks say what can be
        called.

        Raises:
            Invalid: it does not fit, and the text says what would; or there is no such Space.
            Conflict: the Space cannot be called until its owner has repaired it.
            Unavailable: the Hub did not answer.
        """
        if idempotency_key is not None:
            async with self._database.as_subject(caller.subject_id) as (tx, _):
                if await job_queries.is_idempotency_key_used(
                    tx, caller.subject_id, idempotency_key
                ):
                    return []
        lookup = await self._cache.get_or_load(
            f"{caller.subject_id} {spec.space}".encode(), lambda: self._look_up(caller, spec.space)
        )
        if isinstance(lookup, HoldfastError):
            raise lookup.with_traceback(None)
        interface = lookup.interface
        if interface is None:
            return [lookup.reason_unknown]
        if describe:
            return [interface.description]
        try:
            interface.choose_endpoint(spec.api_name).bind_arguments(spec.arguments)
        except InvalidCall as error:
            raise Invalid(
                f"The Space {spec.space} {error} Nothing was launched. {interface.description}\n"
            ) from None
        return []

    async def _look_up(self, caller: Caller, name: str) -> CacheEntry[_SpaceLookup | HoldfastError]:
        try:
            with anyio.fail_after(_TIMEOUT_SECONDS):
                lookup = await self._fetch_interface(caller, name)
                return CacheEntry(
                    lookup, _FAILURE_LIFETIME if lookup.interface is None else _INTERFACE_LIFETIME
                )
        except (TimeoutError, SpaceUnavailable) as error:
            log.info("space.unseen", space=name, why=str(error) or "too slow")
            return CacheEntry(
                _unknown_interface(name, "does not answer for now"), _FAILURE_LIFETIME
            )
        except InvalidCall as error:
            return CacheEntry(
                Invalid(f"The Space {name} {error} Nothing was launched."), _FAILURE_LIFETIME
            )
        except SpaceBroken as error:
            return CacheEntry(
                Conflict(
                    f"The Space {name} {error} Only its owner can change that, so nothing was "
                    f"launched. Call another, or duplicate it at "
                    f"https://huggingface.co/spaces/{name}."
                ),
                _FAILURE_LIFETIME,
            )
        except (Invalid, Unavailable) as error:
            return CacheEntry(error, UNAVAILABLE_TTL)

    async def _fetch_interface(self, caller: Caller, name: str) -> _SpaceLookup:
        description = await self._hub.fetch_space(caller.token, name)
        if description is None:
            raise Invalid(
                f"There is no Space {name}, or your token may not see it. Nothing was launched."
            )
        space = parse_space(description)
        space.expect_callable()
        if space.pending_stage is not None:
            return _unknown_interface(name, space.pending_stage)
        # A public Space needs no token, so it does not learn who asks.
        token = caller.token if space.private else None
        async with open_space_session(space.build_url(self._spaces_url), token) as session:
            return _SpaceLookup(await fetch_api(session))


def _unknown_interface(name: str, reason: str) -> _SpaceLookup:
    return _SpaceLookup(
        None, f"The Space {name} {reason}, so what it takes is checked only when the call is made."
    )
